//! What servers and routers have given to links, and what of it is taken.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use dhcp::{v4, v6};
use netconfig::{Dhcp, DhcpOptions, Link, Method, Subnet};

/// What has been given, by the number of the link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// By DHCPv4.
    pub(super) four: BTreeMap<u32, v4::Held>,
    /// By DHCPv6.
    pub(super) six: BTreeMap<u32, v6::Held>,
    /// Name servers in router advertisements, and until when they count.
    pub(super) routers: BTreeMap<u32, (Vec<IpAddr>, Duration)>,
}

/// The subnet of an entry that asks for DHCPv4.
pub(super) fn dhcp4(entry: &Link) -> Option<&Subnet> {
    let asks = |subnet: &&Subnet| matches!(subnet.method, Method::Dhcp(Dhcp::Any | Dhcp::Four));
    automatic(entry).find(asks)
}

/// The subnet of an entry that asks for DHCPv6, and what it asks for.
pub(super) fn dhcp6(entry: &Link) -> Option<(&Subnet, v6::Mode)> {
    automatic(entry).find_map(|subnet| match subnet.method {
        Method::Dhcp(Dhcp::Six | Dhcp::SixStateful) => Some((subnet, v6::Mode::Address)),
        Method::Dhcp(Dhcp::SixStateless) => Some((subnet, v6::Mode::Information)),
        _ => None,
    })
}

/// The subnets of an entry that are to be there by themselves. What is part of a bond or bridge has none.
pub(super) fn automatic(entry: &Link) -> impl Iterator<Item = &Subnet> {
    let member = entry.master.is_some();
    let manual = |subnet: &&Subnet| subnet.control.as_deref().is_none_or(|control| control != "manual");
    entry.subnets.iter().filter(move |_| !member).filter(manual)
}

/// What is taken of a DHCPv6 lease when only routers ask for it: everything.
static EVERYTHING: DhcpOptions = DhcpOptions {
    use_dns: None,
    use_domains: None,
    use_ntp: None,
    use_mtu: None,
    use_routes: None,
    use_hostname: None,
    send_hostname: None,
    hostname: None,
};

/// What an entry takes of DHCPv4 leases.
pub(super) fn options4(entry: &Link) -> &DhcpOptions {
    dhcp4(entry).map_or(&EVERYTHING, |subnet| &subnet.dhcp)
}

/// What an entry takes of DHCPv6 leases.
pub(super) fn options6(entry: &Link) -> &DhcpOptions {
    dhcp6(entry).map_or(&EVERYTHING, |(subnet, _)| &subnet.dhcp)
}

/// Whether search domains are taken. netplan has a third word, `route`, which takes them for routing queries only.
pub(super) fn takes_domains(options: &DhcpOptions) -> bool {
    options.use_domains.as_deref().is_none_or(|word| matches!(word, "true" | "yes" | "on" | "y"))
}
