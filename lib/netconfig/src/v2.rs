//! Version 2: maps of interfaces by their ids, in netplan's form.

use std::net::IpAddr;

use userdata::{At, KeySpec, Use};

use crate::address::{host_prefix, interface_name, ip, mac, network, with_prefix};
use crate::state::{
    Dhcp, DhcpOptions, Dns, Kind, Link, Method, Peer, Route, RouteKind, Rule, Secret, Select, State, Subnet,
};
use crate::v1::{number, wake_on_lan};
use crate::{field, is_empty, params, take};

pub(crate) fn read(at: &At<'_>, state: &mut State) {
    let table: Vec<KeySpec<State>> = vec![
        KeySpec { name: "version", use_: Use::Quiet, doc: "" },
        KeySpec { name: "renderer", use_: Use::Quiet, doc: "" },
        take("ethernets", |at, state| interfaces(at, state, Section::Ethernets)),
        take("bonds", |at, state| interfaces(at, state, Section::Bonds)),
        take("bridges", |at, state| interfaces(at, state, Section::Bridges)),
        take("vlans", |at, state| interfaces(at, state, Section::Vlans)),
        take("tunnels", |at, state| interfaces(at, state, Section::Tunnels)),
        KeySpec { name: "wifis", use_: Use::NotApplicable, doc: "there is no driver for wireless networks" },
        KeySpec { name: "modems", use_: Use::NotApplicable, doc: "there is no driver for modems" },
        KeySpec { name: "vrfs", use_: Use::Unsupported, doc: "" },
        KeySpec { name: "dummy-devices", use_: Use::Unsupported, doc: "" },
        KeySpec { name: "virtual-ethernets", use_: Use::Unsupported, doc: "" },
        KeySpec { name: "nm-devices", use_: Use::NotApplicable, doc: "there is no NetworkManager" },
        KeySpec { name: "openvswitch", use_: Use::NotApplicable, doc: "there is no Open vSwitch" },
    ];
    at.section("a network configuration of version 2", &table, state);
    for at_master in 0..state.links.len() {
        let master = state.links[at_master].id.clone();
        if matches!(state.links[at_master].kind, Kind::Vlan { .. }) {
            continue;
        }
        let members: Vec<String> = state.links[at_master].needs().into_iter().map(str::to_owned).collect();
        for link in state.links.iter_mut().filter(|link| members.contains(&link.id)) {
            link.master.get_or_insert(master.clone());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Ethernets,
    Bonds,
    Bridges,
    Vlans,
    Tunnels,
}

/// An interface on its way.
#[derive(Default)]
struct Draft {
    link: Link,
    dhcp4: bool,
    dhcp6: bool,
    options: [(DhcpOptions, Option<u32>); 2],
    addresses: Vec<(IpAddr, u8)>,
    gateways: [Option<IpAddr>; 2],
    routes: Vec<Route>,
}

fn interfaces(at: &At<'_>, state: &mut State, section: Section) {
    let mut table = common();
    table.extend(match section {
        Section::Ethernets => vec![
            take("match", |at, draft: &mut Draft| select(at, &mut draft.link.select)),
            take("set-name", |at, draft| {
                if let Some(name) = at.text().filter(|name| interface_name(at, name)) {
                    draft.link.name = name.to_owned();
                    draft.link.rename = true;
                }
            }),
            take("wakeonlan", |at, draft| draft.link.wake_on_lan = wake_on_lan(at)),
        ],
        _ => Vec::new(),
    });
    // Read below, because they belong together.
    let own: &[&str] = match section {
        Section::Ethernets => &[],
        Section::Bonds | Section::Bridges => &["interfaces", "parameters"],
        Section::Vlans => &["id", "link"],
        Section::Tunnels => &["mode", "key", "keys", "port", "mark", "peers"],
    };
    table.extend(own.iter().map(|name| KeySpec { name, use_: Use::Quiet, doc: "" }));
    for (id, _, at) in at.map().into_iter().flatten() {
        let mut draft = Draft::default();
        draft.link.mark = at.node.mark;
        draft.link.keyed = section == Section::Ethernets;
        (draft.link.id, draft.link.name) = (id.to_owned(), id.to_owned());
        if !at.is_null() {
            at.section("an interface", &table, &mut draft);
        }
        let kind = match section {
            Section::Ethernets => Some(Kind::Physical),
            Section::Vlans => vlan(&at),
            Section::Bonds => Some(Kind::Bond { members: members(&at), params: settings(&at, params::BOND) }),
            Section::Bridges => {
                Some(Kind::Bridge { members: members(&at), params: settings(&at, params::BRIDGE) })
            }
            Section::Tunnels => wireguard(&at),
        };
        let Some(kind) = kind else { continue };
        if section != Section::Ethernets || draft.link.select == Select::default() {
            interface_name(&at, &draft.link.name);
        }
        if draft.link.rename && draft.link.select == Select::default() {
            at.error_with_hint("'set-name' needs a 'match'", "match: {macaddress: ...}");
        }
        state.links.push(draft.finish(kind));
    }
}

fn common() -> Vec<KeySpec<Draft>> {
    let mut table = vec![
        take("dhcp4", |at, draft: &mut Draft| draft.dhcp4 = at.truth().unwrap_or_default()),
        take("dhcp6", |at, draft| draft.dhcp6 = at.truth().unwrap_or_default()),
        take("dhcp4-overrides", |at, draft| {
            at.section("DHCP overrides", &overrides(), &mut draft.options[0])
        }),
        take("dhcp6-overrides", |at, draft| {
            at.section("DHCP overrides", &overrides(), &mut draft.options[1])
        }),
        take("addresses", addresses),
        take("gateway4", |at, draft| draft.gateways[0] = gateway(at, false)),
        take("gateway6", |at, draft| draft.gateways[1] = gateway(at, true)),
        take("routes", |at, draft| {
            draft.routes.extend(at.list().into_iter().flatten().filter_map(|at| route(&at)))
        }),
        take("routing-policy", |at, draft| {
            draft.link.rules.extend(at.list().into_iter().flatten().map(|at| {
                let mut rule = Rule::default();
                at.section("a policy rule", &rules(), &mut rule);
                rule
            }));
        }),
        take("nameservers", |at, draft| draft.link.dns = Some(nameservers(at))),
        take("mtu", |at, draft| draft.link.mtu = number(at)),
        take("macaddress", |at, draft| draft.link.mac = mac(at)),
        take("accept-ra", |at, draft| draft.link.accept_ra = at.truth()),
        take("optional", |at, draft| draft.link.optional = at.truth()),
        take("critical", |at, draft| draft.link.keep_configuration = at.truth()),
        KeySpec { name: "renderer", use_: Use::Quiet, doc: "" },
    ];
    const UNSUPPORTED: &str = "activation-mode delay-virtual-functions-rebind dhcp-identifier embedded-switch-mode \
         emit-lldp generic-receive-offload generic-segmentation-offload ignore-carrier infiniband-mode \
         ipv6-address-generation ipv6-address-token ipv6-mtu ipv6-privacy large-receive-offload link-local \
         neigh-suppress optional-addresses ra-overrides receive-checksum-offload tcp-segmentation-offload \
         tcp6-segmentation-offload transmit-checksum-offload virtual-function-count hairpin port-mac-learning";
    table.extend(UNSUPPORTED.split_whitespace().map(|name| KeySpec {
        name,
        use_: Use::Unsupported,
        doc: "",
    }));
    table.push(KeySpec { name: "openvswitch", use_: Use::NotApplicable, doc: "there is no Open vSwitch" });
    table.push(KeySpec { name: "auth", use_: Use::Refused, doc: "" });
    table
}

impl Draft {
    /// As subnets, in the order and with the companions that cloud-init gives them: name servers go with the first
    /// address, each gateway with the first address of its family, routes with the first subnet.
    fn finish(mut self, kind: Kind) -> Link {
        let wanted = [(self.dhcp4, Dhcp::Four), (self.dhcp6, Dhcp::Six)];
        for ((wanted, dhcp), (options, metric)) in wanted.into_iter().zip(self.options) {
            if wanted {
                let method = Method::Dhcp(dhcp);
                self.link.subnets.push(Subnet { method, metric, dhcp: options, ..Subnet::default() });
            }
        }
        let mut dns = self.link.dns.clone();
        for address in self.addresses {
            self.link.subnets.push(Subnet {
                method: Method::Static { six: false },
                gateway: self.gateways[usize::from(address.0.is_ipv6())].take(),
                address: Some(address),
                dns: dns.take().unwrap_or_default(),
                ..Subnet::default()
            });
        }
        if !self.routes.is_empty() {
            if self.link.subnets.is_empty() {
                self.link.subnets.push(Subnet::default());
            }
            self.link.subnets[0].routes = self.routes;
        }
        self.link.kind = kind;
        self.link
    }
}

fn select(at: &At<'_>, select: &mut Select) {
    let table: [KeySpec<Select>; 3] = [
        take("macaddress", |at, select| select.mac = mac(at)),
        take("name", |at, select| select.name = at.text().map(str::to_owned)),
        take("driver", |at, select| {
            select.drivers = at.list_or_one().iter().filter_map(|at| at.text().map(str::to_owned)).collect();
        }),
    ];
    at.section("'match'", &table, select);
}

fn overrides() -> Vec<KeySpec<(DhcpOptions, Option<u32>)>> {
    vec![
        take("route-metric", |at, (_, metric): &mut (DhcpOptions, _)| *metric = number(at)),
        take("use-dns", |at, (options, _)| options.use_dns = at.truth()),
        take("use-domains", |at, (options, _)| options.use_domains = at.text().map(str::to_owned)),
        take("use-ntp", |at, (options, _)| options.use_ntp = at.truth()),
        take("use-mtu", |at, (options, _)| options.use_mtu = at.truth()),
        take("use-routes", |at, (options, _)| options.use_routes = at.truth()),
        take("use-hostname", |at, (options, _)| options.use_hostname = at.truth()),
        take("send-hostname", |at, (options, _)| options.send_hostname = at.truth()),
        take("hostname", |at, (options, _)| options.hostname = at.text().map(str::to_owned)),
    ]
}

/// A list of addresses, each as text or as a map from the address to its options.
fn addresses(at: &At<'_>, draft: &mut Draft) {
    for item in at.list().into_iter().flatten() {
        if let Some((address, prefix)) = item.map_or_text() {
            match prefix {
                Some(prefix) => draft.addresses.push((address, prefix)),
                None => item.error_with_hint("has no prefix length", "as in 192.0.2.10/24"),
            }
        }
    }
}

trait MapOrText {
    fn map_or_text(&self) -> Option<(IpAddr, Option<u8>)>;
}

impl MapOrText for At<'_> {
    fn map_or_text(&self) -> Option<(IpAddr, Option<u8>)> {
        if !self.is_map() {
            return with_prefix(self);
        }
        let (text, _, options) = self.map()?.next()?;
        if !is_empty(options.node) && !options.is_null() {
            options.warn("the options of an address are not supported by this version and are left out");
        }
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= host_prefix(address));
        Some((address, prefix))
    }
}

fn gateway(at: &At<'_>, six: bool) -> Option<IpAddr> {
    let address = ip(at)?;
    if address.is_ipv6() != six {
        at.error(format!("must be an IPv{} address", if six { 6 } else { 4 }));
        return None;
    }
    Some(address)
}

fn nameservers(at: &At<'_>) -> Dns {
    let mut dns = Dns::default();
    let table: [KeySpec<Dns>; 2] = [
        take("addresses", |at, dns| dns.servers = at.list_or_one().iter().filter_map(ip).collect()),
        take("search", |at, dns| {
            dns.search = at.list_or_one().iter().filter_map(|at| at.text().map(str::to_owned)).collect();
        }),
    ];
    at.section("'nameservers'", &table, &mut dns);
    dns
}

#[derive(Default)]
struct RouteDraft {
    via: Option<IpAddr>,
    from: Option<IpAddr>,
    metric: Option<u32>,
    table: Option<u32>,
    mtu: Option<u32>,
    on_link: Option<bool>,
    kind: RouteKind,
}

fn route(at: &At<'_>) -> Option<Route> {
    let unsupported = |name| KeySpec { name, use_: Use::Unsupported, doc: "" };
    let table: [KeySpec<RouteDraft>; 12] = [
        KeySpec { name: "to", use_: Use::Quiet, doc: "" },
        take("via", |at, route: &mut RouteDraft| route.via = ip(at)),
        take("from", |at, route| route.from = ip(at)),
        take("metric", |at, route| route.metric = number(at)),
        take("table", |at, route| route.table = number(at)),
        take("mtu", |at, route| route.mtu = number(at)),
        take("on-link", |at, route| route.on_link = at.truth()),
        take("type", |at, route| {
            route.kind = at
                .word(&[
                    ("unicast", RouteKind::Unicast),
                    ("blackhole", RouteKind::Blackhole),
                    ("unreachable", RouteKind::Unreachable),
                    ("prohibit", RouteKind::Prohibit),
                    ("throw", RouteKind::Throw),
                ])
                .unwrap_or_default();
        }),
        unsupported("scope"),
        unsupported("congestion-window"),
        unsupported("advertised-receive-window"),
        unsupported("advertised-mss"),
    ];
    let mut draft = RouteDraft::default();
    at.section("a route", &table, &mut draft);
    let Some(to) = field(at, "to") else {
        if at.is_map() {
            at.error("a route has no 'to'");
        }
        return None;
    };
    let (network, prefix) = network(&to, draft.via.is_some_and(|via| via.is_ipv6()))?;
    if draft.via.is_some_and(|via| via.is_ipv6() != network.is_ipv6()) {
        at.error("'to' and 'via' are not of the same family");
        return None;
    }
    let RouteDraft { via: gateway, from, metric, table, mtu, on_link, kind } = draft;
    Some(Route { network, prefix, gateway, metric, table, mtu, from, on_link, kind })
}

fn rules() -> Vec<KeySpec<Rule>> {
    vec![
        take("from", |at, rule: &mut Rule| rule.from = network(at, false)),
        take("to", |at, rule| rule.to = network(at, false)),
        take("table", |at, rule| rule.table = number(at)),
        take("priority", |at, rule| rule.priority = number(at)),
        take("mark", |at, rule| rule.mark = number(at)),
        take("type-of-service", |at, rule| {
            rule.tos = at.int(0..=255).and_then(|tos| u8::try_from(tos).ok());
        }),
    ]
}

fn members(at: &At<'_>) -> Vec<String> {
    let list = field(at, "interfaces").and_then(|at| at.list()).into_iter().flatten();
    list.filter_map(|item| item.text().map(str::to_owned)).collect()
}

fn settings(at: &At<'_>, specs: &'static [params::Spec]) -> Vec<params::Param> {
    field(at, "parameters").map(|at| params::read(&at, specs, 2)).unwrap_or_default()
}

fn vlan(at: &At<'_>) -> Option<Kind> {
    let (Some(id), Some(link)) = (field(at, "id"), field(at, "link")) else {
        at.error("a VLAN needs an 'id' and a 'link'");
        return None;
    };
    let id = u16::try_from(id.int(0..=4094)?).unwrap_or(0);
    Some(Kind::Vlan { id, link: link.text()?.to_owned() })
}

fn wireguard(at: &At<'_>) -> Option<Kind> {
    match field(at, "mode") {
        Some(mode) => mode.word(&[("wireguard", ())])?,
        None => {
            at.error("a tunnel has no 'mode'");
            return None;
        }
    }
    let private = field(at, "keys").and_then(|keys| keys.get("private")).or_else(|| field(at, "key"));
    let Some(private) = private else {
        at.error("a WireGuard interface has no 'key'");
        return None;
    };
    let port = field(at, "port").and_then(|at| at.int(0..=65535)).and_then(|port| u16::try_from(port).ok());
    Some(Kind::Wireguard {
        private_key: Secret(key(&private)?),
        port,
        mark: field(at, "mark").and_then(|at| number(&at)),
        peers: field(at, "peers")
            .and_then(|at| at.list())
            .into_iter()
            .flatten()
            .filter_map(|at| peer(&at))
            .collect(),
    })
}

/// A Curve25519 key in base64: 43 characters and `=`. Its text is a secret, so it is not shown.
fn key(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/".contains(c);
    if text.len() == 44 && text.strip_suffix('=').is_some_and(|digits| digits.chars().all(base64)) {
        return Some(text.to_owned());
    }
    at.error_with_hint("not a WireGuard key", "44 characters of base64, as 'wg genkey' prints them");
    None
}

#[derive(Default)]
struct PeerDraft {
    public_key: Option<String>,
    shared_key: Option<Secret>,
    endpoint: Option<String>,
    keepalive: Option<u16>,
    allowed_ips: Vec<(IpAddr, u8)>,
}

fn peer(at: &At<'_>) -> Option<Peer> {
    let table: [KeySpec<PeerDraft>; 4] = [
        take("endpoint", |at, peer: &mut PeerDraft| peer.endpoint = at.text().map(str::to_owned)),
        take("keepalive", |at, peer| {
            peer.keepalive = at.int(0..=65535).and_then(|seconds| u16::try_from(seconds).ok());
        }),
        take("allowed-ips", |at, peer| {
            peer.allowed_ips = at.list_or_one().iter().filter_map(|at| network(at, false)).collect();
        }),
        take("keys", |at, peer| {
            let table: [KeySpec<PeerDraft>; 2] = [
                take("public", |at, peer| peer.public_key = key(at)),
                take("shared", |at, peer| peer.shared_key = key(at).map(Secret)),
            ];
            at.section("the keys of a peer", &table, peer);
        }),
    ];
    let mut draft = PeerDraft::default();
    at.section("a peer", &table, &mut draft);
    if draft.public_key.is_none() && field(at, "keys").and_then(|keys| keys.get("public")).is_none() {
        at.error("a peer has no 'keys.public'");
    }
    let PeerDraft { public_key, shared_key, endpoint, keepalive, allowed_ips } = draft;
    Some(Peer { public_key: public_key?, shared_key, endpoint, keepalive, allowed_ips })
}
