//! Whole files in, states and problems out; and the cases for networks (w*).

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn load(text: &str) -> (Option<State>, Vec<String>) {
    let report = Report::new("f");
    let state = read_text(text, SourceId::default(), &report);
    (state, report.finish().problems.iter().map(ToString::to_string).collect())
}

fn state(text: &str) -> State {
    let (state, problems) = load(text);
    assert_eq!(problems, Vec::<String>::new());
    state.expect("a state")
}

#[test]
fn every_network_case_comes_out_as_expected() {
    let with_network =
        cases::cases().into_iter().filter_map(|case| Some((case.file("network-config")?, case)));
    for (bytes, case) in with_network {
        let (state, problems) = load(std::str::from_utf8(&bytes).expect("text"));
        let (name, expect) = (&case.name, &case.expect);
        let network = expect.get("network_state").or_else(|| expect.get("network")).unwrap_or(&Json::Null);
        assert_eq!(state.is_some(), expect["valid"] == true, "{name}: {problems:#?}");
        assert_eq!(state.map_or(Json::Null, |state| state.to_json()), *network, "{name}: {problems:#?}");
    }
}

#[test]
fn mistakes_have_their_line() {
    for (text, expected) in [
        ("version: 3\n", "error f:1:10 version: version '3' of the network configuration is not known"),
        ("ethernets: {}\n", "error f:1:1: the network configuration has no 'version'"),
        ("version: 2\nethernet: {}\n", "error f:2:1 ethernet: 'ethernet' is not a key"),
        (
            "version: 2\nethernets:\n  a: {dhcp: true}\n",
            "error f:3:7 ethernets.a.dhcp: 'dhcp' is not a key of an interface (did you mean 'dhcp4'?)",
        ),
        (
            "version: 2\nethernets:\n  a: {addresses: [10.0.0.1]}\n",
            "error f:3:19 ethernets.a.addresses[0]: has no prefix length",
        ),
        (
            "version: 2\nethernets:\n  a: {addresses: [10.0.0.256/8]}\n",
            "error f:3:19 ethernets.a.addresses[0]: not an IP address",
        ),
        (
            "version: 2\nethernets:\n  a: {addresses: [10.0.0.1/33]}\n",
            "error f:3:19 ethernets.a.addresses[0]: '10.0.0.1/33' has no valid prefix",
        ),
        (
            "version: 2\nethernets:\n  a: {gateway4: 'fe80::1'}\n",
            "error f:3:17 ethernets.a.gateway4: must be an IPv4",
        ),
        (
            "version: 2\nethernets:\n  a: {set-name: b}\n",
            "error f:3:6 ethernets.a: 'set-name' needs a 'match'",
        ),
        (
            "version: 2\nethernets:\n  a-name-that-is-too-long: {}\n",
            "error f:3:28 ethernets.a-name-that-is-too-long: 'a-name",
        ),
        (
            "version: 2\nethernets:\n  a: {match: {macaddress: 'xx'}}\n",
            "error f:3:27 ethernets.a.match.macaddress: not a hardware",
        ),
        (
            "version: 2\nethernets:\n  a: {routes: [{via: 10.0.0.1}]}\n",
            "error f:3:16 ethernets.a.routes[0]: a route has no 'to'",
        ),
        (
            "version: 2\nbonds:\n  b: {interfaces: [c]}\n",
            "error f:3:6: 'b' names the interface 'c', which does not exist",
        ),
        (
            "version: 2\nvlans:\n  v: {id: 5000, link: v}\n",
            "error f:3:11 vlans.v.id: must be a whole number from 0 to 4094",
        ),
        ("version: 2\nvlans:\n  v: {id: 5, link: v}\n", "error f:3:6: 'v' is part of itself"),
        (
            "version: 2\nethernets: {e: }\nbonds:\n  b: {interfaces: [e]}\n  c: {interfaces: [e]}\n",
            "error f:5:6: 'e' cannot be part of 'b' and of 'c'",
        ),
        (
            "version: 2\nbonds:\n  b: {parameters: {mode: fast}}\n",
            "error f:3:26 bonds.b.parameters.mode: 'fast' is not supported: it must be 'balance-rr'",
        ),
        (
            "version: 2\nbonds:\n  b: {parameters: {modus: fast}}\n",
            "error f:3:27 bonds.b.parameters.modus: 'modus' is not a setting of this interface (did you mean 'mode'?)",
        ),
        (
            "version: 2\ntunnels:\n  w: {mode: wireguard, key: secret}\n",
            "error f:3:29 tunnels.w.key: not a WireGuard key",
        ),
        ("version: 1\n", "error f:1:1: has no 'config'"),
        ("version: 1\nconfig: [{type: physical}]\n", "error f:2:10 config[0]: has no 'name'"),
        (
            "version: 1\nconfig: [{type: virtual, name: a}]\n",
            "error f:2:17 config[0].type: 'virtual' is not a type",
        ),
        (
            "version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static}]}]\n",
            "error f:2:46 config[0].subnets[0]: a static subnet has no 'address'",
        ),
        (
            "version: 1\nconfig: [{type: physical, name: a, subnet: []}]\n",
            "error f:2:36 config[0].subnet: 'subnet' is not a key of this entry (did you mean 'subnets'?)",
        ),
        (
            "version: 1\nconfig: [{type: nameserver, address: 1.1.1.1, interface: b}]\n",
            "error f:2:58 config[0].interface: there is no interface 'b'",
        ),
        ("- a\n", "error f:1:1: must be a map"),
    ] {
        let (state, problems) = load(text);
        assert!(
            state.is_none() && problems.first().is_some_and(|p| p.starts_with(expected)),
            "{text}\n{problems:#?}\nexpected {expected}"
        );
        assert!(!problems.concat().contains("secret"), "{problems:#?}");
    }
}

#[test]
fn what_is_known_and_not_done_is_said() {
    let (state, problems) =
        load("version: 2\nwifis: {w: {}}\nethernets:\n  a: {dhcp4: yes, link-local: [ipv6]}\n");
    assert!(state.is_some());
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems.iter().all(|problem| problem.starts_with("warning")), "{problems:#?}");
}

#[test]
fn nothing_and_disabled_are_states() {
    assert_eq!(state(""), State::default());
    assert!(state("network: {config: disabled}").disabled);
}

#[test]
fn routes_without_addresses_are_kept() {
    let state = state(
        "version: 2\nethernets:\n  a: {routes: [{to: 10.0.0.0/8, via: 192.0.2.1, on-link: true, table: 7}]}\n",
    );
    let subnet = &state.links[0].subnets[0];
    assert_eq!(
        (subnet.method, subnet.routes[0].table, subnet.routes[0].on_link),
        (Method::Manual, Some(7), Some(true))
    );
}

#[test]
fn wireguard_and_rules_are_read_and_keys_stay_secret() {
    let key = "YFeZLeDhFJLEuHk+G5Fn2pRPfcSSTWKLeJL6HT7GFWM=";
    let text = format!(
        "version: 2\ntunnels:\n  wg0:\n    mode: wireguard\n    key: {key}\n    port: 51820\n    addresses: [10.9.0.1/24]\n    \
         routing-policy: [{{from: 10.9.0.0/24, table: 9, priority: 100}}]\n    \
         peers:\n    - {{keys: {{public: {key}, shared: {key}}}, allowed-ips: [0.0.0.0/0, '::/0'], endpoint: 'h:1', keepalive: 25}}\n"
    );
    let state = state(&text);
    let Kind::Wireguard { private_key, port, peers, .. } = &state.links[0].kind else { panic!("{state:?}") };
    assert_eq!((private_key.0.as_str(), *port, peers[0].allowed_ips.len()), (key, Some(51820), 2));
    assert_eq!(state.links[0].rules[0].table, Some(9));
    assert!(!state.to_json().to_string().contains(key));
    assert!(!format!("{private_key:?}{:?}", peers[0].shared_key).contains(key));
}

#[test]
fn members_of_version_1_need_no_entry() {
    let state = state(
        "version: 1\nconfig: [{type: bond, name: b0, bond_interfaces: [e0], params: {bond-mode: 1}}]\n",
    );
    assert_eq!(state.links[1].master.as_deref(), Some("b0"));
    assert_eq!(state.to_json()["interfaces"]["e0"]["bond-mode"], json!("active-backup"));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "([a-c]|version: [12]|config|ethernets|bonds|interfaces|addresses|10\\.0\\.0\\.1/8|type: (physical|bond)|name|subnets|[-:{}\\[\\],'\" \n]){0,60}") {
        load(&text);
        load(&format!("version: 1\nconfig:\n  - {text}"));
        load(&format!("version: 2\nethernets:\n  a: {text}"));
    }
}
