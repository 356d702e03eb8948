//! Swapping to files and devices (swapon(2)).

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Lets the kernel swap to a file or device that has a swap header.
pub fn on(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a zero and outlives the call.
    checked(unsafe { libc::swapon(path.as_ptr(), 0) })
}

/// Brings everything that was swapped there back into memory, and leaves the file alone from then on.
pub fn off(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a zero and outlives the call.
    checked(unsafe { libc::swapoff(path.as_ptr()) })
}

fn checked(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
