//! A state as JSON in the form of cloud-init's network state: interfaces with subnets, routes, name servers.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::address::mask;
use crate::params::{Param, ParamValue};
use crate::state::{Dns, Kind, Link, Method, Route, RouteKind, State, Subnet};
use crate::v1::method_word;

impl State {
    /// As JSON. Keys that are secret are left out.
    pub fn to_json(&self) -> Value {
        let mut interfaces: Map<String, Value> =
            self.links.iter().map(|link| (link.id.clone(), Value::Object(interface(link)))).collect();
        for link in &self.links {
            let Kind::Bond { members, params } = &link.kind else { continue };
            for member in members {
                if let Some(Value::Object(member)) = interfaces.get_mut(member) {
                    member.insert("bond-master".to_owned(), json!(link.id));
                    settings(params, member);
                }
            }
        }
        let routes: Vec<Value> = self
            .routes
            .iter()
            .map(|route| {
                let mut map = route_map(route);
                map.insert("type".to_owned(), json!("route"));
                Value::Object(map)
            })
            .collect();
        json!({"interfaces": interfaces, "routes": routes, "dns": dns(&self.dns)})
    }
}

fn interface(link: &Link) -> Map<String, Value> {
    let mut map = Map::new();
    let kind = match &link.kind {
        Kind::Physical => "physical",
        Kind::Loopback => "loopback",
        Kind::Infiniband => "infiniband",
        Kind::Vlan { .. } => "vlan",
        Kind::Bond { .. } => "bond",
        Kind::Bridge { .. } => "bridge",
        Kind::Wireguard { .. } => "wireguard",
    };
    match &link.kind {
        Kind::Bond { params, .. } | Kind::Bridge { params, .. } => settings(params, &mut map),
        _ => {}
    }
    let mac = link.select.mac.as_ref().or(link.mac.as_ref()).map(ToString::to_string);
    let fields = json!({
        "config_id": link.config_id(),
        "name": link.name,
        "type": kind,
        "mac_address": mac,
        "inet": "inet",
        "mode": "manual",
        "mtu": link.mtu,
        "address": null,
        "gateway": null,
        "subnets": link.subnets.iter().map(subnet).collect::<Vec<_>>(),
        "accept-ra": link.accept_ra,
        "wakeonlan": link.wake_on_lan,
        "optional": link.optional,
        "keep_configuration": link.keep_configuration,
    });
    if let Value::Object(fields) = fields {
        map.extend(fields);
    }
    match &link.kind {
        Kind::Vlan { id, link } => {
            map.insert("vlan-raw-device".to_owned(), json!(link));
            map.insert("vlan_id".to_owned(), json!(id));
        }
        Kind::Bond { .. } => {
            map.insert("bond-slaves".to_owned(), json!("none"));
        }
        Kind::Bridge { members, .. } => {
            map.insert("bridge_ports".to_owned(), json!(members));
        }
        Kind::Physical | Kind::Loopback | Kind::Infiniband | Kind::Wireguard { .. } => {}
    }
    if let Some(servers) = &link.dns {
        map.insert("dns".to_owned(), dns(servers));
    }
    map
}

fn settings(params: &[Param], map: &mut Map<String, Value>) {
    for Param { name, value } in params {
        let value = match value {
            ParamValue::Number(number) => json!(number),
            ParamValue::Word(word) => json!(word),
            ParamValue::Name(name) => json!(name),
            ParamValue::Flag(flag) => json!(flag),
            ParamValue::Texts(texts) => json!(texts),
            ParamValue::Ports(ports) => {
                ports.iter().map(|(port, number)| json!(format!("{port} {number}"))).collect()
            }
        };
        map.insert((*name).to_owned(), value);
    }
}

/// What is given, and nothing else.
fn subnet(subnet: &Subnet) -> Value {
    let mut map = Map::new();
    map.insert("type".to_owned(), json!(method_word(subnet.method)));
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), value);
        }
    };
    if matches!(subnet.method, Method::Static { .. })
        && let Some((address, prefix)) = subnet.address
    {
        put("address", Some(json!(address)));
        put("prefix", Some(json!(prefix)));
        put("netmask", address.is_ipv4().then(|| json!(mask(prefix))));
    }
    put("gateway", subnet.gateway.map(|gateway| json!(gateway)));
    put("metric", subnet.metric.map(|metric| json!(metric)));
    put("mtu", subnet.mtu.map(|mtu| json!(mtu)));
    put("control", subnet.control.as_ref().map(|control| json!(control)));
    put("broadcast", subnet.broadcast.map(|broadcast| json!(broadcast)));
    put("dns_nameservers", (!subnet.dns.servers.is_empty()).then(|| json!(subnet.dns.servers)));
    put("dns_search", (!subnet.dns.search.is_empty()).then(|| json!(subnet.dns.search)));
    put("routes", Some(subnet.routes.iter().map(|route| Value::Object(route_map(route))).collect()));
    Value::Object(map)
}

fn route_map(route: &Route) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), value);
        }
    };
    put("network", Some(json!(route.network)));
    put("prefix", Some(json!(route.prefix)));
    put("netmask", matches!(route.network, IpAddr::V4(_)).then(|| json!(mask(route.prefix))));
    put("gateway", route.gateway.map(|gateway| json!(gateway)));
    put("metric", route.metric.map(|metric| json!(metric)));
    put("mtu", route.mtu.map(|mtu| json!(mtu)));
    put("table", route.table.map(|table| json!(table)));
    put("from", route.from.map(|from| json!(from)));
    put("on-link", route.on_link.map(|on_link| json!(on_link)));
    let kind = match route.kind {
        RouteKind::Unicast => None,
        RouteKind::Blackhole => Some("blackhole"),
        RouteKind::Unreachable => Some("unreachable"),
        RouteKind::Prohibit => Some("prohibit"),
        RouteKind::Throw => Some("throw"),
    };
    put("type", kind.map(|kind| json!(kind)));
    map
}

fn dns(dns: &Dns) -> Value {
    json!({"nameservers": dns.servers, "search": dns.search})
}
