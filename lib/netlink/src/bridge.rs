//! Bridges of containers, and the pairs of links that plug containers into them.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::address::{Address, Origin, Scope};
use crate::attributes::Attributes;
use crate::link::{
    ADDRESS, GETLINK, IFNAME, INFO_DATA, INFO_KIND, LINKINFO, Link, MASTER, NEWLINK, UP, header, read,
};
use crate::socket::{ACK, CREATE, EXCLUSIVE, Kernel};
use crate::{Kind, NewLink};

/// `IFLA_NET_NS_PID`
const NET_NS_PID: u16 = 19;
/// `VETH_INFO_PEER`
const PEER: u16 = 1;

/// A bridge with the address that its containers have as their gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway<'a> {
    /// The bridge's name.
    pub bridge: &'a str,
    /// Its address.
    pub address: Ipv4Addr,
    /// The length of the network's prefix.
    pub prefix: u8,
    /// A text to keep with it, by which it is known again.
    pub alias: &'a str,
}

/// The two ends of a cable from a bridge to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cable<'a> {
    /// The bridge's number.
    pub bridge: u32,
    /// Name of the end at the bridge.
    pub outer: &'a str,
    /// Name of the end in the container.
    pub inner: &'a str,
    /// Hardware address of the end in the container.
    pub hardware: [u8; 6],
    /// A process in the container's network.
    pub process: u32,
}

impl Kernel {
    /// The link of this name.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut found = None;
        let attributes = Attributes::default().text(IFNAME, name);
        let asked = self.ask(GETLINK, ACK, &header(0, 0, 0), attributes, &mut |message| {
            found = read(message).or(found.take());
        });
        match asked {
            Err(error) if is_no_device(&error) => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(found),
        }
    }

    /// Makes the bridge unless it is there, with its address, switched on; gives its number. `before_on` is called with a
    /// new bridge that is still off.
    pub fn keep_bridge(
        &mut self,
        gateway: &Gateway<'_>,
        before_on: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<u32> {
        let found = match self.link(gateway.bridge)? {
            Some(link) => link,
            None => {
                let new = NewLink {
                    name: gateway.bridge.to_owned(),
                    kind: Kind::Bridge,
                    // One that does not change with the ports.
                    address: Some(hardware_address(gateway.address).to_vec()),
                    alias: gateway.alias.to_owned(),
                };
                match self.create(&new) {
                    // Somebody else was faster.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    result => result?,
                }
                before_on()?;
                self.link(gateway.bridge)?.ok_or(io::ErrorKind::NotFound)?
            }
        };
        self.set_address(&local(found.index, gateway.address, gateway.prefix))?;
        if !found.up {
            self.switch(found.index, true)?;
        }
        Ok(found.index)
    }

    /// Makes a cable: one end is a port of the bridge and switched on, the other is in the container and switched off.
    pub fn connect(&mut self, cable: &Cable<'_>) -> io::Result<()> {
        let inner = Attributes::default()
            .text(IFNAME, cable.inner)
            .bytes(ADDRESS, &cable.hardware)
            .u32(NET_NS_PID, cable.process);
        let peer = [header(0, 0, 0).as_slice(), &inner.into_bytes()].concat();
        let info = Attributes::default()
            .text(INFO_KIND, "veth")
            .nested(INFO_DATA, &Attributes::default().bytes(PEER, &peer));
        let attributes =
            Attributes::default().text(IFNAME, cable.outer).u32(MASTER, cable.bridge).nested(LINKINFO, &info);
        self.request(NEWLINK, CREATE | EXCLUSIVE, &header(0, UP, UP), attributes)
    }
}

/// An address of this machine that stays.
pub fn local(link: u32, address: Ipv4Addr, prefix: u8) -> Address {
    Address {
        link,
        address: IpAddr::V4(address),
        prefix,
        scope: Scope::Global,
        origin: Origin::Ours,
        usable: true,
        lifetime: None,
        no_route: false,
    }
}

/// A hardware address that says which address its link has, as other engines make theirs. It is a locally administered one.
pub fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [2, 0x42, a, b, c, d]
}

/// `ENODEV`
fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(19)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_by_name() {
        let mut kernel = Kernel::route().unwrap();
        assert!(kernel.link("lo").unwrap().unwrap().loopback);
        assert_eq!(kernel.link("no-such-link").unwrap(), None);
    }

    #[test]
    fn a_hardware_address_is_local_and_of_one_station() {
        let [first, ..] = hardware_address(Ipv4Addr::new(172, 18, 0, 2));
        assert_eq!(first & 3, 2);
    }
}
