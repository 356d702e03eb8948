//! Sockets that carry whole Ethernet frames on one link: what DHCP needs before the link has an address.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A socket on the link with this index (packet(7)): a write is a frame sent, a read one received. It hears IPv4 frames
/// with UDP datagrams for one port, whole ones, and never waits.
pub fn open(link: u32, port: u16) -> io::Result<OwnedFd> {
    let protocol = u16::to_be(0x0800);
    // SAFETY: no pointers are passed. Protocol 0 receives nothing until it is bound to a link.
    let socket = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made above and is owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    attach(&socket, &udp_to(port))?;
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

/// A program for the kernel's packet filter (`Documentation/networking/filter.rst`) that takes UDP over IPv4 for `port`.
fn udp_to(port: u16) -> [libc::sock_filter; 9] {
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let load_byte = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    let load_half = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let any_bit = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    [
        // The protocol in the IPv4 header behind 14 bytes of Ethernet.
        op(load_byte, 14 + 9, 0, 0),
        op(equal, 17, 0, 6),
        // The place of a fragment.
        op(load_half, 14 + 6, 0, 0),
        op(any_bit, 0x1fff, 4, 0),
        // The length of the header, then the port behind it.
        op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 14, 0, 0),
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 14 + 2, 0, 0),
        op(equal, u32::from(port), 0, 1),
        op(libc::BPF_RET | libc::BPF_K, u32::from(u16::MAX), 0, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}

fn attach(socket: &OwnedFd, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut(),
    };
    let length = libc::socklen_t::try_from(size_of_val(&program)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `program` is a sock_fprog of the length that is given, and the kernel copies the filter that it names.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_not_there_is_an_error() {
        let error = open(u32::try_from(i32::MAX).unwrap(), 68).unwrap_err();
        // Without the right to open such sockets it is EPERM.
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{error}");
    }

    /// Runs a filter as the kernel does; what it says of a frame.
    fn run(filter: &[libc::sock_filter], frame: &[u8]) -> u32 {
        let (mut at, mut a, mut x) = (0, 0, 0);
        loop {
            let op = filter[at];
            let place = |add: u32| usize::try_from(op.k + add).unwrap();
            let half = |place: usize| u32::from(u16::from_be_bytes([frame[place], frame[place + 1]]));
            let jump = |taken: bool| usize::from(if taken { op.jt } else { op.jf });
            at += 1;
            match u32::from(op.code) {
                code if code == libc::BPF_LD | libc::BPF_B | libc::BPF_ABS => a = frame[place(0)].into(),
                code if code == libc::BPF_LD | libc::BPF_H | libc::BPF_ABS => a = half(place(0)),
                code if code == libc::BPF_LD | libc::BPF_H | libc::BPF_IND => a = half(place(x)),
                code if code == libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH => {
                    x = u32::from(frame[place(0)] & 0xf) * 4;
                }
                code if code == libc::BPF_JMP | libc::BPF_JEQ => at += jump(a == op.k),
                code if code == libc::BPF_JMP | libc::BPF_JSET => at += jump(a & op.k != 0),
                _ => return op.k,
            }
        }
    }

    #[test]
    fn only_whole_datagrams_for_the_port_are_heard() {
        let filter = udp_to(68);
        let mut frame = vec![0; 60];
        frame[14] = 0x45;
        frame[23] = 17;
        frame[37] = 68;
        assert_eq!(run(&filter, &frame), 65_535);
        for (at, value) in [(23, 6), (37, 67), (36, 1), (21, 1), (14, 0x46)] {
            let mut other = frame.clone();
            other[at] = value;
            assert_eq!(run(&filter, &other), 0, "byte {at}");
        }
        frame[14] = 0x46;
        frame[41] = 68;
        frame[37] = 0;
        assert_eq!(run(&filter, &frame), 65_535, "with options in the header");
    }
}
