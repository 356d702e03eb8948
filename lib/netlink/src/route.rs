//! Routes.

use std::io;
use std::net::IpAddr;

use crate::OURS;
use crate::attributes::{
    Attributes, as_address, as_u16, as_u32, attributes, family, find, is_six, unspecified,
};
use crate::socket::{APPEND, CREATE, Kernel, Message};

const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;

// RTA_*, include/uapi/linux/rtnetlink.h
const DST: u16 = 1;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const PREFSRC: u16 = 7;
const METRICS: u16 = 8;
const MULTIPATH: u16 = 9;
const TABLE: u16 = 15;
const VIA: u16 = 18;
/// `RTAX_MTU`
const METRIC_MTU: u16 = 2;
/// `RTNH_F_ONLINK`
const ONLINK: u32 = 4;

/// The table that is asked when no rule says otherwise.
pub const TABLE_MAIN: u32 = 254;

/// The metric that the kernel gives an IPv6 route without one (`IP6_RT_PRIO_USER`).
const METRIC_SIX: u32 = 1024;

/// What becomes of packets (`RTN_*`).
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
    /// Handed to the next table.
    Throw,
}

impl RouteKind {
    fn number(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Throw => 9,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Self::Unicast, Self::Blackhole, Self::Unreachable, Self::Prohibit, Self::Throw]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// Where packets go first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// Number of the link; `None` when they go nowhere.
    pub link: Option<u32>,
    /// The router; `None`: the network is on the link.
    pub gateway: Option<IpAddr>,
    /// The router is on the link although no address says so.
    pub on_link: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network.
    pub network: IpAddr,
    /// The length of its prefix.
    pub prefix: u8,
    /// The table that it is in.
    pub table: u32,
    /// Smaller ones come first.
    pub metric: u32,
    /// Where packets go first.
    pub next: NextHop,
    /// The address to send from.
    pub source: Option<IpAddr>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// What becomes of packets.
    pub kind: RouteKind,
}

impl Route {
    /// As the kernel will have it, so that both can be compared.
    pub fn normal(mut self) -> Self {
        let bits = if self.network.is_ipv6() { 128 } else { 32 };
        let host = bits - u32::from(self.prefix).min(bits);
        self.network = match self.network {
            IpAddr::V4(network) => {
                IpAddr::V4((network.to_bits() & u32::MAX.checked_shl(host).unwrap_or(0)).into())
            }
            IpAddr::V6(network) => {
                IpAddr::V6((network.to_bits() & u128::MAX.checked_shl(host).unwrap_or(0)).into())
            }
        };
        if self.network.is_ipv6() && self.metric == 0 {
            self.metric = METRIC_SIX;
        }
        if self.kind != RouteKind::Unicast {
            // The kernel ties IPv6 routes that lead nowhere to the loopback.
            self.next = NextHop::default();
        }
        self
    }
}

impl Kernel {
    /// Our routes of all tables. One that has several next hops is as many routes.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        self.dump(GETROUTE, &[0; 12], |message| read(message).unwrap_or_default())
    }

    /// Adds a route beside those to the same network. One that is there already is no error.
    pub fn add_route(&mut self, route: &Route) -> io::Result<()> {
        match self.request(NEWROUTE, CREATE | APPEND, &header(route), route_attributes(route)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Removes a route. One that is gone already is no error.
    pub fn remove_route(&mut self, route: &Route) -> io::Result<()> {
        match self.request(DELROUTE, 0, &header(route), route_attributes(route)) {
            // ESRCH
            Err(error) if error.raw_os_error() == Some(3) => Ok(()),
            result => result,
        }
    }
}

/// `struct rtmsg`
fn header(route: &Route) -> [u8; 12] {
    let local = route.kind == RouteKind::Unicast && route.next.gateway.is_none() && route.network.is_ipv4();
    // RT_SCOPE_LINK for what needs no router, which the kernel wants for IPv4.
    let scope = if local { 253 } else { 0 };
    let flags = if route.next.on_link { ONLINK } else { 0 }.to_ne_bytes();
    // The attribute has the table, which may not fit here.
    [
        family(route.network.is_ipv6()),
        route.prefix,
        0,
        0,
        0,
        OURS,
        scope,
        route.kind.number(),
        flags[0],
        flags[1],
        flags[2],
        flags[3],
    ]
}

fn route_attributes(route: &Route) -> Attributes {
    let six = route.network.is_ipv6();
    let attributes = Attributes::default()
        .u32(TABLE, route.table)
        .u32(PRIORITY, route.metric)
        .with(Some(route.network).filter(|_| route.prefix > 0), |attributes, network| {
            attributes.address(DST, network)
        })
        .with(route.next.link, |attributes, link| attributes.u32(OIF, link))
        .with(route.source, |attributes, source| attributes.address(PREFSRC, source))
        .with(route.mtu, |attributes, mtu| {
            attributes.nested(METRICS, &Attributes::default().u32(METRIC_MTU, mtu))
        });
    match route.next.gateway {
        Some(gateway) if gateway.is_ipv6() == six => attributes.address(GATEWAY, gateway),
        // RFC 5549: an IPv4 network behind an IPv6 router. struct rtvia: family, address.
        Some(IpAddr::V6(gateway)) => {
            let value = [u16::from(family(true)).to_ne_bytes().as_slice(), &gateway.octets()].concat();
            attributes.bytes(VIA, &value)
        }
        _ => attributes,
    }
}

fn read((kind, body): Message<'_>) -> Option<Vec<Route>> {
    let rest = body.get(12..).filter(|_| kind == NEWROUTE)?;
    let six = is_six(body[0])?;
    let kind = RouteKind::of(body[7]).filter(|_| body[5] == OURS)?;
    let mut route = Route {
        network: unspecified(six),
        prefix: body[1],
        table: u32::from(body[4]),
        metric: 0,
        next: next_hop(rest, as_u32(&body[8..])?),
        source: None,
        mtu: None,
        kind,
    };
    let mut hops = Vec::new();
    for (kind, value) in attributes(rest) {
        match kind {
            DST => route.network = as_address(value)?,
            OIF => route.next.link = as_u32(value),
            PRIORITY => route.metric = as_u32(value)?,
            PREFSRC => route.source = as_address(value),
            METRICS => route.mtu = find(value, METRIC_MTU).and_then(as_u32),
            TABLE => route.table = as_u32(value)?,
            MULTIPATH => hops = multipath(value),
            _ => {}
        }
    }
    if hops.is_empty() {
        return Some(vec![route.normal()]);
    }
    Some(hops.into_iter().map(|next| Route { next, ..route.clone() }.normal()).collect())
}

fn next_hop(bytes: &[u8], flags: u32) -> NextHop {
    let gateway = find(bytes, GATEWAY).and_then(as_address);
    let via = find(bytes, VIA).and_then(|value| as_address(value.get(2..)?));
    NextHop { link: None, gateway: gateway.or(via), on_link: flags & ONLINK != 0 }
}

/// Each `struct rtnexthop` (length, flags, hops, link) with its attributes.
fn multipath(mut bytes: &[u8]) -> Vec<NextHop> {
    let mut hops = Vec::new();
    while let Some((length, link)) = as_u16(bytes).zip(bytes.get(4..).and_then(as_u32)) {
        let Some(rest) = bytes.get(8..usize::from(length)) else { break };
        let flags = u32::from(bytes[2]);
        hops.push(NextHop { link: Some(link), ..next_hop(rest, flags) });
        bytes = bytes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(network: &str, gateway: Option<&str>) -> Route {
        let (network, prefix) = network.split_once('/').unwrap();
        Route {
            network: network.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
            table: 1000,
            metric: 7,
            next: NextHop { link: Some(3), gateway: gateway.map(|g| g.parse().unwrap()), on_link: true },
            source: None,
            mtu: Some(1400),
            kind: RouteKind::Unicast,
        }
    }

    #[test]
    fn what_is_set_is_read_back() {
        for route in [
            route("10.0.0.0/8", Some("10.0.0.1")),
            route("0.0.0.0/0", Some("fe80::1")),
            route("2001:db8::/32", None),
            Route { kind: RouteKind::Blackhole, ..route("192.0.2.0/24", None) },
        ] {
            let bytes = [header(&route).as_slice(), &route_attributes(&route).into_bytes()].concat();
            assert_eq!(read((NEWROUTE, &bytes)), Some(vec![route.normal()]));
            for length in 0..bytes.len() {
                read((NEWROUTE, &bytes[..length]));
            }
        }
    }

    #[test]
    fn several_next_hops_are_several_routes() {
        let hop = |link: u8, gateway: &str| {
            let gateway = Attributes::default().address(GATEWAY, gateway.parse().unwrap()).into_bytes();
            let length = u16::try_from(8 + gateway.len()).unwrap().to_ne_bytes();
            [&length, [0, 0].as_slice(), &[link, 0, 0, 0], &gateway].concat()
        };
        let hops = [hop(2, "fe80::1"), hop(3, "fe80::2")].concat();
        let attributes = Attributes::default().bytes(MULTIPATH, &hops).u32(PRIORITY, 1024);
        let mut head = header(&route("::/0", None));
        head[4] = 254;
        let bytes = [head.as_slice(), &attributes.into_bytes()].concat();
        let next: Vec<_> = read((NEWROUTE, &bytes)).unwrap().into_iter().map(|r| (r.table, r.next)).collect();
        let expected = |link, gateway: &str| {
            (254, NextHop { link: Some(link), gateway: Some(gateway.parse().unwrap()), on_link: false })
        };
        assert_eq!(next, [expected(2, "fe80::1"), expected(3, "fe80::2")]);
    }

    #[test]
    fn routes_of_others_are_not_seen() {
        let route = route("10.0.0.0/8", None);
        let mut head = header(&route);
        head[5] = 3;
        let bytes = [head.as_slice(), &route_attributes(&route).into_bytes()].concat();
        assert_eq!(read((NEWROUTE, &bytes)), None);
    }

    #[test]
    fn a_route_is_compared_as_the_kernel_has_it() {
        let normal = Route { metric: 0, ..route("2001:db8::5/32", None) }.normal();
        assert_eq!((normal.network.to_string(), normal.metric), ("2001:db8::".to_owned(), 1024));
        assert_eq!(route("10.1.2.3/8", None).normal().network.to_string(), "10.0.0.0");
        assert_eq!(route("10.1.2.3/0", None).normal().network.to_string(), "0.0.0.0");
    }
}
