//! Sockets that carry whole Ethernet frames on one link: what DHCP needs before the link has an address.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A socket for the IPv4 frames of the link with this index (packet(7)): a write is a frame sent, a read one received.
pub fn open(link: u32) -> io::Result<OwnedFd> {
    let protocol = u16::to_be(0x0800);
    // SAFETY: no pointers are passed. Protocol 0 receives nothing until it is bound to a link.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made above and is owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let index = i32::try_from(link).map_err(|_| io::ErrorKind::InvalidInput)?;
    let family = u16::try_from(libc::AF_PACKET).map_err(|_| io::ErrorKind::InvalidInput)?;
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: protocol,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `address` is a sockaddr_ll of the length that is given, and is only read.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_not_there_is_an_error() {
        let error = open(u32::try_from(i32::MAX).unwrap()).unwrap_err();
        // Without the right to open such sockets it is EPERM.
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{error}");
    }
}
