//! OpenStack's `network_data.json` as a network configuration of version 2.
//!
//! Its schema: <https://docs.openstack.org/nova/latest/user/metadata.html#openstack-network-metadata-schema>. Links are
//! found by their hardware addresses; an unknown type of link is an Ethernet link, because most (`ovs`, `bridge`,
//! `hostdev_physical`, ...) only say what is on the other side.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NetworkData {
    links: Vec<Link>,
    networks: Vec<Network>,
    services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
struct Link {
    id: String,
    #[serde(rename = "type", default)]
    kind: String,
    ethernet_mac_address: Option<String>,
    mtu: Option<u32>,
    vlan_id: Option<u16>,
    vlan_link: Option<String>,
    vlan_mac_address: Option<String>,
    #[serde(default)]
    bond_links: Vec<String>,
    bond_mode: Option<String>,
    bond_miimon: Option<u32>,
    bond_xmit_hash_policy: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Network {
    link: String,
    #[serde(rename = "type")]
    kind: String,
    ip_address: Option<String>,
    netmask: Option<String>,
    gateway: Option<String>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    services: Vec<Service>,
    #[serde(default)]
    dns_nameservers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Route {
    network: String,
    netmask: Option<String>,
    gateway: String,
}

#[derive(Debug, Deserialize)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// `None` when it names no link.
pub(super) fn convert(data: &NetworkData) -> Option<Vec<u8>> {
    let mut sections = Map::new();
    for link in &data.links {
        let (section, entry) = describe(link, data);
        let section = sections.entry(section).or_insert_with(|| json!({}));
        section[&link.id] = entry;
    }
    if sections.is_empty() {
        return None;
    }
    sections.insert("version".to_owned(), json!(2));
    Some(Value::Object(sections).to_string().into_bytes())
}

/// A link's section and its entry there.
fn describe(link: &Link, data: &NetworkData) -> (&'static str, Value) {
    let mut entry = Map::new();
    let mut set = |key: &str, value: Value| {
        if !value.is_null() {
            entry.insert(key.to_owned(), value);
        }
    };
    let section = match link.kind.as_str() {
        "vlan" => {
            set("id", json!(link.vlan_id));
            set("link", json!(link.vlan_link));
            set("macaddress", json!(link.vlan_mac_address));
            "vlans"
        }
        "bond" => {
            set("interfaces", json!(link.bond_links));
            set("macaddress", json!(link.ethernet_mac_address));
            let parameters = [
                ("mode", json!(link.bond_mode)),
                ("mii-monitor-interval", json!(link.bond_miimon)),
                ("transmit-hash-policy", json!(link.bond_xmit_hash_policy)),
            ];
            let parameters = parameters.into_iter().filter(|(_, value)| !value.is_null());
            set("parameters", parameters.map(|(key, value)| (key.to_owned(), value)).collect());
            "bonds"
        }
        _ => {
            set(
                "match",
                link.ethernet_mac_address.as_ref().map_or(Value::Null, |mac| json!({"macaddress": mac})),
            );
            "ethernets"
        }
    };
    set("mtu", json!(link.mtu));
    let mine: Vec<&Network> = data.networks.iter().filter(|network| network.link == link.id).collect();
    let is = |kinds: &[&str]| mine.iter().any(|network| kinds.contains(&network.kind.as_str()));
    if is(&["ipv4_dhcp"]) {
        set("dhcp4", json!(true));
    }
    if is(&["ipv6_dhcp", "ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless"]) {
        set("dhcp6", json!(true));
    }
    if is(&["ipv6_dhcp", "ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless", "ipv6_slaac"]) {
        set("accept-ra", json!(true));
    }
    let addresses: Vec<String> = mine.iter().filter_map(|network| network.address()).collect();
    if !addresses.is_empty() {
        set("addresses", json!(addresses));
    }
    let routes: Vec<Value> = mine.iter().flat_map(|network| network.routes()).collect();
    if !routes.is_empty() {
        set("routes", json!(routes));
    }
    let own = mine.iter().flat_map(|network| network.services.iter());
    let shared = data.services.iter().filter(|_| !mine.is_empty());
    let mut servers: Vec<&str> = Vec::new();
    let named =
        own.chain(shared).filter(|service| service.kind == "dns").map(|service| service.address.as_str());
    for server in named.chain(mine.iter().flat_map(|n| n.dns_nameservers.iter().map(String::as_str))) {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    if !servers.is_empty() {
        set("nameservers", json!({"addresses": servers}));
    }
    (section, Value::Object(entry))
}

impl Network {
    /// Its address with the prefix, when it is not given by DHCP or router advertisements.
    fn address(&self) -> Option<String> {
        let is_static = matches!(self.kind.as_str(), "ipv4" | "ipv6");
        let address = self.ip_address.as_deref().filter(|_| is_static)?;
        Some(if address.contains('/') {
            address.to_owned()
        } else {
            format!("{address}/{}", prefix(address, self.netmask.as_deref())?)
        })
    }

    fn routes(&self) -> Vec<Value> {
        let listed = self.routes.iter().filter_map(|route| {
            let to = match route.network.contains('/') {
                true => route.network.clone(),
                false => format!("{}/{}", route.network, prefix(&route.network, route.netmask.as_deref())?),
            };
            Some(json!({"to": to, "via": route.gateway}))
        });
        let gateway = self.gateway.iter().map(|gateway| {
            let to = if gateway.contains(':') { "::/0" } else { "0.0.0.0/0" };
            json!({"to": to, "via": gateway})
        });
        let mut routes: Vec<Value> = Vec::new();
        for route in listed.chain(gateway) {
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
        routes
    }
}

/// The length of a mask, which is written as an address or as a number. Without one, the address stands for itself.
fn prefix(address: &str, mask: Option<&str>) -> Option<u32> {
    let address: IpAddr = address.parse().ok()?;
    match mask.map(|mask| (mask.parse::<IpAddr>(), mask.parse::<u32>())) {
        None => Some(if address.is_ipv4() { 32 } else { 128 }),
        Some((Ok(IpAddr::V4(mask)), _)) => Some(u32::from(mask).leading_ones()),
        Some((Ok(IpAddr::V6(mask)), _)) => Some(u128::from(mask).leading_ones()),
        Some((_, Ok(length))) => Some(length),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversion, which the node must understand without a complaint.
    fn converted(data: &Value) -> Value {
        let text = convert(&serde_json::from_value(data.clone()).unwrap()).unwrap();
        let input = config::Input {
            network_config: Some(("network_data.json", &text)),
            ..config::Input::user_data("user-data", b"#cloud-config\n{}\n")
        };
        let outcome = config::judge(&input, config::Judge::Node);
        assert!(outcome.problems.is_empty(), "{:?} in {}", outcome.problems, String::from_utf8_lossy(&text));
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn addresses_are_given_or_asked_for() {
        let network = converted(&json!({
            "links": [
                {"id": "tap0", "type": "ovs", "ethernet_mac_address": "fa:16:3e:60:32:83", "mtu": 1450, "vif_id": "x"},
                {"id": "tap1", "type": "bridge", "ethernet_mac_address": "fa:16:3e:60:32:84", "mtu": null},
            ],
            "networks": [
                {
                    "id": "network0", "link": "tap0", "type": "ipv4", "ip_address": "192.0.2.66",
                    "netmask": "255.255.252.0", "network_id": "x",
                    "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.254"}],
                    "services": [{"type": "dns", "address": "192.0.2.53"}],
                },
                {
                    "id": "network1", "link": "tap0", "type": "ipv6", "ip_address": "2001:db8::2",
                    "netmask": "ffff:ffff:ffff:ffff::", "gateway": "2001:db8::1",
                },
                {"id": "network2", "link": "tap1", "type": "ipv4_dhcp"},
                {"id": "network3", "link": "tap1", "type": "ipv6_slaac", "ip_address": "2001:db8:1::2"},
            ],
            "services": [{"type": "dns", "address": "192.0.2.53"}, {"type": "dns", "address": "192.0.2.54"}],
        }));
        assert_eq!(
            network,
            json!({
                "version": 2,
                "ethernets": {
                    "tap0": {
                        "match": {"macaddress": "fa:16:3e:60:32:83"},
                        "mtu": 1450,
                        "addresses": ["192.0.2.66/22", "2001:db8::2/64"],
                        "routes": [
                            {"to": "0.0.0.0/0", "via": "192.0.2.254"},
                            {"to": "::/0", "via": "2001:db8::1"},
                        ],
                        "nameservers": {"addresses": ["192.0.2.53", "192.0.2.54"]},
                    },
                    "tap1": {
                        "match": {"macaddress": "fa:16:3e:60:32:84"},
                        "dhcp4": true,
                        "accept-ra": true,
                        "nameservers": {"addresses": ["192.0.2.53", "192.0.2.54"]},
                    },
                },
            })
        );
    }

    #[test]
    fn bonds_and_vlans_are_links_of_links() {
        let network = converted(&json!({
            "links": [
                {"id": "eth0", "type": "phy", "ethernet_mac_address": "00:00:5e:00:53:01"},
                {"id": "eth1", "type": "phy", "ethernet_mac_address": "00:00:5e:00:53:02"},
                {
                    "id": "bond0", "type": "bond", "bond_links": ["eth0", "eth1"], "bond_mode": "802.3ad",
                    "bond_miimon": 100, "bond_xmit_hash_policy": "layer3+4",
                    "ethernet_mac_address": "00:00:5e:00:53:01",
                },
                {"id": "vlan0", "type": "vlan", "vlan_link": "bond0", "vlan_id": 101, "vlan_mac_address": "00:00:5e:00:53:03"},
            ],
            "networks": [{"link": "vlan0", "type": "ipv4_dhcp"}],
        }));
        assert_eq!(network["bonds"]["bond0"]["interfaces"], json!(["eth0", "eth1"]));
        assert_eq!(network["bonds"]["bond0"]["parameters"]["mode"], "802.3ad");
        assert_eq!(network["vlans"]["vlan0"]["link"], "bond0");
        assert_eq!(network["vlans"]["vlan0"]["dhcp4"], true);
    }

    #[test]
    fn masks_are_counted() {
        for (address, mask, length) in [
            ("192.0.2.1", Some("255.255.255.0"), Some(24)),
            ("192.0.2.1", Some("24"), Some(24)),
            ("0.0.0.0", Some("0.0.0.0"), Some(0)),
            ("2001:db8::1", Some("ffff:ffff::"), Some(32)),
            ("2001:db8::1", None, Some(128)),
            ("192.0.2.1", Some("x"), None),
            ("x", Some("24"), None),
        ] {
            assert_eq!(prefix(address, mask), length, "{address} {mask:?}");
        }
    }
}
