//! What the kernel says by itself.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::attributes::as_u32;
use crate::socket::parts;

// RTNLGRP_*, include/uapi/linux/rtnetlink.h
const GROUPS: [u32; 8] = [
    1,  // links
    5,  // IPv4 addresses
    7,  // IPv4 routes
    8,  // IPv4 rules
    9,  // IPv6 addresses
    11, // IPv6 routes
    19, // IPv6 rules
    20, // options of router advertisements
];

const NEWNDUSEROPT: u16 = 68;

/// Option of a router advertisement: name servers (RFC 8106, section 5.1).
const RDNSS: u8 = 25;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link, an address, a route or a rule has changed.
    Changed,
    /// A router has told name servers.
    NameServers(NameServers),
}

/// Name servers that a router has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServers {
    /// The link's number.
    pub link: u32,
    /// Their addresses.
    pub servers: Vec<IpAddr>,
    /// How long they may be asked; zero: not any more.
    pub lifetime: Duration,
}

/// The events of this machine's network.
#[derive(Debug)]
pub struct Events(Socket);

impl Events {
    /// Listens from now on.
    pub fn listen() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// What has happened since the last time; never waits.
    pub fn take(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            match self.0.recv_from_full() {
                Ok((bytes, _)) => {
                    for part in parts(&bytes) {
                        let event = match part.kind {
                            NEWNDUSEROPT => name_servers(part.body).map(Event::NameServers),
                            _ => Some(Event::Changed),
                        };
                        events.extend(event.filter(|event| !events.contains(event)));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS: more has happened than fits into the socket.
                Err(error) if error.raw_os_error() == Some(105) => events.push(Event::Changed),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `struct nduseroptmsg` (family, length of the options, link, ICMP type and code), then the option as it came.
fn name_servers(body: &[u8]) -> Option<NameServers> {
    let link = as_u32(body.get(4..)?)?;
    let option = body.get(16..)?;
    if *option.first()? != RDNSS {
        return None;
    }
    // Lengths are in units of 8 bytes: one for the head, two for each address.
    let length = usize::from(*option.get(1)?) * 8;
    let seconds = u32::from_be_bytes(option.get(4..8)?.try_into().ok()?);
    let addresses = option.get(8..length)?.chunks_exact(16);
    let servers = addresses.filter_map(|bytes| <[u8; 16]>::try_from(bytes).ok());
    Some(NameServers {
        link,
        servers: servers.map(|octets| Ipv6Addr::from(octets).into()).collect(),
        lifetime: Duration::from_secs(seconds.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_a_router_are_read() {
        let mut body = vec![10, 0, 24, 0, 2, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0];
        body.extend([RDNSS, 3, 0, 0, 0, 0, 0, 60]);
        let server: Ipv6Addr = "2001:db8::53".parse().unwrap();
        body.extend(server.octets());
        let expected =
            NameServers { link: 2, servers: vec![server.into()], lifetime: Duration::from_secs(60) };
        assert_eq!(name_servers(&body), Some(expected));
        for length in 0..body.len() {
            assert_eq!(name_servers(&body[..length]), None, "cut to {length} bytes");
        }
    }

    #[test]
    fn nothing_has_happened_at_first() {
        let mut events = Events::listen().unwrap();
        assert!(events.take().is_ok());
    }
}
