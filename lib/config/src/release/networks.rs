//! Networks of containers and ports of the node: what of compose a node makes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use plan::ServiceName;
use serde_json::{Map, Value as Json};
use userdata::{At, Located};

use super::{Release, not_supported};
use crate::compose::{self, Port};
use crate::container_network::{
    Bridge, DEFAULT_NETWORK, ExtraHost, Membership, Network, Protocol, Published, Reach, parse_network,
};
use crate::desired::{Desired, Service};

/// Keys of a network that change nothing on a node.
const QUIET: [&str; 3] = ["labels", "name", "attachable"];

/// The most ports of the node that lead to containers, ranges counted by their ports: each is a rule of the firewall.
const MAX_PUBLISHED: usize = 2048;

/// The section `networks`; `None` when a node does not make one of them.
pub(super) fn bridges(
    release: &Release,
    root: &At<'_>,
    networks: &Map<String, Json>,
) -> Option<BTreeMap<String, Bridge>> {
    let section = root.get("networks");
    let mut whole = true;
    let mut bridges = BTreeMap::new();
    for (name, json) in networks {
        let at = section.as_ref().and_then(|at| at.get(name)).unwrap_or_else(|| root.clone());
        match bridge(release, &at, json) {
            Some(bridge) => drop(bridges.insert(name.clone(), bridge)),
            None => whole = false,
        }
    }
    whole.then_some(bridges)
}

fn bridge(release: &Release, at: &At<'_>, json: &Json) -> Option<Bridge> {
    let mut bridge = Bridge { mark: at.node.mark, ..Bridge::default() };
    let mut whole = true;
    for (key, value) in json.as_object().into_iter().flatten() {
        let at = at.get(key).unwrap_or_else(|| at.clone());
        let mut refuse = |message: &str, hint: &str| {
            release.refuse(&at, at.node.mark, message, hint);
            whole = false;
        };
        match (key.as_str(), value) {
            (_, Json::Null) => {}
            ("driver", Json::String(driver)) if ["bridge", "default"].contains(&driver.as_str()) => {}
            ("driver", value) => refuse(&not_supported(value.as_str().unwrap_or_default(), &["bridge"]), ""),
            ("internal", value) => bridge.internal = is_true(value),
            ("enable_ipv4", value) if !is_true(value) => refuse("container networks have IPv4", ""),
            ("enable_ipv6", value) if is_true(value) => {
                refuse("container networks have no IPv6 in this version", "remove it");
            }
            ("external", value) if is_true(value) => {
                refuse("there is nobody else on a node who would make it", "remove 'external'");
            }
            ("ipam", value) => whole &= addresses(release, &at, value, &mut bridge),
            ("driver_opts", Json::Object(options)) if !options.is_empty() => {
                refuse("a node's bridges have no options", "");
            }
            ("enable_ipv4" | "enable_ipv6" | "external" | "driver_opts", _) => {}
            (key, _) if QUIET.contains(&key) => {}
            (key, _) => refuse(&format!("'{key}' is not supported by this version"), ""),
        }
    }
    whole.then_some(bridge)
}

/// `ipam`: one subnet of IPv4, and the node's address in it.
fn addresses(release: &Release, at: &At<'_>, ipam: &Json, bridge: &mut Bridge) -> bool {
    let mut whole = true;
    let mut refuse = |at: &At<'_>, message: &str| {
        release.refuse(at, at.node.mark, message, "");
        whole = false;
    };
    let known = |key: &String| ["driver", "config"].contains(&key.as_str());
    for (key, _) in ipam.as_object().into_iter().flatten().filter(|(key, _)| !known(key)) {
        refuse(
            &at.get(key).unwrap_or_else(|| at.clone()),
            &format!("'{key}' is not supported by this version"),
        );
    }
    if ipam.get("driver").and_then(Json::as_str).is_some_and(|driver| driver != "default") {
        refuse(at, &not_supported(ipam["driver"].as_str().unwrap_or_default(), &["default"]));
    }
    let config = ipam.get("config").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let at = at.get("config").unwrap_or_else(|| at.clone());
    let [pool] = config else {
        if !config.is_empty() {
            refuse(&at, "a network has one subnet in this version");
        }
        return whole;
    };
    let at = at.list().and_then(|mut list| list.next()).unwrap_or(at);
    for (key, value) in pool.as_object().into_iter().flatten() {
        let at = at.get(key).unwrap_or_else(|| at.clone());
        let text = value.as_str().unwrap_or_default();
        match key.as_str() {
            "subnet" => match parse_network(text) {
                Some((IpAddr::V4(network), prefix @ 8..=29)) => {
                    bridge.subnet = Some((masked(network, prefix), prefix));
                }
                Some((IpAddr::V6(_), _)) => refuse(&at, "container networks have no IPv6 in this version"),
                _ => at.error(format!("'{text}' is no network of IPv4 with a prefix from 8 to 29")),
            },
            "gateway" => match text.parse() {
                Ok(gateway) => bridge.gateway = Some(gateway),
                Err(_) => at.error(format!("'{text}' is no address of IPv4")),
            },
            key => refuse(&at, &format!("'{key}' is not supported by this version")),
        }
    }
    match (bridge.gateway, bridge.subnet) {
        (Some(_), None) => at.error("a 'gateway' needs a 'subnet'"),
        (Some(gateway), Some((network, prefix))) if !is_host(gateway, network, prefix) => {
            at.error(format!("{gateway} is no address of a host in {network}/{prefix}"));
        }
        _ => {}
    }
    whole
}

/// The network's own address.
fn masked(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

/// Whether an address is one that a host in the network can have.
fn is_host(address: Ipv4Addr, network: Ipv4Addr, prefix: u8) -> bool {
    let broadcast = network.to_bits() | u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    masked(address, prefix) == network && address != network && address.to_bits() != broadcast
}

/// The network that a service sees.
pub(super) fn network(
    release: &Release,
    at: &At<'_>,
    service: &compose::Service,
    bridges: &BTreeMap<String, Bridge>,
) -> Option<Network> {
    let Some(mode) = &service.network_mode else {
        return memberships(release, at, service, bridges).map(Network::Own);
    };
    match mode.value.as_str() {
        "host" => Some(Network::Host),
        "none" => Some(Network::None),
        other => {
            if let Some(name) = other.strip_prefix("service:").and_then(|name| ServiceName::new(name).ok()) {
                return Some(Network::Of(name));
            }
            let at = at.get("network_mode").unwrap_or_else(|| at.clone());
            let hint = "without it the service is in the network 'default'";
            release.refuse(&at, at.node.mark, &not_supported(other, &["host", "none", "service:NAME"]), hint);
            None
        }
    }
}

fn memberships(
    release: &Release,
    at: &At<'_>,
    service: &compose::Service,
    bridges: &BTreeMap<String, Bridge>,
) -> Option<Vec<Membership>> {
    let at = at.get("networks").unwrap_or_else(|| at.clone());
    let normal = service.normal.get("networks");
    let mut whole = true;
    let mut list = Vec::new();
    for Located { value: name, mark } in &service.networks {
        let mut membership =
            Membership { network: name.clone(), aliases: Vec::new(), address: None, mark: *mark };
        let options = normal.and_then(|normal| normal.get(name)).and_then(Json::as_object);
        let at = at.get(name).unwrap_or_else(|| at.clone());
        for (key, value) in options.into_iter().flatten() {
            let at = at.get(key).unwrap_or_else(|| at.clone());
            match key.as_str() {
                "aliases" => membership.aliases = texts(value),
                "ipv4_address" => {
                    let text = value.as_str().unwrap_or_default();
                    membership.address = text.parse().ok();
                    let subnet = bridges.get(name).and_then(|bridge| bridge.subnet);
                    let fits = membership.address.zip(subnet);
                    match fits {
                        Some((address, (network, prefix))) if is_host(address, network, prefix) => {}
                        Some((address, (network, prefix))) => {
                            at.error(format!("{address} is no address of a host in {network}/{prefix}"));
                        }
                        None if membership.address.is_none() => {
                            at.error(format!("'{text}' is no address of IPv4"));
                        }
                        None => at.error_with_hint(
                            format!("the network '{name}' has no subnet that an address could be of"),
                            "give it one in its 'ipam'",
                        ),
                    }
                }
                key => {
                    let message = format!("'{key}' is not supported by this version");
                    release.refuse(&at, at.node.mark, &message, "");
                    whole = false;
                }
            }
        }
        list.push(membership);
    }
    if list.is_empty() {
        let network = DEFAULT_NETWORK.to_owned();
        list.push(Membership { network, aliases: Vec::new(), address: None, mark: at.node.mark });
    }
    list.sort_by(|a, b| a.network.cmp(&b.network));
    list.dedup_by(|a, b| a.network == b.network);
    whole.then_some(list)
}

/// What a service says of ports and names.
pub(super) fn reach(
    release: &Release,
    at: &At<'_>,
    service: &compose::Service,
    network: &Network,
) -> Option<Reach> {
    let mut reach = Reach { published: published(release, at, service, network)?, ..Reach::default() };
    let text = |key: &str| Some(service.normal.get(key)?.as_str()?.to_owned());
    reach.hostname = text("hostname");
    reach.domain = text("domainname");
    reach.container_name = text("container_name");
    reach.dns_search = list(service, "dns_search");
    reach.dns_options = list(service, "dns_opt");
    for server in list(service, "dns") {
        match server.parse() {
            Ok(server) => reach.dns.push(server),
            Err(_) => child(at, "dns").error(format!("'{server}' is not an IP address")),
        }
    }
    for (name, value) in service.normal.get("extra_hosts").and_then(Json::as_object).into_iter().flatten() {
        let values =
            if value.is_array() { texts(value) } else { vec![value.as_str().unwrap_or_default().to_owned()] };
        for value in values {
            let bare = value.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(&value);
            match (bare, bare.parse()) {
                ("host-gateway", _) => {
                    reach.extra_hosts.push(ExtraHost { name: name.clone(), address: None })
                }
                (_, Ok(address)) => {
                    reach.extra_hosts.push(ExtraHost { name: name.clone(), address: Some(address) });
                }
                _ => child(at, "extra_hosts").error(format!("'{value}' is not an IP address")),
            }
        }
    }
    let own = matches!(network, Network::Own(_));
    let needs_own = ["dns", "dns_search", "dns_opt", "extra_hosts"];
    for key in needs_own.into_iter().filter(|key| !own && service.normal.contains_key(*key)) {
        let at = child(at, key);
        at.error_with_hint(
            "only a service in a container network has name servers and hosts of its own",
            "remove 'network_mode', or this",
        );
    }
    Some(reach)
}

fn published(
    release: &Release,
    at: &At<'_>,
    service: &compose::Service,
    network: &Network,
) -> Option<Vec<Published>> {
    let at_ports = child(at, "ports");
    let mut whole = true;
    let mut published = Vec::new();
    let mark = at_ports.node.mark;
    for port in &service.ports {
        let mut refuse = |message: &str, hint: &str| {
            release.refuse(&at_ports, mark, message, hint);
            whole = false;
        };
        let Some(protocol) = protocol(port) else {
            refuse("SCTP is not supported by this version", "");
            continue;
        };
        let address = match port.host_ip {
            None | Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => None,
            Some(IpAddr::V4(address)) => Some(address),
            Some(IpAddr::V6(_)) => {
                refuse("container networks have no IPv6 in this version", "name an address of IPv4, or none");
                continue;
            }
        };
        let node = match (port.published, network) {
            // There is one port, and it is the node's.
            (_, Network::Host) => (port.target, port.target),
            (Some(node), _) => node,
            (None, _) => {
                let hint = format!("as in '{0}:{0}'; other containers reach it without", port.target);
                refuse(&format!("no port of the node is named that leads to {}", port.target), &hint);
                continue;
            }
        };
        published.push(Published { address, node, container: port.target, protocol, mark });
    }
    if *network == Network::Host {
        published.extend(exposed(service).map(|(ports, protocol)| Published {
            address: None,
            node: ports,
            container: ports.0,
            protocol,
            mark: child(at, "expose").node.mark,
        }));
    } else if published.len() > MAX_PUBLISHED {
        at_ports.error(format!("more than {MAX_PUBLISHED} ports of the node lead to it"));
    }
    if !published.is_empty() {
        match network {
            Network::Host | Network::Own(_) => {}
            Network::None => at_ports.error("a service without network has no ports"),
            Network::Of(name) => at_ports.error(format!("give them to '{name}', whose network it shares")),
        }
    }
    whole.then_some(published)
}

fn protocol(port: &Port) -> Option<Protocol> {
    match port.protocol.as_deref() {
        None | Some("tcp") => Some(Protocol::Tcp),
        Some("udp") => Some(Protocol::Udp),
        _ => None,
    }
}

/// `expose`, which was found to be right when it was read.
fn exposed(service: &compose::Service) -> impl Iterator<Item = ((u16, u16), Protocol)> {
    let items = service.normal.get("expose").and_then(Json::as_array).into_iter().flatten();
    items.filter_map(|item| {
        let text = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
        let (ports, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        Some(((first.parse().ok()?, last.parse().ok()?), protocol))
    })
}

/// Refuses what shares the network of a service that has none of its own to share.
pub(super) fn refuse_chains(root: &At<'_>, services: &BTreeMap<ServiceName, compose::Service>) {
    let shared = |service: &compose::Service| {
        let mode = service.network_mode.as_ref()?.value.strip_prefix("service:")?.to_owned();
        ServiceName::new(mode).ok()
    };
    for (name, service) in services {
        let Some(other) = shared(service) else { continue };
        let Some(mode) = services.get(&other).and_then(|other| other.network_mode.as_ref()) else { continue };
        if let Some(at) = root.get("services").and_then(|at| at.get(name.as_str())) {
            let message = format!("'{other}' has no network of its own to share: it has '{}'", mode.value);
            child(&at, "network_mode")
                .error_with_hint(message, "name that service, or 'host' or 'none', itself");
        }
    }
}

/// Warns of services on the node's network that do not say which ports are theirs: all of the node is open then, also what
/// other services count on to be closed.
pub(super) fn warn_of_open_node(root: &At<'_>, desired: &Desired) {
    let host = |service: &Service| service.network == Network::Host;
    let own = |service: &Service| matches!(service.network, Network::Own(_));
    let says_ports = |service: &Service| !service.reach.published.is_empty();
    let closed =
        desired.services.values().any(|service| own(service) || (host(service) && says_ports(service)));
    if desired.firewall.is_some() || !closed {
        return;
    }
    let silent = desired.services.iter().filter(|(_, service)| host(service) && !says_ports(service));
    for (name, _) in silent {
        if let Some(at) = root.get("services").and_then(|at| at.get(name.as_str())) {
            child(&at, "network_mode").add(
                userdata::Severity::Warning,
                child(&at, "network_mode").node.mark,
                "the service does not say which ports of the node are its own, so all are open",
                "give 'ports' or 'expose', or 'holdfast.firewall'",
            );
        }
    }
}

/// A key of a service where it stands, or the service.
fn child<'a>(at: &At<'a>, key: &str) -> At<'a> {
    at.get(key).unwrap_or_else(|| at.clone())
}

fn list(service: &compose::Service, key: &str) -> Vec<String> {
    service.normal.get(key).map(texts).unwrap_or_default()
}

fn texts(value: &Json) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}

/// Scalars keep their text: `true` may be a truth value or a word.
fn is_true(value: &Json) -> bool {
    let words = ["true", "yes", "on", "y"];
    let word = value.as_str().map(str::to_ascii_lowercase);
    value.as_bool().unwrap_or_else(|| word.is_some_and(|word| words.contains(&word.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container_network::Accepted;

    fn problems(sections: &str) -> Vec<String> {
        let (_, problems) = crate::check("f", format!("#cloud-config\n{sections}").as_bytes());
        problems.iter().map(ToString::to_string).collect()
    }

    fn desired(sections: &str) -> Desired {
        let (desired, problems) = crate::check("f", format!("#cloud-config\n{sections}").as_bytes());
        desired.unwrap_or_else(|| panic!("{problems:#?}"))
    }

    fn service(keys: &str) -> Service {
        desired(&format!("services:\n  a: {{image: i, {keys}}}\n")).services.into_values().next().unwrap()
    }

    #[test]
    fn a_service_is_in_the_network_default_unless_it_says_otherwise() {
        let names = |keys: &str| match service(keys).network {
            Network::Own(memberships) => memberships.into_iter().map(|m| m.network).collect(),
            other => vec![format!("{other:?}")],
        };
        assert_eq!(names("restart: always"), ["default"]);
        assert_eq!(names("networks: [default]"), ["default"]);
        assert_eq!(names("network_mode: host"), ["Host"]);
        let all = desired("networks: {b: {}, a: }\nservices:\n  s: {image: i, networks: [b, a]}\n");
        let Network::Own(memberships) = &all.services.values().next().unwrap().network else { panic!("own") };
        assert_eq!(memberships.iter().map(|m| m.network.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_network_says_its_addresses_and_whether_it_is_internal() {
        let all = desired(
            "holdfast: {env: {NET: 10.1.2}, firewall: {accept: [9100, {port: 161/udp, source: 10.0.0.0/8}]}}\n\
             networks: {n: {internal: yes, ipam: {config: [{subnet: '${NET}.7/24', gateway: '${NET}.254'}]}}}\n",
        );
        let network = &all.networks["n"];
        assert_eq!(network.subnet, Some(([10, 1, 2, 0].into(), 24)));
        assert_eq!((network.gateway, network.internal), (Some([10, 1, 2, 254].into()), true));
        let source = Some(([10, 0, 0, 0].into(), 8));
        assert_eq!(
            all.firewall.unwrap().accept,
            [
                Accepted { ports: (9100, 9100), protocol: Protocol::Tcp, source: None },
                Accepted { ports: (161, 161), protocol: Protocol::Udp, source },
            ]
        );
    }

    #[test]
    fn ports_and_names_are_read() {
        let reach = service(
            "ports: ['127.0.0.1:8080:80', '53:53/udp'], expose: [9000], dns: 192.0.2.53, \
             extra_hosts: {db: '::1', me: host-gateway}",
        )
        .reach;
        let ports: Vec<_> =
            reach.published.iter().map(|p| (p.address, p.node, p.container, p.protocol)).collect();
        assert_eq!(
            ports,
            [
                (Some(Ipv4Addr::LOCALHOST), (8080, 8080), 80, Protocol::Tcp),
                (None, (53, 53), 53, Protocol::Udp),
            ]
        );
        assert_eq!(reach.dns, [IpAddr::from([192, 0, 2, 53])]);
        let hosts: Vec<_> =
            reach.extra_hosts.iter().map(|h| (h.name.as_str(), h.address.is_some())).collect();
        assert_eq!(hosts, [("db", true), ("me", false)]);
    }

    #[test]
    fn on_the_nodes_network_ports_are_those_that_are_open() {
        let reach = service("network_mode: host, ports: [80, '8080:81'], expose: [9000-9001/udp]").reach;
        let ports: Vec<_> = reach.published.iter().map(|p| (p.node, p.protocol)).collect();
        assert_eq!(
            ports,
            [((80, 80), Protocol::Tcp), ((81, 81), Protocol::Tcp), ((9000, 9001), Protocol::Udp)]
        );
    }

    #[test]
    fn what_a_node_does_not_make_is_said() {
        let network = |keys: &str| problems(&format!("networks: {{n: {{{keys}}}}}\n"));
        for (keys, expected) in [
            ("driver: macvlan", "'macvlan' is not supported"),
            ("enable_ipv6: true", "no IPv6"),
            ("external: true", "nobody else"),
            ("ipam: {config: [{subnet: 'fd00::/64'}]}", "no IPv6"),
            ("ipam: {config: [{subnet: 10.0.0.0/30}]}", "prefix from 8 to 29"),
            ("ipam: {config: [{gateway: 10.0.0.1}]}", "needs a 'subnet'"),
            ("ipam: {config: [{subnet: 10.0.0.0/24, gateway: 10.0.1.1}]}", "10.0.1.1 is no address"),
            ("ipam: {config: [{subnet: 10.0.0.0/24, ip_range: 10.0.0.0/28}]}", "'ip_range' is not supported"),
        ] {
            let found = network(keys);
            assert!(found.len() == 1 && found[0].contains(expected), "{keys}: {found:#?}");
        }
        assert_eq!(network("labels: {a: b}, name: other, attachable: true"), Vec::<String>::new());
        let service = |keys: &str| problems(&format!("services:\n  a: {{image: i, {keys}}}\n"));
        for (keys, expected) in [
            ("ports: [80]", "no port of the node is named that leads to 80 (as in '80:80'"),
            ("ports: ['1:1/sctp']", "SCTP"),
            ("ports: ['[::]:80:80']", "no IPv6"),
            ("ports: ['80:80'], network_mode: none", "has no ports"),
            ("networks: {default: {mac_address: '02:00:00:00:00:01'}}", "'mac_address' is not supported"),
            ("networks: {default: {ipv4_address: 10.0.0.2}}", "no subnet"),
            ("dns: [localhost]", "'localhost' is not an IP address"),
            ("network_mode: host, dns: 192.0.2.53", "only a service in a container network"),
            ("network_mode: 'service:b'", "there is no service 'b'"),
        ] {
            let found = service(keys);
            assert!(found.len() == 1 && found[0].contains(expected), "{keys}: {found:#?}");
        }
    }

    #[test]
    fn services_that_share_networks_or_wait_in_a_circle_are_refused() {
        for services in [
            "  a: {image: i, network_mode: 'service:b'}\n  b: {image: i, network_mode: 'service:a'}\n",
            "  a: {image: i, network_mode: 'service:b'}\n  b: {image: i, network_mode: 'service:c'}\n  c: {image: i}\n",
            "  a: {image: i, network_mode: 'service:b'}\n  b: {image: i, depends_on: [a]}\n",
        ] {
            assert!(!problems(&format!("services:\n{services}")).is_empty(), "{services}");
        }
    }

    #[test]
    fn an_open_node_is_warned_of_when_there_is_something_to_protect() {
        let host = "services:\n  a: {image: i, network_mode: host}\n";
        assert_eq!(problems(host), Vec::<String>::new());
        let more = format!("{host}  b: {{image: i}}\n");
        assert!(
            problems(&more)[0]
                .starts_with("warning f:3:31 services.a.network_mode: the service does not say")
        );
        assert_eq!(problems(&format!("holdfast: {{firewall: {{}}}}\n{more}")), Vec::<String>::new());
    }
}
