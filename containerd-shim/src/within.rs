//! Files of a container's root, found as the container itself would find them: no link in an image leads out.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// How often is tried what a mount or a rename somewhere on the node has come between. Each takes a moment, and a node that
/// starts its services makes a few hundred.
const ATTEMPTS: usize = 10_000;

/// Opens `path` below `root`. The kernel gives up with `EAGAIN` when it cannot tell whether a `..` has led out, because
/// something was mounted or renamed in the meantime (openat2(2)): then it is asked again.
pub(crate) fn open(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let attempt = || openat2(&root, path.as_ref(), flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let settled = (0..ATTEMPTS).map(|_| attempt()).find(|opened| !matches!(opened, Err(Errno::AGAIN)));
    settled.unwrap_or(Err(Errno::AGAIN))
}
