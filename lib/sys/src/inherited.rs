//! Descriptors that the program before this one left open across exec.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// A descriptor for what descriptor `number` of this process refers to. The old one stays, closed at the next exec.
pub fn descriptor(number: i32) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is borrowed for these two calls only, which give EBADF when nothing is open there.
    let old = unsafe { BorrowedFd::borrow_raw(number) };
    let new = fcntl_dupfd_cloexec(old, 3)?;
    fcntl_setfd(old, FdFlags::CLOEXEC)?;
    Ok(new)
}
