//! Links.

use std::io;

use crate::attributes::{Attributes, as_text, as_u16, as_u32, attributes, find};
use crate::socket::{CREATE, EXCLUSIVE, Kernel, Message};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;

// IFLA_*, include/uapi/linux/if_link.h
const ADDRESS: u16 = 1;
const IFNAME: u16 = 3;
const MTU: u16 = 4;
const LINK: u16 = 5;
const MASTER: u16 = 10;
const LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const IFALIAS: u16 = 20;
const AF_SPEC: u16 = 26;
const INET6: u16 = 10;
const INET6_FLAGS: u16 = 1;
const PERM_ADDRESS: u16 = 54;
const VLAN_ID: u16 = 1;
const BOND_MODE: u16 = 1;

// IFF_*
const UP: u32 = 1;
const LOOPBACK: u32 = 8;
const LOWER_UP: u32 = 1 << 16;

// IF_RA_*, include/net/if_inet6.h
const RA_OTHER: u32 = 0x80;
const RA_MANAGED: u32 = 0x40;

/// A link as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number, which stays when it is renamed.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is, when it is no hardware: `vlan`, `bond`, ...
    pub kind: Option<String>,
    /// `ARPHRD_*`: 1 is Ethernet, 32 InfiniBand.
    pub hardware: u16,
    /// It is `lo`.
    pub loopback: bool,
    /// It is switched on.
    pub up: bool,
    /// It can carry packets.
    pub carrier: bool,
    /// Its hardware address.
    pub address: Vec<u8>,
    /// The hardware address that it was made with, when it has one.
    pub permanent: Option<Vec<u8>>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Number of the bond or bridge that it is part of.
    pub master: Option<u32>,
    /// Number of the link that it is on top of.
    pub lower: Option<u32>,
    /// A text that is kept with it.
    pub alias: Option<String>,
    /// The tag of a VLAN.
    pub vlan: Option<u16>,
    /// The mode of a bond, as a number.
    pub bond_mode: Option<u8>,
    /// Routers say that addresses are to be had by DHCPv6.
    pub ra_managed: bool,
    /// Routers say that other things are to be had by DHCPv6.
    pub ra_other: bool,
}

/// What a link that is made is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A VLAN.
    Vlan {
        /// Its tag.
        id: u16,
        /// Number of the link below.
        lower: u32,
    },
    /// A bond in this mode.
    Bond {
        /// The mode's number.
        mode: u8,
    },
    /// A bridge.
    Bridge,
    /// A WireGuard tunnel.
    Wireguard,
}

impl Kind {
    /// The kernel's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Vlan { .. } => "vlan",
            Self::Bond { .. } => "bond",
            Self::Bridge => "bridge",
            Self::Wireguard => "wireguard",
        }
    }
}

/// A link that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLink {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its hardware address; `None`: the kernel's choice.
    pub address: Option<Vec<u8>>,
    /// A text to keep with it.
    pub alias: String,
}

impl Kernel {
    /// All links.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        self.dump(GETLINK, &header(0, 0, 0), |message| read(message).into_iter().collect())
    }

    /// Makes a link. It is switched off.
    pub fn create(&mut self, link: &NewLink) -> io::Result<()> {
        let info = Attributes::default().text(INFO_KIND, link.kind.word());
        let (info, lower) = match link.kind {
            Kind::Vlan { id, lower } => {
                (info.nested(INFO_DATA, &Attributes::default().u16(VLAN_ID, id)), Some(lower))
            }
            Kind::Bond { mode } => (info.nested(INFO_DATA, &Attributes::default().u8(BOND_MODE, mode)), None),
            Kind::Bridge | Kind::Wireguard => (info, None),
        };
        let attributes = Attributes::default()
            .text(IFNAME, &link.name)
            .with(lower, |attributes, lower| attributes.u32(LINK, lower))
            .with(link.address.as_deref(), |attributes, address| attributes.bytes(ADDRESS, address))
            .nested(LINKINFO, &info);
        self.request(NEWLINK, CREATE | EXCLUSIVE, &header(0, 0, 0), attributes)?;
        // The kernel does not take a text while it makes a link.
        let attributes = Attributes::default().text(IFNAME, &link.name).text(IFALIAS, &link.alias);
        self.request(NEWLINK, 0, &header(0, 0, 0), attributes)
    }

    /// Removes a link that was made.
    pub fn delete(&mut self, index: u32) -> io::Result<()> {
        self.request(DELLINK, 0, &header(index, 0, 0), Attributes::default())
    }

    /// Switches a link on or off.
    pub fn switch(&mut self, index: u32, on: bool) -> io::Result<()> {
        self.request(NEWLINK, 0, &header(index, if on { UP } else { 0 }, UP), Attributes::default())
    }

    /// Renames a link, which is to be switched off.
    pub fn rename(&mut self, index: u32, name: &str) -> io::Result<()> {
        self.set_link(index, Attributes::default().text(IFNAME, name))
    }

    /// Sets the largest packet of a link.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        self.set_link(index, Attributes::default().u32(MTU, mtu))
    }

    /// Gives a link a hardware address.
    pub fn set_hardware_address(&mut self, index: u32, address: &[u8]) -> io::Result<()> {
        self.set_link(index, Attributes::default().bytes(ADDRESS, address))
    }

    /// Makes a link part of a bond or bridge, or (`None`) of nothing.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> io::Result<()> {
        self.set_link(index, Attributes::default().u32(MASTER, master.unwrap_or(0)))
    }

    /// Keeps a text with a link; an empty one is none.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> io::Result<()> {
        // Without the zero byte: an attribute of no bytes takes the text away.
        self.set_link(index, Attributes::default().bytes(IFALIAS, alias.as_bytes()))
    }

    fn set_link(&mut self, index: u32, attributes: Attributes) -> io::Result<()> {
        self.request(NEWLINK, 0, &header(index, 0, 0), attributes)
    }
}

/// `struct ifinfomsg`
fn header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn read((kind, body): Message<'_>) -> Option<Link> {
    let rest = body.get(16..).filter(|_| kind == NEWLINK)?;
    let flags = as_u32(&body[8..])?;
    let mut link = Link {
        hardware: as_u16(&body[2..])?,
        index: as_u32(&body[4..])?,
        loopback: flags & LOOPBACK != 0,
        up: flags & UP != 0,
        carrier: flags & LOWER_UP != 0,
        ..Link::default()
    };
    for (kind, value) in attributes(rest) {
        match kind {
            ADDRESS => link.address = value.to_vec(),
            IFNAME => link.name = as_text(value)?,
            MTU => link.mtu = as_u32(value)?,
            LINK => link.lower = as_u32(value),
            MASTER => link.master = as_u32(value),
            IFALIAS => link.alias = as_text(value),
            PERM_ADDRESS => link.permanent = Some(value.to_vec()),
            LINKINFO => {
                link.kind = find(value, INFO_KIND).and_then(as_text);
                let data = find(value, INFO_DATA).unwrap_or_default();
                match link.kind.as_deref() {
                    Some("vlan") => link.vlan = find(data, VLAN_ID).and_then(as_u16),
                    Some("bond") => {
                        link.bond_mode = find(data, BOND_MODE).and_then(|mode| mode.first().copied());
                    }
                    _ => {}
                }
            }
            AF_SPEC => {
                let flags = find(value, INET6).and_then(|inet6| find(inet6, INET6_FLAGS)).and_then(as_u32);
                link.ra_managed = flags.is_some_and(|flags| flags & RA_MANAGED != 0);
                link.ra_other = flags.is_some_and(|flags| flags & RA_OTHER != 0);
            }
            _ => {}
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_as_far_as_it_is_understood() {
        let info = Attributes::default()
            .text(INFO_KIND, "vlan")
            .nested(INFO_DATA, &Attributes::default().u16(VLAN_ID, 100));
        let inet6 = Attributes::default().u32(INET6_FLAGS, RA_MANAGED);
        let attributes = Attributes::default()
            .text(IFNAME, "eth0.100")
            .u32(MTU, 1400)
            .u32(LINK, 2)
            .bytes(ADDRESS, &[2; 6])
            .bytes(999, &[1, 2, 3])
            .nested(LINKINFO, &info)
            .nested(AF_SPEC, &Attributes::default().nested(INET6, &inet6));
        let mut header = header(7, UP | LOWER_UP, 0);
        header[2] = 1;
        let bytes = [header.as_slice(), &attributes.into_bytes()].concat();
        let link = read((NEWLINK, &bytes)).unwrap();
        let expected = Link {
            index: 7,
            name: "eth0.100".to_owned(),
            kind: Some("vlan".to_owned()),
            hardware: 1,
            up: true,
            carrier: true,
            address: vec![2; 6],
            mtu: 1400,
            lower: Some(2),
            vlan: Some(100),
            ra_managed: true,
            ..Link::default()
        };
        assert_eq!(link, expected);
        for length in 0..bytes.len() {
            read((NEWLINK, &bytes[..length]));
        }
    }

    #[test]
    fn the_loopback_of_this_machine_is_listed() {
        let links = Kernel::route().unwrap().links().unwrap();
        assert!(links.iter().any(|link| link.loopback && link.name == "lo"), "{links:?}");
    }
}
