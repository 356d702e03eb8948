//! The rules: who may reach whom, and where ports of the node lead. Pure.
//!
//! What is dropped is counted and not answered. Packets between containers of one network do not come by here: the bridge
//! passes them on.

use netlink::nftables::{Chain, Family, Hook, Policy, Protocol, Rule, Table};

use super::{ContainerNet, Networks, Open, Redirection};

/// The name of both tables.
const NAME: &str = "holdfast";

/// DHCP's ports at a client.
const DHCP: (u16, u16) = (68, 546);
const DNS: u16 = 53;

/// The tables for `networks`.
pub(super) fn tables(networks: &Networks) -> [Table; 2] {
    let filter = [raw(networks), input(networks), forward(networks)];
    let nat = [published(networks), local(networks), incoming(), own(), leaving(networks)];
    let unless_idle = |chains: Vec<Chain>| if networks.is_idle() { Vec::new() } else { chains };
    [
        Table { family: Family::Inet, name: NAME, chains: unless_idle(filter.into()) },
        Table { family: Family::Ip, name: NAME, chains: unless_idle(nat.into()) },
    ]
}

fn chain(name: &'static str, hook: Hook, policy: Policy, rules: Vec<Rule>) -> Chain {
    Chain { name, base: Some((hook, policy)), rules }
}

fn names(networks: &Networks) -> impl Iterator<Item = &str> {
    networks.networks.values().map(|network| network.bridge.name.as_str())
}

fn protocol(udp: bool) -> Protocol {
    if udp { Protocol::Udp } else { Protocol::Tcp }
}

/// Bridges may pass on packets of 127.0.0.1 (see `bridges`), but nobody on one may send any.
fn raw(networks: &Networks) -> Chain {
    let rule = |name| Rule::new().input_link(name).destination([127, 0, 0, 0], 8).counter().drop();
    chain("from-containers", Hook::Raw, Policy::Accept, names(networks).map(rule).collect())
}

/// For the node itself.
fn input(networks: &Networks) -> Chain {
    let Some(open) = &networks.open else {
        return chain("input", Hook::Input, Policy::Accept, Vec::new());
    };
    let mut rules = vec![
        Rule::new().input_link("lo").accept(),
        Rule::new().known().accept(),
        Rule::new().icmp(false).accept(),
        Rule::new().icmp(true).accept(),
        Rule::new().destination([0, 0, 0, 0], 0).ports(Protocol::Udp, DHCP.0, DHCP.0).accept(),
        Rule::new().source([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10).ports(Protocol::Udp, DHCP.1, DHCP.1).accept(),
    ];
    for network in networks.networks.values() {
        let asked = || Rule::new().input_link(&network.bridge.name).destination(network.bridge.gateway, 32);
        rules.push(asked().ports(Protocol::Udp, DNS, DNS).accept());
        rules.push(asked().ports(Protocol::Tcp, DNS, DNS).accept());
    }
    rules.extend(open.iter().map(opened));
    rules.push(Rule::new().counter().drop());
    chain("input", Hook::Input, Policy::Drop, rules)
}

fn opened(open: &Open) -> Rule {
    let mut rule = Rule::new();
    if let Some((network, prefix)) = open.source {
        rule = rule.source(network, prefix);
    }
    if let Some(address) = open.address {
        rule = rule.destination(address, 32);
    }
    rule.ports(protocol(open.udp), open.ports.0, open.ports.1).accept()
}

/// From one link to another.
fn forward(networks: &Networks) -> Chain {
    let mut rules = vec![Rule::new().known().accept(), Rule::new().redirected().accept()];
    let drop = |rule: Rule| rule.counter().drop();
    // Within a network first, then nothing into one, so that what is left goes out.
    rules.extend(names(networks).map(|name| Rule::new().input_link(name).output_link(name).accept()));
    rules.extend(names(networks).map(|name| drop(Rule::new().output_link(name))));
    let outgoing = networks.networks.values().filter(|network| !network.internal);
    rules.extend(outgoing.map(|network| Rule::new().input_link(&network.bridge.name).accept()));
    rules.push(drop(Rule::new()));
    chain("forward", Hook::Forward, Policy::Drop, rules)
}

fn redirect(redirection: &Redirection) -> Rule {
    let mut rule = Rule::new();
    if let Some(address) = redirection.address {
        rule = rule.destination(address, 32);
    }
    let (first, last) = redirection.ports;
    rule.ports(protocol(redirection.udp), first, last).to(redirection.to, redirection.port)
}

fn is_loopback(redirection: &Redirection) -> bool {
    redirection.address.is_some_and(|address| address.is_loopback())
}

/// Ports that lead to containers for everybody.
fn published(networks: &Networks) -> Chain {
    let open = networks.published.iter().filter(|redirection| !is_loopback(redirection));
    Chain { name: "published", base: None, rules: open.map(redirect).collect() }
}

/// Those that do so for the node's own programs only.
fn local(networks: &Networks) -> Chain {
    let own = networks.published.iter().filter(|redirection| is_loopback(redirection));
    Chain { name: "published-locally", base: None, rules: own.map(redirect).collect() }
}

fn incoming() -> Chain {
    let rules = vec![Rule::new().local().jump("published")];
    chain("incoming", Hook::TranslateIncoming, Policy::Accept, rules)
}

fn own() -> Chain {
    let rules = vec![Rule::new().local().jump("published-locally"), Rule::new().local().jump("published")];
    chain("own", Hook::TranslateOwn, Policy::Accept, rules)
}

fn leaving(networks: &Networks) -> Chain {
    let mut rules = Vec::new();
    for network in networks.networks.values() {
        let ContainerNet { bridge, network: own, .. } = network;
        // A container, or the node's loopback, that came by a port of the node: the answer must come back by the node.
        let redirected = || Rule::new().output_link(&bridge.name).redirected();
        rules.push(redirected().source(*own, bridge.prefix).masquerade());
        rules.push(redirected().source([127, 0, 0, 0], 8).masquerade());
        if !network.internal {
            rules.push(Rule::new().source(*own, bridge.prefix).other_output_link(&bridge.name).masquerade());
        }
    }
    chain("leaving", Hook::TranslateLeaving, Policy::Accept, rules)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use plan::Bridge;

    use super::*;

    fn network(name: &str, third: u8, internal: bool) -> (String, ContainerNet) {
        let bridge = Bridge { name: format!("hf-{name}"), gateway: [172, 18, third, 1].into(), prefix: 24 };
        let network = [172, 18, third, 0].into();
        (name.to_owned(), ContainerNet { bridge, network, internal, services: BTreeMap::new() })
    }

    fn said(networks: &Networks, chain: &str) -> Vec<String> {
        let tables = tables(networks);
        let chain = tables.iter().flat_map(|table| &table.chains).find(|c| c.name == chain).unwrap();
        chain.rules.iter().map(Rule::to_string).collect()
    }

    #[test]
    fn networks_reach_neither_each_other_nor_what_an_internal_one_must_not() {
        let networks = Networks {
            networks: [network("a", 0, false), network("b", 1, true)].into(),
            ..Networks::default()
        };
        assert_eq!(
            said(&networks, "forward"),
            [
                "ct state established,related accept",
                "ct status dnat accept",
                "iifname hf-a oifname hf-a accept",
                "iifname hf-b oifname hf-b accept",
                "oifname hf-a counter drop",
                "oifname hf-b counter drop",
                "iifname hf-a accept",
                "counter drop",
            ]
        );
        assert_eq!(
            said(&networks, "leaving"),
            [
                "oifname hf-a ct status dnat nfproto ipv4 saddr 172.18.0.0/24 masquerade",
                "oifname hf-a ct status dnat nfproto ipv4 saddr 127.0.0.0/8 masquerade",
                "nfproto ipv4 saddr 172.18.0.0/24 oifname != hf-a masquerade",
                "oifname hf-b ct status dnat nfproto ipv4 saddr 172.18.1.0/24 masquerade",
                "oifname hf-b ct status dnat nfproto ipv4 saddr 127.0.0.0/8 masquerade",
            ]
        );
    }

    #[test]
    fn ports_lead_to_containers_and_those_of_loopback_for_the_node_alone() {
        let redirection = |address: Option<[u8; 4]>, ports, port| Redirection {
            address: address.map(Into::into),
            ports,
            udp: false,
            to: [172, 18, 0, 2].into(),
            port,
        };
        let published = vec![
            redirection(None, (8080, 8080), Some(80)),
            redirection(Some([192, 0, 2, 1]), (9000, 9010), None),
            redirection(Some([127, 0, 0, 1]), (5432, 5432), None),
        ];
        let networks =
            Networks { networks: [network("a", 0, false)].into(), published, ..Networks::default() };
        assert_eq!(
            said(&networks, "published"),
            [
                "l4proto 6 dport 8080 dnat to 172.18.0.2:80",
                "nfproto ipv4 daddr 192.0.2.1/32 l4proto 6 dport 9000-9010 dnat to 172.18.0.2",
            ]
        );
        assert_eq!(
            said(&networks, "published-locally"),
            ["nfproto ipv4 daddr 127.0.0.1/32 l4proto 6 dport 5432 dnat to 172.18.0.2"]
        );
    }

    #[test]
    fn the_node_lets_in_what_is_said_or_everything() {
        let open = |ports, source: Option<&str>| Open {
            ports,
            udp: true,
            address: None,
            source: source.map(|source| (source.parse().unwrap(), 64)),
        };
        let networks = Networks {
            open: Some(vec![open((53, 53), None), open((161, 162), Some("2001:db8::"))]),
            ..Networks::default()
        };
        let rules = said(&networks, "input");
        assert!(rules.contains(&"ct state established,related accept".to_owned()), "{rules:#?}");
        assert_eq!(
            rules[rules.len() - 3..],
            [
                "l4proto 17 dport 53 accept",
                "nfproto ipv6 saddr 2001:db8::/64 l4proto 17 dport 161-162 accept",
                "counter drop",
            ]
        );
        let all = Networks { networks: [network("a", 0, false)].into(), ..Networks::default() };
        assert_eq!(said(&all, "input"), Vec::<String>::new());
    }

    #[test]
    fn without_anything_to_do_there_are_no_tables() {
        assert!(tables(&Networks::default()).iter().all(|table| table.chains.is_empty()));
    }
}
