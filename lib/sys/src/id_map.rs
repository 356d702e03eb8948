//! Mounts that show other owners than the files have (mount_setattr(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Lets the detached mount `tree` (of open_tree(2)) show files with the owners that the user namespace makes of theirs.
pub fn set(tree: impl AsFd, user_namespace: impl AsFd) -> io::Result<()> {
    let namespace = user_namespace.as_fd().as_raw_fd();
    let user_namespace = u64::try_from(namespace).map_err(io::Error::other)?;
    let attr = MountAttr { set: MOUNT_ATTR_IDMAP, clear: 0, propagation: 0, user_namespace };
    let (tree, size) = (tree.as_fd().as_raw_fd(), size_of::<MountAttr>());
    // SAFETY: the path is an empty C string, and the struct is laid out as struct mount_attr and `size` bytes long.
    let result = unsafe {
        let attr = std::ptr::from_ref(&attr);
        libc::syscall(libc::SYS_mount_setattr, tree, c"".as_ptr(), libc::AT_EMPTY_PATH, attr, size)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
