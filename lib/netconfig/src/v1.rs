//! Version 1: a list of typed entries.

use userdata::{At, KeySpec, Use};

use crate::address::{host_prefix, interface_name, ip, mac, netmask, with_prefix};
use crate::state::{Dhcp, Dns, Kind, Link, Method, Route, RouteKind, Select, State, Subnet};
use crate::{field, params, take};

/// What all entries that are interfaces share.
const COMMON: &str = "type name mac_address mtu subnets accept-ra wakeonlan optional keep_configuration";

pub(crate) fn read(at: &At<'_>, state: &mut State) {
    let table: [KeySpec<State>; 2] =
        [KeySpec { name: "version", use_: Use::Quiet, doc: "" }, take("config", entries)];
    at.section("a network configuration of version 1", &table, state);
    if field(at, "config").is_none() {
        at.error("has no 'config': the list of its entries");
    }
}

fn entries(at: &At<'_>, state: &mut State) {
    let mut dns_of_links = Vec::new();
    for entry in at.list().into_iter().flatten() {
        let Some(kind) = field(&entry, "type") else {
            entry.error("has no 'type'");
            continue;
        };
        let Some(word) = kind.text() else { continue };
        match word {
            "nameserver" => {
                keys(&entry, "", "type address search interface");
                if let Some(dns) = nameserver(&entry) {
                    match field(&entry, "interface").and_then(|at| Some((at.text()?.to_owned(), at))) {
                        Some((name, at)) => dns_of_links.push((name, dns, at)),
                        None => {
                            state.dns.servers.extend(dns.servers);
                            state.dns.search.extend(dns.search);
                        }
                    }
                }
            }
            "route" => state.routes.extend(route(&entry, "type id ")),
            "physical" | "loopback" | "infiniband" | "vlan" | "bond" | "bridge" => {
                state.links.extend(link(&entry, word));
            }
            other => kind.error_with_hint(
                format!("'{other}' is not a type of entry"),
                "physical, loopback, infiniband, vlan, bond, bridge, nameserver and route are",
            ),
        }
    }
    for (name, dns, at) in dns_of_links {
        match state.links.iter_mut().find(|link| link.id == name) {
            Some(link) => link.dns = Some(dns),
            None => at.error(format!("there is no interface '{name}'")),
        }
    }
    adopt(state);
}

/// Tells the members of bonds and bridges so; names that have no entry mean the hardware of that name.
fn adopt(state: &mut State) {
    let members: Vec<(String, String, userdata::Mark)> = state
        .links
        .iter()
        .filter(|link| !matches!(link.kind, Kind::Vlan { .. }))
        .flat_map(|link| {
            link.needs().into_iter().map(|member| (member.to_owned(), link.id.clone(), link.mark))
        })
        .collect();
    for (member, master, mark) in members {
        let link = match state.links.iter().position(|link| link.id == member) {
            Some(at) => &mut state.links[at],
            None => {
                state.links.push(Link { id: member.clone(), name: member, mark, ..Link::default() });
                let last = state.links.len() - 1;
                &mut state.links[last]
            }
        };
        link.master.get_or_insert(master);
    }
}

fn link(at: &At<'_>, kind: &str) -> Option<Link> {
    let own = match kind {
        "vlan" => "vlan_link vlan_id",
        "bond" => "bond_interfaces params",
        "bridge" => "bridge_interfaces params",
        _ => "params",
    };
    keys(at, COMMON, own);
    let name = required(at, "name")?;
    interface_name(&name, name.text()?);
    let name = name.text()?.to_owned();
    let address = field(at, "mac_address").and_then(|at| mac(&at));
    let members = |key: &str| -> Vec<String> {
        let Some(list) = required(at, key) else { return Vec::new() };
        list.list_or_one().iter().filter_map(|item| item.text().map(str::to_owned)).collect()
    };
    let settings = |specs| field(at, "params").map(|at| params::read(&at, specs, 1)).unwrap_or_default();
    let kind = match kind {
        "loopback" => Kind::Loopback,
        "infiniband" => Kind::Infiniband,
        "vlan" => Kind::Vlan {
            id: u16::try_from(required(at, "vlan_id")?.int(0..=4094)?).unwrap_or(0),
            link: required(at, "vlan_link")?.text()?.to_owned(),
        },
        "bond" => Kind::Bond { members: members("bond_interfaces"), params: settings(params::BOND) },
        "bridge" => Kind::Bridge { members: members("bridge_interfaces"), params: settings(params::BRIDGE) },
        _ => Kind::Physical,
    };
    let hardware = matches!(kind, Kind::Physical | Kind::Infiniband);
    let subnets = field(at, "subnets").and_then(|at| at.list()).into_iter().flatten();
    let flag = |key: &str| field(at, key).and_then(|at| at.truth());
    Some(Link {
        id: name.clone(),
        name,
        kind,
        rename: hardware && address.is_some(),
        select: Select { mac: address.clone().filter(|_| hardware), ..Select::default() },
        mac: address.filter(|_| !hardware),
        mtu: field(at, "mtu").and_then(|at| number(&at)),
        accept_ra: flag("accept-ra"),
        wake_on_lan: field(at, "wakeonlan").and_then(|at| wake_on_lan(&at)),
        optional: flag("optional"),
        keep_configuration: flag("keep_configuration"),
        subnets: subnets.filter_map(|at| subnet(&at)).collect(),
        mark: at.node.mark,
        ..Link::default()
    })
}

const METHODS: &[(&str, Method)] = &[
    ("dhcp", Method::Dhcp(Dhcp::Any)),
    ("dhcp4", Method::Dhcp(Dhcp::Four)),
    ("dhcp6", Method::Dhcp(Dhcp::Six)),
    ("ipv6_dhcpv6-stateful", Method::Dhcp(Dhcp::SixStateful)),
    ("ipv6_dhcpv6-stateless", Method::Dhcp(Dhcp::SixStateless)),
    ("ipv6_slaac", Method::Slaac),
    ("static", Method::Static { six: false }),
    ("static6", Method::Static { six: true }),
    ("manual", Method::Manual),
];

/// The word that version 1 has for a method.
pub(crate) fn method_word(method: Method) -> &'static str {
    METHODS.iter().find(|(_, known)| *known == method).map_or("manual", |(word, _)| word)
}

fn subnet(at: &At<'_>) -> Option<Subnet> {
    keys(
        at,
        "type address ip_address netmask gateway metric mtu control broadcast",
        "dns_nameservers dns_search routes ipv4 ipv6",
    );
    let method = required(at, "type")?.word(METHODS)?;
    let mut address = None;
    if matches!(method, Method::Static { .. }) {
        let text = field(at, "address").or_else(|| field(at, "ip_address"));
        let Some(text) = text else {
            at.error("a static subnet has no 'address'");
            return None;
        };
        let (ip, prefix) = with_prefix(&text)?;
        let mask = field(at, "netmask");
        let prefix = match (prefix, mask) {
            (Some(prefix), _) => prefix,
            (None, Some(mask)) => netmask(&mask, ip)?,
            (None, None) => default_prefix(&text, ip),
        };
        address = Some((ip, prefix));
    }
    let routes = field(at, "routes").and_then(|at| at.list()).into_iter().flatten();
    Some(Subnet {
        method,
        address,
        gateway: field(at, "gateway").and_then(|at| ip(&at)),
        metric: field(at, "metric").and_then(|at| number(&at)),
        mtu: field(at, "mtu").and_then(|at| number(&at)),
        control: field(at, "control").and_then(|at| at.text().map(str::to_owned)),
        broadcast: field(at, "broadcast").and_then(|at| {
            at.warn("is not supported by this version: it is the last address of the network");
            ip(&at)
        }),
        dns: Dns {
            servers: words(at, "dns_nameservers")
                .iter()
                .filter_map(|(at, word)| address_word(at, word))
                .collect(),
            search: words(at, "dns_search").into_iter().map(|(_, word)| word).collect(),
        },
        routes: routes.filter_map(|at| route(&at, "")).collect(),
        ..Subnet::default()
    })
}

/// cloud-init's rule for an address without a netmask.
fn default_prefix(at: &At<'_>, address: std::net::IpAddr) -> u8 {
    let prefix = if address.is_ipv4() { 24 } else { 64 };
    at.warn(format!("has no prefix length: /{prefix} is taken"));
    prefix
}

fn route(at: &At<'_>, more: &str) -> Option<Route> {
    keys(at, more, "destination network netmask prefix gateway metric mtu table");
    let target = field(at, "network").or_else(|| field(at, "destination"));
    let Some(target) = target else {
        at.error("a route has no 'destination'");
        return None;
    };
    let gateway = field(at, "gateway").and_then(|at| ip(&at));
    let (network, prefix) = if target.text()? == "default" {
        let six = gateway.is_some_and(|gateway| gateway.is_ipv6());
        crate::address::network(&target, six)?
    } else {
        let (network, prefix) = with_prefix(&target)?;
        let prefix = match (prefix, field(at, "prefix"), field(at, "netmask")) {
            (Some(prefix), ..) => prefix,
            (None, Some(prefix), _) => {
                u8::try_from(prefix.int(0..=i64::from(host_prefix(network)))?).unwrap_or_default()
            }
            (None, None, Some(mask)) => netmask(&mask, network)?,
            (None, None, None) => default_prefix(&target, network),
        };
        (network, prefix)
    };
    Some(Route {
        network,
        prefix,
        gateway,
        metric: field(at, "metric").and_then(|at| number(&at)),
        table: field(at, "table").and_then(|at| number(&at)),
        mtu: field(at, "mtu").and_then(|at| number(&at)),
        from: None,
        on_link: None,
        kind: RouteKind::Unicast,
    })
}

fn nameserver(at: &At<'_>) -> Option<Dns> {
    let list = |key: &str| field(at, key).map(|at| at.list_or_one()).unwrap_or_default();
    required(at, "address")?;
    Some(Dns {
        servers: list("address").iter().filter_map(ip).collect(),
        search: list("search").iter().filter_map(|at| at.text().map(str::to_owned)).collect(),
    })
}

/// A list of words, or words with spaces between them.
fn words<'a>(at: &At<'a>, key: &str) -> Vec<(At<'a>, String)> {
    let items = field(at, key).map(|at| at.list_or_one()).unwrap_or_default();
    let split = |item: At<'a>| {
        let text = item.text().unwrap_or_default();
        text.split_whitespace().map(|word| (item.clone(), word.to_owned())).collect::<Vec<_>>()
    };
    items.into_iter().flat_map(split).collect()
}

fn address_word(at: &At<'_>, word: &str) -> Option<std::net::IpAddr> {
    let address = word.parse().ok();
    if address.is_none() {
        at.error(format!("'{word}' is not an IP address"));
    }
    address
}

fn required<'a>(at: &At<'a>, key: &str) -> Option<At<'a>> {
    let value = field(at, key);
    if value.is_none() {
        at.error(format!("has no '{key}'"));
    }
    value
}

/// Whether a packet may switch the machine on, which is a matter of its firmware.
pub(crate) fn wake_on_lan(at: &At<'_>) -> Option<bool> {
    let wanted = at.truth();
    if wanted == Some(true) {
        at.warn("is not supported by this version and is left out");
    }
    wanted
}

pub(crate) fn number(at: &At<'_>) -> Option<u32> {
    at.int(0..=i64::from(u32::MAX)).and_then(|number| u32::try_from(number).ok())
}

/// Reports the keys that neither list names.
pub(crate) fn keys(at: &At<'_>, common: &str, own: &str) {
    let known = || common.split_whitespace().chain(own.split_whitespace());
    at.knows(known());
    for (name, mark, value) in at.map().into_iter().flatten() {
        if !known().any(|key| key == name) {
            let near = userdata::nearest(name, known());
            let hint = near.map_or_else(String::new, |near| format!("did you mean '{near}'?"));
            value.add(userdata::Severity::Error, mark, format!("'{name}' is not a key of this entry"), &hint);
        }
    }
}
