//! Links, addresses and routes in the kernel, by rtnetlink(7).

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::dhcp::Lease;

/// Routes of DHCP come behind those that somebody sets without a metric.
const METRIC: u32 = 100;

/// Brings a link up.
pub(super) fn set_up(link: u32) -> io::Result<()> {
    request(RouteNetlinkMessage::SetLink(link_message(link)), 0)
}

/// Sets address, routes and MTU of a lease that lasts for `left`. The kernel takes the address away when that has
/// passed, also when there is no agent.
pub(super) fn apply(link: u32, lease: &Lease, left: Duration) -> io::Result<()> {
    if let Some(mtu) = lease.mtu {
        let mut message = link_message(link);
        message.attributes.push(LinkAttribute::Mtu(u32::from(mtu)));
        request(RouteNetlinkMessage::SetLink(message), 0)?;
    }
    let mut address = address_message(link, lease);
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1);
    lifetime.ifa_preferred = lifetime.ifa_valid;
    address.attributes.push(AddressAttribute::CacheInfo(lifetime));
    request(RouteNetlinkMessage::NewAddress(address), NLM_F_CREATE | NLM_F_REPLACE)?;
    // Routes to the link itself first: routers are reached by them.
    let mut routes = lease.routes.clone();
    routes.sort_by_key(|(_, _, router)| !router.is_unspecified());
    for (network, prefix, router) in routes {
        let message = route_message(link, lease, network, prefix, router);
        request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)?;
    }
    Ok(())
}

/// Takes the address away; its routes go with it. One that is gone already is no error.
pub(super) fn remove(link: u32, lease: &Lease) -> io::Result<()> {
    match request(RouteNetlinkMessage::DelAddress(address_message(link, lease)), 0) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(()),
        result => result,
    }
}

fn link_message(link: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = link;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn address_message(link: u32, lease: &Lease) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = lease.prefix;
    message.header.index = link;
    let host = u32::MAX.checked_shr(u32::from(lease.prefix)).unwrap_or(0);
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(lease.address)),
        AddressAttribute::Address(IpAddr::V4(lease.address)),
        AddressAttribute::Broadcast(Ipv4Addr::from_bits(lease.address.to_bits() | host)),
    ];
    message
}

fn route_message(link: u32, lease: &Lease, network: Ipv4Addr, prefix: u8, router: Ipv4Addr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Dhcp;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Oif(link),
        RouteAttribute::PrefSource(RouteAddress::Inet(lease.address)),
        RouteAttribute::Priority(METRIC),
    ];
    if prefix > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(network)));
    }
    if router.is_unspecified() {
        message.header.scope = RouteScope::Link;
    } else {
        // Clouds give addresses of 32 bits, from which no router is on the link.
        message.header.flags = RouteFlags::Onlink;
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(router)));
    }
    message
}

/// Sends a request and waits for the kernel's word on it.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}
