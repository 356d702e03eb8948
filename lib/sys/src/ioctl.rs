//! The one door to ioctl(2) for requests that rustix does not know.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Calls ioctl with a pointer to `argument`, which the kernel may read and write.
///
/// # Safety
/// `request` must be one whose argument is a `T` as the kernel lays it out, and whatever pointers `T` holds must be
/// valid for what the request does with them.
pub(crate) unsafe fn with<T>(fd: impl AsFd, request: u64, argument: &mut T) -> io::Result<i32> {
    // SAFETY: the argument is valid for reads and writes during the call; the rest is the caller's promise.
    checked(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, std::ptr::from_mut(argument)) })
}

/// Calls ioctl with a number (or nothing, which is 0) for its argument.
///
/// # Safety
/// `request` must be one that takes no pointer.
pub(crate) unsafe fn plain(fd: impl AsFd, request: u64, argument: u64) -> io::Result<i32> {
    // SAFETY: no memory is involved, by the caller's promise.
    checked(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, argument) })
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
