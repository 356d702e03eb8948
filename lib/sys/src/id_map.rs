//! User namespaces, and mounts that show other owners than the files have (user_namespaces(7), mount_setattr(2)).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Lets the detached mount `tree` (of open_tree(2)), with those below it, show files with the owners that the user namespace
/// makes of theirs: all of them or, when a file system cannot, none.
pub fn set(tree: impl AsFd, user_namespace: impl AsFd) -> io::Result<()> {
    let namespace = user_namespace.as_fd().as_raw_fd();
    let user_namespace = u64::try_from(namespace).map_err(io::Error::other)?;
    let attr = MountAttr { set: MOUNT_ATTR_IDMAP, clear: 0, propagation: 0, user_namespace };
    let (tree, size) = (tree.as_fd().as_raw_fd(), size_of::<MountAttr>());
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty C string, and the struct is laid out as struct mount_attr and `size` bytes long.
    let result = unsafe {
        let attr = std::ptr::from_ref(&attr);
        libc::syscall(libc::SYS_mount_setattr, tree, c"".as_ptr(), flags, attr, size)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A user namespace whose ids from 0 are the `count` ids from `first` of this one, for users as for groups. The caller must
/// have one thread, as for any fork that does not execute a program.
pub fn user_namespace(first: u32, count: u32) -> io::Result<OwnedFd> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: without a stack and places for ids this is fork(2), and the child does nothing but wait.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if child == 0 {
        loop {
            // SAFETY: it has no argument, and the process ends by a signal.
            unsafe { libc::pause() };
        }
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    let mapped = map(child, first, count);
    let child = libc::pid_t::try_from(child).map_err(io::Error::other)?;
    // SAFETY: the child has not been waited for, so the id is its own; there is no status to write.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    mapped
}

fn map(child: i64, first: u32, count: u32) -> io::Result<OwnedFd> {
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{child}/{file}"), format!("0 {first} {count}"))?;
    }
    Ok(File::open(format!("/proc/{child}/ns/user"))?.into())
}
