//! What the network shall be.

use std::fmt;
use std::net::IpAddr;

use userdata::Mark;

use crate::address::Mac;
use crate::params::Param;

/// A whole network configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The platform says that the network is not to be configured.
    pub disabled: bool,
    /// The interfaces in the order of the file.
    pub links: Vec<Link>,
    /// Routes that belong to no interface.
    pub routes: Vec<Route>,
    /// Name servers that belong to no interface.
    pub dns: Dns,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// What other entries call it: the name in version 1, the key in version 2.
    pub id: String,
    /// The id is a key of `ethernets`, and not a name.
    pub keyed: bool,
    /// What it shall be called. With [`Link::select`] by name or driver, and no `set-name`: only the key.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Which hardware is meant; empty: the one that has the name.
    pub select: Select,
    /// It is renamed to [`Link::name`].
    pub rename: bool,
    /// The address it is given.
    pub mac: Option<Mac>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Whether router advertisements are heeded; absent: the kernel's rule.
    pub accept_ra: Option<bool>,
    /// Wake-on-LAN by magic packet.
    pub wake_on_lan: Option<bool>,
    /// The boot does not wait for it.
    pub optional: Option<bool>,
    /// Addresses survive a restart of what manages them.
    pub keep_configuration: Option<bool>,
    /// The bond or bridge that it is part of, by its id.
    pub master: Option<String>,
    /// Addresses, and where they come from.
    pub subnets: Vec<Subnet>,
    /// Name servers to ask over this interface.
    pub dns: Option<Dns>,
    /// Policy rules.
    pub rules: Vec<Rule>,
    /// Where it stands in the file.
    pub mark: Mark,
}

/// What an interface is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Kind {
    /// Hardware.
    #[default]
    Physical,
    /// `lo`.
    Loopback,
    /// InfiniBand hardware.
    Infiniband,
    /// A VLAN.
    Vlan {
        /// The tag.
        id: u16,
        /// The interface below, by its id.
        link: String,
    },
    /// A bond.
    Bond {
        /// Its interfaces, by their ids.
        members: Vec<String>,
        /// Its settings.
        params: Vec<Param>,
    },
    /// A bridge.
    Bridge {
        /// Its interfaces, by their ids.
        members: Vec<String>,
        /// Its settings.
        params: Vec<Param>,
    },
    /// A WireGuard interface.
    Wireguard {
        /// Base64 of the key.
        private_key: Secret,
        /// The UDP port it listens at.
        port: Option<u16>,
        /// Firewall mark of what it sends.
        mark: Option<u32>,
        /// The other ends.
        peers: Vec<Peer>,
    },
}

/// Which hardware is meant: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    /// Its permanent address.
    pub mac: Option<Mac>,
    /// Its name, with `*` and `?`.
    pub name: Option<String>,
    /// Its driver, each with `*` and `?`: one of them must fit.
    pub drivers: Vec<String>,
}

/// Where addresses come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subnet {
    /// How.
    pub method: Method,
    /// A static address and the length of its prefix.
    pub address: Option<(IpAddr, u8)>,
    /// The default route's next hop.
    pub gateway: Option<IpAddr>,
    /// The metric of its routes.
    pub metric: Option<u32>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Version 1's `control`: `auto`, `manual` and so on.
    pub control: Option<String>,
    /// Broadcast address.
    pub broadcast: Option<IpAddr>,
    /// Name servers.
    pub dns: Dns,
    /// Routes.
    pub routes: Vec<Route>,
    /// What is taken from a lease.
    pub dhcp: DhcpOptions,
}

/// How a subnet gets its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Not at all: only routes.
    #[default]
    Manual,
    /// DHCP. Version 1's `dhcp` means IPv4.
    Dhcp(Dhcp),
    /// As written; version 1 has a word of its own for IPv6.
    Static {
        /// It is written `static6`.
        six: bool,
    },
    /// IPv6 from router advertisements alone.
    Slaac,
}

/// Which DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dhcp {
    /// `dhcp`
    Any,
    /// `dhcp4`
    Four,
    /// `dhcp6`
    Six,
    /// `ipv6_dhcpv6-stateful`: addresses by DHCPv6.
    SixStateful,
    /// `ipv6_dhcpv6-stateless`: addresses by router advertisements, the rest by DHCPv6.
    SixStateless,
}

/// What is taken from a lease, and what is told for it. Absent: yes, and the host's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DhcpOptions {
    /// Name servers.
    pub use_dns: Option<bool>,
    /// Search domains.
    pub use_domains: Option<String>,
    /// Time servers.
    pub use_ntp: Option<bool>,
    /// MTU.
    pub use_mtu: Option<bool>,
    /// Routes.
    pub use_routes: Option<bool>,
    /// The host's name from the lease.
    pub use_hostname: Option<bool>,
    /// The host's name is sent.
    pub send_hostname: Option<bool>,
    /// The name to send.
    pub hostname: Option<String>,
}

/// Name servers and search domains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network.
    pub network: IpAddr,
    /// The length of its prefix.
    pub prefix: u8,
    /// The next hop; absent: the network is on the link.
    pub gateway: Option<IpAddr>,
    /// Smaller ones come first.
    pub metric: Option<u32>,
    /// The routing table.
    pub table: Option<u32>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// The address to send from.
    pub from: Option<IpAddr>,
    /// The next hop is on the link although no address says so.
    pub on_link: Option<bool>,
    /// What becomes of the packets.
    pub kind: RouteKind,
}

/// What becomes of a route's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteKind {
    /// They are sent on.
    #[default]
    Unicast,
    /// Dropped.
    Blackhole,
    /// Refused: no route.
    Unreachable,
    /// Refused: forbidden.
    Prohibit,
    /// Handed to the next routing table.
    Throw,
}

/// A policy rule: which routing table is asked for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Source network.
    pub from: Option<(IpAddr, u8)>,
    /// Destination network.
    pub to: Option<(IpAddr, u8)>,
    /// The table.
    pub table: Option<u32>,
    /// Smaller ones come first.
    pub priority: Option<u32>,
    /// Firewall mark.
    pub mark: Option<u32>,
    /// Type of service.
    pub tos: Option<u8>,
}

/// The other end of a WireGuard interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Base64 of its key.
    pub public_key: String,
    /// Base64 of a key that both ends have.
    pub shared_key: Option<Secret>,
    /// `host:port`.
    pub endpoint: Option<String>,
    /// Seconds between signs of life.
    pub keepalive: Option<u16>,
    /// What is sent there.
    pub allowed_ips: Vec<(IpAddr, u8)>,
}

/// A text that must not be shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Link {
    /// The id, when it is not the name.
    pub(crate) fn config_id(&self) -> Option<&str> {
        self.keyed.then_some(&*self.id)
    }

    /// The interfaces that must be there before this one.
    pub fn needs(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Vlan { link, .. } => vec![link],
            Kind::Bond { members, .. } | Kind::Bridge { members, .. } => {
                members.iter().map(String::as_str).collect()
            }
            Kind::Physical | Kind::Loopback | Kind::Infiniband | Kind::Wireguard { .. } => Vec::new(),
        }
    }
}
