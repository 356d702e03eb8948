//! Networks of containers as a node makes them: free of compose's spelling.

use std::net::{IpAddr, Ipv4Addr};

use plan::ServiceName;
use userdata::Mark;

/// The network of services that name none.
pub const DEFAULT_NETWORK: &str = "default";

/// Which network a service sees (`network_mode`, `networks`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// The node's own.
    Host,
    /// Loopback only.
    None,
    /// These container networks, by name and each once.
    Own(Vec<Membership>),
    /// That of another service, which is none of this kind.
    Of(ServiceName),
}

/// A service in a container network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The network's name.
    pub network: String,
    /// Other names that the service has there.
    pub aliases: Vec<String>,
    /// The address that it must have.
    pub address: Option<Ipv4Addr>,
    /// Where it stands.
    pub mark: Mark,
}

/// A container network that is declared. What is `None` is the node's to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Its network: address and length of the prefix.
    pub subnet: Option<(Ipv4Addr, u8)>,
    /// The node's address in it.
    pub gateway: Option<Ipv4Addr>,
    /// Nothing leads out of it.
    pub internal: bool,
    /// Where it stands.
    pub mark: Mark,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// A port of the node that leads to a container. For a service in the node's own network: that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The node's address; `None`: all.
    pub address: Option<Ipv4Addr>,
    /// The node's port, or the first and the last of those to choose from.
    pub node: (u16, u16),
    /// The container's port.
    pub container: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Where it stands.
    pub mark: Mark,
}

/// The name of a host for `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Its address; `None`: the node's own, as the container sees it (`host-gateway`).
    pub address: Option<IpAddr>,
}

/// What a service says of ports and names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Ports of the node that lead to it.
    pub published: Vec<Published>,
    /// The container's host name.
    pub hostname: Option<String>,
    /// The container's domain.
    pub domain: Option<String>,
    /// One more name that other containers find it by.
    pub container_name: Option<String>,
    /// Name servers in place of the node's.
    pub dns: Vec<IpAddr>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Options of `/etc/resolv.conf`.
    pub dns_options: Vec<String>,
    /// More names for its `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
}

/// Who may reach the node itself (`holdfast.firewall`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// What is let in beside that which services say.
    pub accept: Vec<Accepted>,
}

/// Something that the node lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// First and last port.
    pub ports: (u16, u16),
    /// The protocol.
    pub protocol: Protocol,
    /// From this network; `None`: from everywhere.
    pub source: Option<(IpAddr, u8)>,
}

/// `ADDRESS/PREFIX`, of either family.
pub(crate) fn parse_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix) = (address.parse::<IpAddr>().ok()?, prefix.parse().ok()?);
    (prefix <= if address.is_ipv6() { 128 } else { 32 }).then_some((address, prefix))
}
