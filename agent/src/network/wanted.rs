//! What the kernel's network shall be: a configuration and what servers have given, as the kernel has it. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use dhcp::v4;
use netconfig::{Kind, Link as Entry, Method, State};
use netlink::{
    Address, Kind as LinkKind, Link, NewLink, NextHop, Origin, Route, RouteKind, Rule, Scope, TABLE_MAIN,
};

use super::bind::Binding;
use super::given::{Given, automatic, dhcp4, options4};
use super::settings::{self, Setting};

/// What links of ours carry in the kernel, so that they are known again after a restart.
pub(super) const MARK: &str = "holdfast network";

/// The metric of DHCP's routes on the first link; each further link has one more, so that the first one is preferred.
/// They come behind those that somebody sets without a metric.
const DHCP_METRIC: u32 = 100;

/// Where rules without a priority go: before the main table, in the order of the file.
const RULE_PRIORITY: u32 = 32_000;

/// The network as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Actual {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<Route>,
    pub(super) rules: Vec<Rule>,
}

/// The network as it shall be.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Links that are not there yet and can be made.
    pub(super) create: Vec<NewLink>,
    /// Links that are there, in the order of the file.
    pub(super) links: Vec<WantedLink>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<Route>,
    pub(super) rules: Vec<Rule>,
}

/// A link as it shall be. What is `None` is left as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct WantedLink {
    pub(super) index: u32,
    pub(super) name: Option<String>,
    pub(super) address: Option<Vec<u8>>,
    pub(super) mtu: Option<u32>,
    /// The bond or bridge that it is part of; `None` within: of nothing.
    pub(super) master: Option<Option<u32>>,
    /// What makes it another link altogether when it differs.
    pub(super) kind: Option<LinkKind>,
    /// To be set while it is off and has no members.
    pub(super) settings: Vec<Setting>,
}

/// What is wanted, as of `now`.
pub(super) fn wanted(
    state: &State,
    bindings: &[Binding],
    actual: &Actual,
    given: &Given,
    now: Duration,
) -> Wanted {
    let scene = Scene { state, bindings, actual, given, now };
    let mut wanted = Wanted { create: scene.create(), ..Wanted::default() };
    for (place, index) in bindings {
        let entry = &state.links[*place];
        if let Some(link) = actual.links.iter().find(|link| link.index == *index) {
            wanted.links.push(scene.link(entry, link));
            scene.addresses(entry, *index, &mut wanted.addresses);
        }
    }
    for (order, (place, index)) in (0..).zip(bindings) {
        scene.routes(&state.links[*place], *index, order, &wanted.addresses, &mut wanted.routes);
    }
    for route in &state.routes {
        let link = route.gateway.and_then(|gateway| scene.link_to(gateway, &wanted.addresses));
        if link.is_some() || route.kind != netconfig::RouteKind::Unicast {
            wanted.routes.push(own_route(route, link, None, &wanted.addresses, actual));
        }
    }
    wanted.routes.iter_mut().for_each(|route| *route = route.clone().normal());
    for (order, rule) in (0..).zip(state.links.iter().flat_map(|entry| &entry.rules)) {
        wanted.rules.extend(own_rules(rule, order));
    }
    wanted
}

struct Scene<'a> {
    state: &'a State,
    bindings: &'a [Binding],
    actual: &'a Actual,
    given: &'a Given,
    now: Duration,
}

impl Scene<'_> {
    /// The number of the link that an entry means.
    fn index_of(&self, id: &str) -> Option<u32> {
        let place = self.state.links.iter().position(|entry| entry.id == id)?;
        self.bindings.iter().find(|(bound, _)| *bound == place).map(|(_, index)| *index)
    }

    fn create(&self) -> Vec<NewLink> {
        let missing = |place: &usize| !self.bindings.iter().any(|(bound, _)| bound == place);
        let entries = self.state.links.iter().enumerate().filter(|(place, _)| missing(place));
        let new = entries.filter_map(|(_, entry)| {
            let address = entry.mac.as_ref().map(|mac| mac.0.clone());
            Some(NewLink {
                name: entry.name.clone(),
                kind: self.kind(entry)?,
                address,
                alias: MARK.to_owned(),
            })
        });
        new.collect()
    }

    fn kind(&self, entry: &Entry) -> Option<LinkKind> {
        match &entry.kind {
            Kind::Vlan { id, link } => self.index_of(link).map(|lower| LinkKind::Vlan { id: *id, lower }),
            Kind::Bond { params, .. } => Some(LinkKind::Bond { mode: settings::bond_mode(params) }),
            Kind::Bridge { .. } => Some(LinkKind::Bridge),
            Kind::Wireguard { .. } => Some(LinkKind::Wireguard),
            Kind::Physical | Kind::Loopback | Kind::Infiniband => None,
        }
    }

    fn link(&self, entry: &Entry, link: &Link) -> WantedLink {
        let name = if entry.rename { &entry.name } else { &link.name };
        let master = entry.master.as_deref().map(|id| self.index_of(id));
        // Nothing but `lo` itself is loopback, and it is left alone but for its addresses.
        if link.loopback {
            return WantedLink { index: link.index, ..WantedLink::default() };
        }
        let in_bond = entry.master.as_ref().and_then(|id| self.state.links.iter().find(|e| e.id == *id));
        let in_bond = in_bond.is_some_and(|master| matches!(master.kind, Kind::Bond { .. }));
        WantedLink {
            index: link.index,
            name: entry.rename.then(|| name.clone()),
            // A bond gives its members addresses.
            address: entry.mac.as_ref().filter(|_| !in_bond).map(|mac| mac.0.clone()),
            mtu: self.mtu(entry, link.index),
            // A master that is not there yet is waited for.
            master: match master {
                Some(None) => None,
                Some(master) => Some(master),
                None => Some(None),
            },
            kind: self.kind(entry),
            settings: settings::of(entry, self.state, name),
        }
    }

    fn mtu(&self, entry: &Entry, index: u32) -> Option<u32> {
        let of_subnet = || automatic(entry).find_map(|subnet| subnet.mtu);
        let of_lease = || {
            let lease = &self.given.four.get(&index)?.lease;
            lease.mtu.filter(|_| options4(entry).use_mtu.unwrap_or(true)).map(u32::from)
        };
        entry.mtu.or_else(of_subnet).or_else(of_lease)
    }

    fn addresses(&self, entry: &Entry, index: u32, list: &mut Vec<Address>) {
        let mut add = |address: IpAddr, prefix, lifetime, no_route| {
            let scope = if is_link_local(address) { Scope::Link } else { Scope::Global };
            let origin = Origin::Ours;
            list.push(Address {
                link: index,
                address,
                prefix,
                scope,
                origin,
                usable: true,
                lifetime,
                no_route,
            });
        };
        for subnet in automatic(entry) {
            if let (Method::Static { .. }, Some((address, prefix))) = (subnet.method, subnet.address) {
                add(address, prefix, None, false);
            }
        }
        let left =
            |end: Duration| u32::try_from(end.saturating_sub(self.now).as_secs()).unwrap_or(u32::MAX).max(1);
        if let Some(held) = self.given.four.get(&index) {
            let left = left(held.ends());
            add(held.lease.address.into(), held.lease.prefix, Some((left, left)), false);
        }
        if let Some(held) = self.given.six.get(&index)
            && let Some(address) = held.lease.address
        {
            let preferred = left(held.since.saturating_add(held.lease.preferred));
            // A lease says nothing of the network around its address: routers do (RFC 5942).
            add(address.into(), 128, Some((preferred, left(held.ends()))), true);
        }
    }

    fn routes(&self, entry: &Entry, index: u32, order: u32, addresses: &[Address], list: &mut Vec<Route>) {
        for subnet in automatic(entry) {
            let mut add = |route: &netconfig::Route| {
                list.push(own_route(route, Some(index), subnet.metric, addresses, self.actual));
            };
            if let Some(gateway) = subnet.gateway {
                add(&default_route(gateway));
            }
            subnet.routes.iter().for_each(&mut add);
        }
        if let Some(held) = self.given.four.get(&index)
            && options4(entry).use_routes.unwrap_or(true)
        {
            let metric = dhcp4(entry).and_then(|subnet| subnet.metric).unwrap_or(DHCP_METRIC + order);
            list.extend(leased_routes(held, index, metric));
        }
    }

    /// The link whose addresses are in one network with a router.
    fn link_to(&self, gateway: IpAddr, addresses: &[Address]) -> Option<u32> {
        let mut all = addresses.iter().chain(&self.actual.addresses);
        all.find(|address| is_in(gateway, address)).map(|address| address.link)
    }
}

fn leased_routes(held: &v4::Held, link: u32, metric: u32) -> Vec<Route> {
    let routes = held.lease.routes.iter().map(|(network, prefix, router)| Route {
        network: (*network).into(),
        prefix: *prefix,
        table: TABLE_MAIN,
        metric,
        next: NextHop {
            link: Some(link),
            gateway: Some(*router).filter(|router| !router.is_unspecified()).map(IpAddr::V4),
            // Clouds give addresses of 32 bits, from which no router is on the link.
            on_link: !router.is_unspecified(),
        },
        source: Some(held.lease.address.into()),
        mtu: None,
        kind: RouteKind::Unicast,
    });
    let mut routes: Vec<Route> = routes.collect();
    // Routes to the link itself first: routers are reached by them.
    routes.sort_by_key(|route| route.next.gateway.is_some());
    routes
}

fn default_route(gateway: IpAddr) -> netconfig::Route {
    let network = if gateway.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    netconfig::Route {
        network,
        prefix: 0,
        gateway: Some(gateway),
        metric: None,
        table: None,
        mtu: None,
        from: None,
        on_link: None,
        kind: netconfig::RouteKind::Unicast,
    }
}

fn own_route(
    route: &netconfig::Route,
    link: Option<u32>,
    metric: Option<u32>,
    addresses: &[Address],
    actual: &Actual,
) -> Route {
    let known = |gateway| {
        let mut own = addresses.iter().chain(&actual.addresses).filter(|a| Some(a.link) == link);
        own.any(|address| is_in(gateway, address))
    };
    // A router that no address is in one network with could not be used at all otherwise. Link-local ones always can.
    let on_link = route.on_link.unwrap_or_else(|| {
        route.gateway.is_some_and(|gateway| !is_link_local(gateway) && link.is_some() && !known(gateway))
    });
    Route {
        network: route.network,
        prefix: route.prefix,
        table: route.table.filter(|table| *table != 0).unwrap_or(TABLE_MAIN),
        metric: route.metric.or(metric).unwrap_or(0),
        next: NextHop { link, gateway: route.gateway, on_link },
        source: route.from,
        mtu: route.mtu,
        kind: match route.kind {
            netconfig::RouteKind::Unicast => RouteKind::Unicast,
            netconfig::RouteKind::Blackhole => RouteKind::Blackhole,
            netconfig::RouteKind::Unreachable => RouteKind::Unreachable,
            netconfig::RouteKind::Prohibit => RouteKind::Prohibit,
            netconfig::RouteKind::Throw => RouteKind::Throw,
        },
    }
}

/// A rule of the file; one that names no network is one for each family.
fn own_rules(rule: &netconfig::Rule, order: u32) -> Vec<Rule> {
    let named = rule.from.or(rule.to).map(|(network, _)| network.is_ipv6());
    let families = named.map_or(vec![false, true], |six| vec![six]);
    // All of a family is what the kernel has as no network.
    let network = |network: Option<(IpAddr, u8)>| network.filter(|(_, prefix)| *prefix > 0);
    let own = families.into_iter().map(|six| Rule {
        six,
        from: network(rule.from),
        to: network(rule.to),
        table: rule.table.unwrap_or(TABLE_MAIN),
        priority: rule.priority.unwrap_or(RULE_PRIORITY + order),
        mark: rule.mark.unwrap_or(0),
        tos: rule.tos.unwrap_or(0),
    });
    own.collect()
}

/// Whether an address is in the network of one of ours.
fn is_in(other: IpAddr, own: &Address) -> bool {
    match (other, own.address) {
        (IpAddr::V4(other), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(own.prefix.min(32))).unwrap_or(0);
            (other.to_bits() ^ address.to_bits()) & mask == 0
        }
        (IpAddr::V6(other), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(own.prefix.min(128))).unwrap_or(0);
            (other.to_bits() ^ address.to_bits()) & mask == 0
        }
        _ => false,
    }
}

/// An address that reaches no farther than the link.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
