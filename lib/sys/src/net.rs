//! The one network device that PID 1 brings up by itself.

use std::io;

use rustix::net::{AddressFamily, SocketType, socket};

use crate::ioctl;

const SIOCSIFFLAGS: u64 = 0x8914;

#[repr(C)]
struct IfReqFlags {
    name: [u8; 16],
    flags: i16,
    padding: [u8; 22],
}

/// Brings up `lo`; the kernel gives it 127.0.0.1 and ::1.
pub fn loopback_up() -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut request = IfReqFlags { name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0", flags: 0x1, padding: [0; 22] };
    const { assert!(size_of::<IfReqFlags>() == size_of::<libc::ifreq>()) };
    // SAFETY: laid out as struct ifreq with ifr_flags; 0x1 is IFF_UP.
    unsafe { ioctl::with(&socket, SIOCSIFFLAGS, &mut request) }?;
    Ok(())
}
