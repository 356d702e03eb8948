//! Watchdog devices (linux/watchdog.h). Petting is a write and needs nothing from here.

use std::fs::File;
use std::io;

use crate::ioctl;

const WDIOC_SETTIMEOUT: u64 = 0xc004_5706;

/// Asks for a time-out of so many seconds; gives the one that the device took.
pub fn set_timeout(device: &File, seconds: i32) -> io::Result<i32> {
    let mut taken = seconds;
    // SAFETY: WDIOC_SETTIMEOUT reads and writes one int.
    unsafe { ioctl::with(device, WDIOC_SETTIMEOUT, &mut taken) }?;
    Ok(taken)
}
