//! Which bridges, addresses and ports there are. Pure.
//!
//! What a service had in the generation before it keeps, as long as it may: an address is also what other machines and
//! firewalls know a container by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;

use config::{Desired, Membership, Network, Problem, Protocol, Published, Reach, Service};
use plan::{Bridge, ContainerNetwork, Interface, ServiceName, Shared};
use sha2::{Digest, Sha256};

use super::{ContainerNet, Endpoint, Networks, Open, Redirection};

/// Where networks without a subnet of their own get one of 256 addresses from: private ranges that few sites use.
const POOLS: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 18, 0, 0), Ipv4Addr::new(10, 89, 0, 0)];
const POOL_PREFIX: u8 = 16;
const PREFIX: u8 = 24;

/// The longest name of a link (`IFNAMSIZ` without the zero byte).
const LINK_NAME: usize = 15;

/// The networks of a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) networks: Networks,
    containers: BTreeMap<ServiceName, ContainerNetwork>,
}

impl Draft {
    /// What the shim of a service is told. `digest` tells that of another service, which is made first.
    pub(crate) fn of(
        &self,
        name: &ServiceName,
        service: &Service,
        digest: impl Fn(&ServiceName) -> Option<String>,
    ) -> Option<ContainerNetwork> {
        match &service.network {
            Network::Host | Network::None => None,
            Network::Own(_) => self.containers.get(name).cloned(),
            Network::Of(other) => {
                // Names mean the same for both.
                let (hosts, resolv_conf) = self
                    .containers
                    .get(other)
                    .map(|network| (network.hosts.clone(), network.resolv_conf.clone()))
                    .unwrap_or_default();
                let of = Shared { service: other.clone(), digest: digest(other).unwrap_or_default() };
                Some(ContainerNetwork { interfaces: Vec::new(), of: Some(of), hosts, resolv_conf })
            }
        }
    }
}

/// Decides. `before` is the last generation's, of which services that are `leaving` still run for a while; `taken` are
/// networks of the node's links. What cannot be is said at its place in `source`.
pub(crate) fn assign(
    desired: &Desired,
    before: &Networks,
    leaving: &[ServiceName],
    taken: &[(Ipv4Addr, u8)],
    source: &str,
) -> Result<Draft, Vec<Problem>> {
    let mut assignment = Assignment { desired, before, leaving, taken, source, problems: Vec::new() };
    let networks = assignment.networks();
    let published = assignment.published(&networks);
    let draft = Draft {
        containers: assignment.containers(&networks),
        networks: Networks { published, open: assignment.open(&networks), networks },
    };
    if assignment.problems.is_empty() { Ok(draft) } else { Err(assignment.problems) }
}

struct Assignment<'a> {
    desired: &'a Desired,
    before: &'a Networks,
    leaving: &'a [ServiceName],
    taken: &'a [(Ipv4Addr, u8)],
    source: &'a str,
    problems: Vec<Problem>,
}

type ByName = BTreeMap<String, ContainerNet>;

impl<'a> Assignment<'a> {
    fn problem(&mut self, mark: config::Mark, path: &str, message: String) {
        self.problems.push(Problem::error(self.source, Some(mark), path, message));
    }

    /// Services in container networks, with their places there.
    fn members(&self) -> impl Iterator<Item = (&'a ServiceName, &'a Service, &'a Membership)> + use<'a> {
        self.desired.services.iter().flat_map(|(name, service)| {
            let memberships = match &service.network {
                Network::Own(memberships) => memberships.as_slice(),
                _ => &[],
            };
            memberships.iter().map(move |membership| (name, service, membership))
        })
    }

    /// The networks that services are in.
    fn networks(&mut self) -> ByName {
        let used: BTreeSet<&str> =
            self.members().map(|(.., membership)| membership.network.as_str()).collect();
        let mut networks = ByName::new();
        // Those that say what they want come first, then those that have had something, then the rest.
        for turn in 0..3 {
            for name in &used {
                if networks.contains_key(*name) {
                    continue;
                }
                let declared = self.desired.networks.get(*name);
                let given = declared.and_then(|bridge| bridge.subnet);
                let old = self.before.networks.get(*name).map(|old| (old.network, old.bridge.prefix));
                let chosen = match turn {
                    0 => given,
                    1 => old.filter(|subnet| self.is_free(*subnet, &networks)),
                    _ => self.free(&networks),
                };
                let mark = declared.map(|bridge| bridge.mark).unwrap_or_default();
                let Some(subnet) = chosen else {
                    if turn == 2 {
                        let message = "there is no subnet left for it: give it one in its 'ipam'".to_owned();
                        self.problem(mark, &format!("networks.{name}"), message);
                    }
                    continue;
                };
                let clash =
                    networks.iter().find(|(_, other)| overlap((other.network, other.bridge.prefix), subnet));
                if let Some((other, _)) = clash {
                    let message = format!("its subnet overlaps with that of the network '{other}'");
                    self.problem(mark, &format!("networks.{name}.ipam"), message);
                    continue;
                }
                let gateway = declared.and_then(|bridge| bridge.gateway);
                let network = ContainerNet {
                    bridge: Bridge {
                        name: bridge_name(name),
                        gateway: gateway.unwrap_or_else(|| Ipv4Addr::from_bits(subnet.0.to_bits() + 1)),
                        prefix: subnet.1,
                    },
                    network: subnet.0,
                    internal: declared.is_some_and(|bridge| bridge.internal),
                    services: BTreeMap::new(),
                };
                networks.insert((*name).to_owned(), network);
            }
        }
        self.addresses(&mut networks);
        networks
    }

    fn is_free(&self, subnet: (Ipv4Addr, u8), networks: &ByName) -> bool {
        let mut others = networks.values().map(|network| (network.network, network.bridge.prefix));
        let mut links = self.taken.iter().copied();
        let mut declared = self.desired.networks.values().filter_map(|bridge| bridge.subnet);
        !others.any(|other| overlap(other, subnet))
            && !links.any(|other| overlap(other, subnet))
            && !declared.any(|other| overlap(other, subnet))
    }

    /// A subnet that nobody has or had.
    fn free(&self, networks: &ByName) -> Option<(Ipv4Addr, u8)> {
        let size = 1_u32 << (32 - PREFIX);
        let count = 1_u32 << (PREFIX - POOL_PREFIX);
        let mut all = POOLS
            .iter()
            .flat_map(|pool| (0..count).map(|number| Ipv4Addr::from_bits(pool.to_bits() + number * size)));
        all.find(|network| self.is_free((*network, PREFIX), networks)).map(|network| (network, PREFIX))
    }

    /// Gives each service its addresses: those that are asked for, then those that it had, then the lowest free ones.
    fn addresses(&mut self, networks: &mut ByName) {
        for turn in 0..3 {
            if turn == 1 {
                self.keep_leaving(networks);
            }
            for (name, service, membership) in self.members() {
                let Some(network) = networks.get_mut(&membership.network) else { continue };
                if network.services.contains_key(name) {
                    continue;
                }
                let old = self.before.networks.get(&membership.network);
                let old = old.and_then(|old| Some(old.services.get(name)?.address));
                let chosen = match turn {
                    0 => membership.address,
                    1 => old.filter(|address| is_free_in(network, *address)),
                    _ => lowest(network),
                };
                let path = format!("services.{name}.networks.{}", membership.network);
                match chosen {
                    Some(address) if is_free_in(network, address) => {
                        let endpoint = Endpoint {
                            address,
                            names: names(name, &service.reach, membership),
                            dns: service.reach.dns.clone(),
                        };
                        network.services.insert(name.clone(), endpoint);
                    }
                    Some(address) => {
                        let message = format!("the address {address} is not free in that network");
                        self.problem(membership.mark, &path, message);
                    }
                    None if turn == 2 => {
                        self.problem(
                            membership.mark,
                            &path,
                            "there is no address left in that network".to_owned(),
                        );
                    }
                    None => {}
                }
            }
        }
    }

    /// Leaves those that are leaving what they have, as long as nobody asks for it.
    fn keep_leaving(&self, networks: &mut ByName) {
        for (name, network) in networks {
            let Some(old) = self.before.networks.get(name) else { continue };
            for leaving in self.leaving {
                if let Some(endpoint) = old.services.get(leaving)
                    && is_free_in(network, endpoint.address)
                {
                    network.services.insert(leaving.clone(), endpoint.clone());
                }
            }
        }
    }

    /// Ports of the node that lead to containers.
    fn published(&mut self, networks: &ByName) -> Vec<Redirection> {
        let mut owners = Owners::default();
        // Ports of the node's own network are where they are, so they come first.
        let (hosts, others): (Vec<_>, Vec<_>) =
            self.desired.services.iter().partition(|(_, service)| service.network == Network::Host);
        for (name, service) in hosts {
            for port in &service.reach.published {
                for number in port.node.0..=port.node.1 {
                    owners.take(name, port, number);
                }
            }
        }
        let mut redirections: Vec<Redirection> = Vec::new();
        for (name, service) in others {
            for port in &service.reach.published {
                let path = format!("services.{name}.ports");
                let Some(to) = way_in(networks, name) else {
                    let message = "no port of the node leads into an internal network".to_owned();
                    self.problem(port.mark, &path, message);
                    continue;
                };
                let Some(number) =
                    (port.node.0..=port.node.1).find(|number| owners.take(name, port, *number))
                else {
                    let owner = owners.of(port, port.node.0).map(ToString::to_string).unwrap_or_default();
                    let message = format!("port {} of the node is already that of '{owner}'", port.node.0);
                    self.problem(port.mark, &path, message);
                    continue;
                };
                let redirection = Redirection {
                    address: port.address,
                    ports: (number, number),
                    udp: port.protocol == Protocol::Udp,
                    to,
                    port: (number != port.container).then_some(port.container),
                };
                match redirections.last_mut() {
                    Some(last) if continues(last, &redirection) => last.ports.1 = number,
                    _ => redirections.push(redirection),
                }
            }
        }
        redirections
    }

    /// Who may reach the node itself.
    fn open(&self, networks: &ByName) -> Option<Vec<Open>> {
        let hosts = || self.desired.services.values().filter(|service| service.network == Network::Host);
        let silent = hosts().any(|service| service.reach.published.is_empty());
        let nothing_to_do = networks.is_empty() && hosts().next().is_none();
        if self.desired.firewall.is_none() && (silent || nothing_to_do) {
            return None;
        }
        let ports = hosts().flat_map(|service| &service.reach.published).map(|port| Open {
            ports: port.node,
            udp: port.protocol == Protocol::Udp,
            address: port.address,
            source: None,
        });
        let accepted =
            self.desired.firewall.iter().flat_map(|firewall| &firewall.accept).map(|accepted| Open {
                ports: accepted.ports,
                udp: accepted.protocol == Protocol::Udp,
                address: None,
                source: accepted.source,
            });
        Some(ports.chain(accepted).collect())
    }

    fn containers(&self, networks: &ByName) -> BTreeMap<ServiceName, ContainerNetwork> {
        let own =
            self.desired.services.iter().filter(|(_, service)| matches!(service.network, Network::Own(_)));
        own.map(|(name, service)| (name.clone(), container(networks, name, service))).collect()
    }
}

/// The places of a service, in the order of the networks' names.
fn places<'n>(
    networks: &'n ByName,
    name: &'n ServiceName,
) -> impl Iterator<Item = (&'n ContainerNet, &'n Endpoint)> {
    networks.values().filter_map(move |network| Some((network, network.services.get(name)?)))
}

/// Where ports of the node lead to: out of an internal network no answer would come.
fn way_in(networks: &ByName, name: &ServiceName) -> Option<Ipv4Addr> {
    places(networks, name).find(|(network, _)| !network.internal).map(|(_, endpoint)| endpoint.address)
}

fn container(networks: &ByName, name: &ServiceName, service: &Service) -> ContainerNetwork {
    let mut interfaces: Vec<Interface> = places(networks, name)
        .enumerate()
        .map(|(number, (network, endpoint))| Interface {
            name: format!("eth{number}"),
            bridge: network.bridge.clone(),
            address: endpoint.address,
            default_route: false,
        })
        .collect();
    let out = places(networks, name).position(|(network, _)| !network.internal);
    if let Some(interface) = out.and_then(|out| interfaces.get_mut(out)) {
        interface.default_route = true;
    }
    let first = interfaces.first();
    let gateway = interfaces.iter().find(|interface| interface.default_route).or(first);
    let gateway = gateway.map(|interface| interface.bridge.gateway);
    let hosts = hosts(name, &service.reach, first.map(|interface| interface.address), gateway);
    let server = first.map(|interface| interface.bridge.gateway);
    let resolv_conf = resolv_conf(&service.reach, server);
    ContainerNetwork { interfaces, of: None, hosts, resolv_conf }
}

/// Its `/etc/hosts`. Writing to a text does not fail.
fn hosts(name: &ServiceName, reach: &Reach, own: Option<Ipv4Addr>, gateway: Option<Ipv4Addr>) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    if let Some(own) = own {
        let short = reach.hostname.as_deref().unwrap_or(name.as_str());
        let full = reach.domain.as_ref().map(|domain| format!("{short}.{domain} ")).unwrap_or_default();
        writeln!(text, "{own} {full}{short}").unwrap_or_default();
    }
    for host in &reach.extra_hosts {
        if let Some(address) = host.address.or(gateway.map(Into::into)) {
            writeln!(text, "{address} {}", host.name).unwrap_or_default();
        }
    }
    text
}

/// Its `/etc/resolv.conf`: the server on its first bridge knows it by its address, and answers for all of its networks.
/// A name without a dot is asked for as it is.
fn resolv_conf(reach: &Reach, server: Option<Ipv4Addr>) -> String {
    let search = if reach.dns_search.is_empty() {
        reach.domain.iter().collect()
    } else {
        reach.dns_search.iter().collect::<Vec<_>>()
    };
    let words = |words: Vec<&String>| words.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let mut text = String::new();
    if !search.is_empty() {
        writeln!(text, "search {}", words(search)).unwrap_or_default();
    }
    if let Some(server) = server {
        writeln!(text, "nameserver {server}").unwrap_or_default();
    }
    let options = if reach.dns_options.is_empty() {
        "ndots:0".to_owned()
    } else {
        words(reach.dns_options.iter().collect())
    };
    writeln!(text, "options {options}").unwrap_or_default();
    text
}

/// The names that others find it by.
fn names(name: &ServiceName, reach: &Reach, membership: &Membership) -> Vec<String> {
    let all = [name.as_str()].into_iter().chain(reach.container_name.as_deref());
    let all = all.chain(membership.aliases.iter().map(String::as_str));
    all.map(str::to_ascii_lowercase).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A link's name for a network: readable when it fits, and in any case one that no other network has.
fn bridge_name(network: &str) -> String {
    let plain = format!("hf-{network}");
    if plain.len() <= LINK_NAME
        && network.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    {
        return plain;
    }
    let hash: String = Sha256::digest(network).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("hf-{hash}")
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn overlap((a, a_prefix): (Ipv4Addr, u8), (b, b_prefix): (Ipv4Addr, u8)) -> bool {
    let mask = mask(a_prefix.min(b_prefix));
    a.to_bits() & mask == b.to_bits() & mask
}

/// Whether a service can have the address.
fn is_free_in(network: &ContainerNet, address: Ipv4Addr) -> bool {
    let mask = mask(network.bridge.prefix);
    let host = address.to_bits() & !mask;
    address.to_bits() & mask == network.network.to_bits()
        && host != 0
        && host != !mask
        && address != network.bridge.gateway
        && network.services.values().all(|endpoint| endpoint.address != address)
}

fn lowest(network: &ContainerNet) -> Option<Ipv4Addr> {
    let hosts = 1..!mask(network.bridge.prefix);
    hosts
        .map(|host| Ipv4Addr::from_bits(network.network.to_bits() + host))
        .find(|address| is_free_in(network, *address))
}

/// Whether two redirections are one: of ports that follow each other and are the same in the container.
fn continues(last: &Redirection, next: &Redirection) -> bool {
    let same = |r: &Redirection| (r.address, r.udp, r.to, r.port);
    same(last) == same(next) && next.port.is_none() && last.ports.1.checked_add(1) == Some(next.ports.0)
}

/// Whose the node's ports are.
#[derive(Default)]
struct Owners<'a>(BTreeMap<(Protocol, u16), Vec<Owner<'a>>>);

/// An address of the node (`None`: all), and whose the port is there.
type Owner<'a> = (Option<Ipv4Addr>, &'a ServiceName);

impl<'a> Owners<'a> {
    /// Takes a port; false when somebody has it at one of its addresses.
    fn take(&mut self, name: &'a ServiceName, port: &Published, number: u16) -> bool {
        if self.of(port, number).is_some() {
            return false;
        }
        self.0.entry((port.protocol, number)).or_default().push((port.address, name));
        true
    }

    fn of(&self, port: &Published, number: u16) -> Option<&'a ServiceName> {
        let owners = self.0.get(&(port.protocol, number))?;
        let meets =
            |other: &Option<Ipv4Addr>| other.is_none() || port.address.is_none() || *other == port.address;
        owners.iter().find(|(address, _)| meets(address)).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(sections: &str) -> Desired {
        let text = format!("#cloud-config\n{sections}");
        let (desired, problems) = config::check("f", text.as_bytes());
        desired.unwrap_or_else(|| panic!("{problems:#?}"))
    }

    fn of(sections: &str) -> Draft {
        assign(&desired(sections), &Networks::default(), &[], &[], "f").unwrap()
    }

    fn problems(sections: &str) -> Vec<String> {
        let problems = assign(&desired(sections), &Networks::default(), &[], &[], "f").unwrap_err();
        problems.iter().map(Problem::to_string).collect()
    }

    fn address(networks: &Networks, network: &str, service: &str) -> String {
        networks.networks[network].services[&ServiceName::new(service).unwrap()].address.to_string()
    }

    const TWO: &str = "services:\n  b: {image: i}\n  c: {image: i}\n";

    #[test]
    fn a_service_keeps_its_address_when_others_come_and_go() {
        let first = of(TWO).networks;
        assert_eq!(first.networks["default"].bridge.name, "hf-default");
        assert_eq!(
            (address(&first, "default", "b"), address(&first, "default", "c")),
            ("172.18.0.2".into(), "172.18.0.3".into())
        );
        let more = desired(&format!("{TWO}  a: {{image: i}}\n"));
        let second = assign(&more, &first, &[], &[], "f").unwrap().networks;
        assert_eq!(address(&second, "default", "b"), "172.18.0.2");
        assert_eq!(address(&second, "default", "a"), "172.18.0.4");
        let fewer = desired("services:\n  c: {image: i}\n");
        let third = assign(&fewer, &second, &[], &[], "f").unwrap().networks;
        assert_eq!(address(&third, "default", "c"), "172.18.0.3");
    }

    #[test]
    fn networks_avoid_each_other_and_the_nodes_links() {
        let sections = "networks:\n  a: {ipam: {config: [{subnet: 172.18.1.0/24, gateway: 172.18.1.254}]}}\n  b: {}\n\
                        services:\n  s: {image: i, networks: [a, b]}\n  t: {image: i}\n";
        let taken = [(Ipv4Addr::new(172, 18, 0, 77), 25)];
        let draft = assign(&desired(sections), &Networks::default(), &[], &taken, "f").unwrap();
        let of = |name: &str| {
            let network = &draft.networks.networks[name];
            format!("{}/{} {}", network.network, network.bridge.prefix, network.bridge.gateway)
        };
        assert_eq!(of("a"), "172.18.1.0/24 172.18.1.254");
        assert_eq!(
            (of("b"), of("default")),
            ("172.18.2.0/24 172.18.2.1".into(), "172.18.3.0/24 172.18.3.1".into())
        );
        let all = [(Ipv4Addr::new(172, 16, 0, 0), 12)];
        let draft = assign(&desired(TWO), &Networks::default(), &[], &all, "f").unwrap();
        assert_eq!(address(&draft.networks, "default", "b"), "10.89.0.2");
    }

    #[test]
    fn the_way_out_is_the_first_network_that_has_one() {
        let draft = of("networks: {a: {internal: true}, b: {}, c: {}}\nservices:\n  \
                        s: {image: i, networks: [c, b, a], ports: ['80:80']}\n");
        let network = &draft.containers[&ServiceName::new("s").unwrap()];
        let links: Vec<String> = network
            .interfaces
            .iter()
            .map(|i| format!("{} {} {}", i.name, i.bridge.name, i.default_route))
            .collect();
        assert_eq!(links, ["eth0 hf-a false", "eth1 hf-b true", "eth2 hf-c false"]);
        assert_eq!(network.resolv_conf, "nameserver 172.18.0.1\noptions ndots:0\n");
        assert_eq!(draft.networks.published[0].to, network.interfaces[1].address);
    }

    #[test]
    fn files_hold_the_own_names_and_those_that_are_given() {
        let draft = of(
            "services:\n  s:\n    image: i\n    dns_search: [example.com]\n    dns_opt: [timeout:1]\n    \
                        extra_hosts: ['db:192.0.2.7', 'me:host-gateway']\n",
        );
        let network = &draft.containers[&ServiceName::new("s").unwrap()];
        assert_eq!(
            network.hosts,
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n172.18.0.2 s\n192.0.2.7 db\n\
             172.18.0.1 me\n"
        );
        assert_eq!(network.resolv_conf, "search example.com\nnameserver 172.18.0.1\noptions timeout:1\n");
    }

    #[test]
    fn a_port_of_the_node_has_one_owner() {
        let ports = |a: &str, b: &str| {
            format!("services:\n  a: {{image: i, ports: ['{a}']}}\n  b: {{image: i, ports: ['{b}']}}\n")
        };
        let node = |a: &str, b: &str| {
            of(&ports(a, b)).networks.published.iter().map(|r| r.ports).collect::<Vec<_>>()
        };
        assert_eq!(
            problems(&ports("80:80", "127.0.0.1:80:8080")),
            ["error f:4:24 services.b.ports: port 80 of the node is already that of 'a'"]
        );
        assert_eq!(node("80:80", "80:80/udp"), [(80, 80), (80, 80)]);
        assert_eq!(node("192.0.2.1:80:80", "192.0.2.2:80:80").len(), 2);
        assert_eq!(node("80-81:1", "80-81:1"), [(80, 80), (81, 81)], "the first free one of a range");
        assert_eq!(node("80-85:80-85", "90-91:80-81"), [(80, 85), (90, 90), (91, 91)]);
        let host = "services:\n  a: {image: i, network_mode: host, expose: [80]}\n  b: {image: i, ports: ['80:80']}\n";
        assert_eq!(problems(host).len(), 1);
    }

    #[test]
    fn addresses_that_are_asked_for_must_be_free() {
        let sections = "networks:\n  n: {ipam: {config: [{subnet: 10.5.0.0/29}]}}\nservices:\n  \
                        a: {image: i, networks: {n: {ipv4_address: 10.5.0.2}}}\n  b: {image: i, networks: [n]}\n";
        let draft = of(sections);
        assert_eq!(address(&draft.networks, "n", "b"), "10.5.0.3");
        let same = sections.replace("networks: [n]", "networks: {n: {ipv4_address: 10.5.0.2}}");
        assert!(problems(&same)[0].contains("10.5.0.2 is not free"), "{:?}", problems(&same));
        let many: String = (0..6).map(|n| format!("  x{n}: {{image: i, networks: [n]}}\n")).collect();
        assert!(problems(&(sections.to_owned() + &many))[0].contains("no address left"));
    }

    #[test]
    fn who_is_leaving_keeps_its_address_until_then() {
        let first = of(TWO).networks;
        let after = desired("services:\n  b: {image: i}\n  d: {image: i}\n");
        let leaving = [ServiceName::new("c").unwrap()];
        let second = assign(&after, &first, &leaving, &[], "f").unwrap();
        let of = |name: &str| address(&second.networks, "default", name);
        assert_eq!(
            (of("b"), of("c"), of("d")),
            ("172.18.0.2".into(), "172.18.0.3".into(), "172.18.0.4".into())
        );
        assert_eq!(second.containers.len(), 2, "nobody makes another one");
        let third = assign(&after, &second.networks, &[], &[], "f").unwrap().networks;
        assert!(!third.networks["default"].services.contains_key(&leaving[0]));
    }

    #[test]
    fn the_node_is_closed_unless_a_service_on_its_network_does_not_say_its_ports() {
        let open = |sections: &str| of(sections).networks.open.map(|open| open.len());
        assert_eq!(open("services:\n  a: {image: i, network_mode: none}\n"), None);
        assert_eq!(open("services:\n  a: {image: i, network_mode: host}\n"), None);
        assert_eq!(open("services:\n  a: {image: i, network_mode: host, ports: ['80:80']}\n"), Some(1));
        assert_eq!(open("services:\n  a: {image: i}\n"), Some(0));
        let firewall = "holdfast: {firewall: {accept: [22, {port: 161/udp, source: 10.0.0.0/8}]}}\n";
        assert_eq!(open(&format!("{firewall}services:\n  a: {{image: i, network_mode: host}}\n")), Some(2));
    }

    #[test]
    fn names_of_bridges_fit_and_differ() {
        let long = (bridge_name("a-very-long-network"), bridge_name("a-very-long-netwerk"));
        assert!(long.0.len() <= LINK_NAME && long.0 != long.1, "{long:?}");
        assert_ne!(bridge_name("A"), bridge_name("a"));
    }

    #[test]
    fn who_shares_a_network_shares_names_and_changes_with_it() {
        let desired = desired("services:\n  a: {image: i}\n  b: {image: i, network_mode: 'service:a'}\n");
        let draft = assign(&desired, &Networks::default(), &[], &[], "f").unwrap();
        let (name, service) = desired.services.last_key_value().unwrap();
        let network = draft.of(name, service, |other| Some(format!("digest of {other}"))).unwrap();
        assert!(network.hosts.contains("172.18.0.2 a"), "{}", network.hosts);
        assert_eq!(network.of.unwrap().digest, "digest of a");
    }
}
