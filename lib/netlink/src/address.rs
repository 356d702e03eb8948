//! Addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::OURS;
use crate::attributes::{Attributes, as_address, as_u32, attributes, family, is_six};
use crate::socket::{CREATE, Kernel, Message, REPLACE};

const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;

// IFA_*, include/uapi/linux/if_addr.h
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;
const CACHEINFO: u16 = 6;
const FLAGS: u16 = 8;
const PROTO: u16 = 11;

// IFA_F_*
const TENTATIVE: u32 = 0x40;
const DADFAILED: u32 = 0x08;
const NOPREFIXROUTE: u32 = 0x200;

/// How far an address reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    #[default]
    Global,
    /// Its link.
    Link,
    /// This machine.
    Host,
}

/// Who set an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// We ([`OURS`]).
    Ours,
    /// The kernel or somebody else.
    #[default]
    Other,
}

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's number.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// How far it reaches; when it is set, the address itself says.
    pub scope: Scope,
    /// Who set it; what is set is ours.
    pub origin: Origin,
    /// It can be used: no other station is known, or still looked for, that has it.
    pub usable: bool,
    /// Seconds that it is still preferred and valid for; `None`: for ever.
    pub lifetime: Option<(u32, u32)>,
    /// The kernel makes no route to its network.
    pub no_route: bool,
}

impl Kernel {
    /// All addresses.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        self.dump(GETADDR, &header(0, 0, 0, 0), |message| read(message).into_iter().collect())
    }

    /// Sets an address, or its times when it is there. When they have passed the kernel takes it away.
    pub fn set_address(&mut self, address: &Address) -> io::Result<()> {
        let (preferred, valid) = address.lifetime.unwrap_or((u32::MAX, u32::MAX));
        // struct ifa_cacheinfo: preferred, valid, and two times that only the kernel sets.
        let times = [preferred.to_ne_bytes(), valid.to_ne_bytes(), [0; 4], [0; 4]].concat();
        let broadcast = match address.address {
            IpAddr::V4(own) if address.prefix < 31 => {
                let host = u32::MAX.checked_shr(u32::from(address.prefix)).unwrap_or(0);
                Some(Ipv4Addr::from_bits(own.to_bits() | host))
            }
            _ => None,
        };
        let attributes = Attributes::default()
            .address(LOCAL, address.address)
            .address(ADDRESS, address.address)
            .with(broadcast, |attributes, broadcast| attributes.address(BROADCAST, broadcast.into()))
            .bytes(CACHEINFO, &times)
            .u32(FLAGS, if address.no_route { NOPREFIXROUTE } else { 0 })
            .u8(PROTO, OURS);
        self.request(NEWADDR, CREATE | REPLACE, &own_header(address), attributes)
    }

    /// Takes an address away; its routes go with it. One that is gone already is no error.
    pub fn remove_address(&mut self, address: &Address) -> io::Result<()> {
        let attributes =
            Attributes::default().address(LOCAL, address.address).address(ADDRESS, address.address);
        match self.request(DELADDR, 0, &own_header(address), attributes) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(()),
            result => result,
        }
    }
}

/// `struct ifaddrmsg`
fn header(family: u8, prefix: u8, scope: u8, link: u32) -> [u8; 8] {
    let [a, b, c, d] = link.to_ne_bytes();
    [family, prefix, 0, scope, a, b, c, d]
}

fn own_header(address: &Address) -> [u8; 8] {
    let scope = match address.address {
        IpAddr::V4(own) if own.is_link_local() => 253,
        own if own.is_loopback() => 254,
        _ => 0,
    };
    header(family(address.address.is_ipv6()), address.prefix, scope, address.link)
}

fn read((kind, body): Message<'_>) -> Option<Address> {
    let rest = body.get(8..).filter(|_| kind == NEWADDR)?;
    is_six(body[0])?;
    let (mut local, mut other, mut lifetime, mut origin) = (None, None, None, Origin::Other);
    let mut flags = u32::from(body[2]);
    for (kind, value) in attributes(rest) {
        match kind {
            LOCAL => local = as_address(value),
            ADDRESS => other = as_address(value),
            CACHEINFO => lifetime = as_u32(value).zip(as_u32(value.get(4..)?)),
            FLAGS => flags = as_u32(value)?,
            PROTO if value == [OURS] => origin = Origin::Ours,
            _ => {}
        }
    }
    Some(Address {
        link: as_u32(&body[4..])?,
        address: local.or(other)?,
        prefix: body[1],
        scope: match body[3] {
            0 => Scope::Global,
            254 => Scope::Host,
            _ => Scope::Link,
        },
        origin,
        usable: flags & (TENTATIVE | DADFAILED) == 0,
        lifetime: lifetime.filter(|(_, valid)| *valid != u32::MAX),
        no_route: flags & NOPREFIXROUTE != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_its_times() {
        let attributes = Attributes::default()
            .address(ADDRESS, "10.0.0.1".parse().unwrap())
            .address(LOCAL, "10.0.0.2".parse().unwrap())
            .bytes(CACHEINFO, &[10, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .u8(PROTO, OURS)
            .u32(FLAGS, TENTATIVE);
        let bytes = [header(2, 24, 0, 5).as_slice(), &attributes.into_bytes()].concat();
        let expected = Address {
            link: 5,
            address: "10.0.0.2".parse().unwrap(),
            prefix: 24,
            scope: Scope::Global,
            origin: Origin::Ours,
            usable: false,
            lifetime: Some((10, 20)),
            no_route: false,
        };
        assert_eq!(read((NEWADDR, &bytes)), Some(expected), "the local address of two ends counts");
        for length in 0..bytes.len() {
            read((NEWADDR, &bytes[..length]));
        }
    }
}
