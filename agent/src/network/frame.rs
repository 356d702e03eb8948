//! DHCP in UDP in IPv4 in Ethernet: what goes over a link that has no address yet.

use std::net::Ipv4Addr;

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
const SERVER_PORT: [u8; 2] = 67_u16.to_be_bytes();
const CLIENT_PORT: [u8; 2] = 68_u16.to_be_bytes();

/// A frame from `address` to every station that carries `payload` from the client's to the server's port. The source
/// is `from`, which is 0.0.0.0 without a lease.
pub(super) fn to_server(address: [u8; 6], from: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = |header: usize| u16::try_from(payload.len() + header).unwrap_or(u16::MAX).to_be_bytes();
    let mut ip = Vec::from([0x45, 0]);
    ip.extend(length(IP + UDP));
    // No fragments; 64 hops; UDP.
    ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    ip.extend(from.octets());
    ip.extend(Ipv4Addr::BROADCAST.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);

    let mut frame = Vec::from([0xff; 6]);
    frame.extend(address);
    frame.extend([0x08, 0x00]);
    frame.extend(ip);
    frame.extend(CLIENT_PORT);
    frame.extend(SERVER_PORT);
    frame.extend(length(UDP));
    // RFC 768: a UDP checksum of 0 is none.
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// The payload of a frame that a server sent to a client's port. Checksums are not looked at: between virtual
/// machines they are not computed.
pub(super) fn from_server(frame: &[u8]) -> Option<&[u8]> {
    let packet = frame.get(ETHERNET..).filter(|_| frame.get(12..14) == Some(&[0x08, 0x00]))?;
    let (first, protocol) = (*packet.first()?, *packet.get(9)?);
    let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff;
    if first >> 4 != 4 || protocol != 17 || fragment != 0 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let segment = packet.get(usize::from(first & 0xf) * 4..total)?;
    let ports = segment.get(..4)? == [SERVER_PORT, CLIENT_PORT].concat();
    segment.get(UDP..).filter(|_| ports)
}

/// RFC 1071.
fn checksum(header: &[u8]) -> [u8; 2] {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(!sum & 0xffff).unwrap_or_default().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frame as if a server had sent it.
    fn answer() -> Vec<u8> {
        let mut frame = to_server([2; 6], Ipv4Addr::UNSPECIFIED, b"payload");
        frame[34..38].copy_from_slice(&[SERVER_PORT, CLIENT_PORT].concat());
        frame
    }

    #[test]
    fn a_frame_is_addressed_to_every_server() {
        let frame = to_server([2; 6], Ipv4Addr::new(10, 0, 2, 15), b"payload");
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[26..34], [10, 0, 2, 15, 255, 255, 255, 255]);
        assert_eq!(checksum(&frame[14..34]), [0, 0], "a header with its checksum sums to nothing");
        assert_eq!(from_server(&frame), None, "it is not an answer");
    }

    #[test]
    fn only_answers_of_servers_are_read() {
        assert_eq!(from_server(&answer()), Some(&b"payload"[..]));
        let padded = [answer(), vec![0; 20]].concat();
        assert_eq!(from_server(&padded), Some(&b"payload"[..]), "Ethernet pads short frames");
        for (at, value) in [(12, 0x86), (14, 0x65), (23, 6), (20, 0x20), (35, 68)] {
            let mut frame = answer();
            frame[at] = value;
            assert_eq!(from_server(&frame), None, "byte {at}");
        }
        for length in 0..answer().len() {
            assert_eq!(from_server(&answer()[..length]), None, "cut to {length} bytes");
        }
    }
}
