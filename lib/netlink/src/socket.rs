//! Requests to the kernel and its answers.

use std::io;

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use crate::attributes::{Attributes, as_u16, as_u32};

/// Flags of a request (`NLM_F_*`).
pub(crate) const ACK: u16 = 0x4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
const REQUEST: u16 = 0x1;
/// `NLM_F_DUMP_INTR`: something changed while a list was made.
const INTERRUPTED: u16 = 0x10;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;

/// How often a list that changed while it was made is asked for again.
const TRIES: usize = 4;

/// A message from the kernel: its type and what follows the header.
pub(crate) type Message<'a> = (u16, &'a [u8]);

/// The kernel's side of the network, as one conversation.
#[derive(Debug)]
pub struct Kernel {
    socket: Socket,
    sequence: u32,
}

impl Kernel {
    /// Opens a conversation about links, addresses, routes and rules.
    pub fn route() -> io::Result<Self> {
        Self::open(NETLINK_ROUTE)
    }

    pub(crate) fn generic() -> io::Result<Self> {
        Self::open(NETLINK_GENERIC)
    }

    fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for something to be done, and waits for the kernel's word on it.
    pub(crate) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: Attributes,
    ) -> io::Result<()> {
        self.ask(kind, flags | ACK, header, attributes, &mut |_| {}).map(drop)
    }

    /// Asks for a list and has each of its entries read. One that `read` does not take is left out.
    pub(crate) fn dump<T>(
        &mut self,
        kind: u16,
        header: &[u8],
        read: impl Fn(Message<'_>) -> Vec<T>,
    ) -> io::Result<Vec<T>> {
        let mut list = Vec::new();
        for _ in 0..TRIES {
            list.clear();
            let whole = self.ask(kind, DUMP, header, Attributes::default(), &mut |message| {
                list.extend(read(message));
            })?;
            if whole {
                break;
            }
        }
        Ok(list)
    }

    /// Sends a request and hands over each answer up to the last; false when they do not belong together.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: Attributes,
        read: &mut dyn FnMut(Message<'_>),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let body = [header, &attributes.into_bytes()].concat();
        let length = u32::try_from(HEADER + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut bytes = Vec::from(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((REQUEST | flags).to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        self.socket.send(&bytes, 0)?;
        let mut whole = true;
        loop {
            let (answer, _) = self.socket.recv_from_full()?;
            for Part { kind, flags, sequence, body } in parts(&answer) {
                if sequence != self.sequence {
                    continue;
                }
                whole &= flags & INTERRUPTED == 0;
                match kind {
                    ERROR => return outcome(body).map(|()| whole),
                    DONE => return outcome(body).map(|()| whole),
                    _ => read((kind, body)),
                }
            }
        }
    }
}

/// What the kernel says of a request: 0, or an error's number below it.
fn outcome(body: &[u8]) -> io::Result<()> {
    let code = body.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(()) }
}

/// One message of a datagram.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram.
pub(crate) fn parts(mut bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(as_u32(bytes)?).ok()?;
        let part = Part {
            kind: as_u16(bytes.get(4..)?)?,
            flags: as_u16(bytes.get(6..)?)?,
            sequence: as_u32(bytes.get(8..)?)?,
            body: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_taken_apart_and_never_beyond_its_end() {
        let mut bytes = Vec::from(20_u32.to_ne_bytes());
        bytes.extend([16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9]);
        bytes.extend(bytes.clone());
        assert_eq!(parts(&bytes).map(|part| (part.kind, part.body.len())).collect::<Vec<_>>(), [(16, 4); 2]);
        for length in 0..bytes.len() {
            assert!(parts(&bytes[..length]).count() < 2, "{length}");
        }
        assert_eq!(parts(&[0; 64]).count(), 0);
    }

    #[test]
    fn what_the_kernel_says_is_an_error_or_none() {
        assert!(outcome(&0_i32.to_ne_bytes()).is_ok());
        assert!(outcome(&[]).is_ok());
        let error = outcome(&(-17_i32).to_ne_bytes()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
