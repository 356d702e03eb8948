//! From a configuration to what the kernel is told, without a kernel.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dhcp::v4;
use netconfig::State;
use netlink::{Address, Link, Origin, Route, RouteKind, Rule, Scope};
use userdata::{Report, SourceId};

use super::bind::bind;
use super::difference::{Change, difference};
use super::given::Given;
use super::resolver;
use super::wanted::{Actual, MARK, Wanted, wanted};

const NOW: Duration = Duration::from_secs(1000);

fn state(text: &str) -> State {
    let report = Report::new("network");
    let state = netconfig::read_text(text, SourceId::default(), &report);
    state.unwrap_or_else(|| panic!("{:?}", report.finish().problems))
}

fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        hardware: 1,
        up: true,
        carrier: true,
        alias: Some(MARK.to_owned()),
        mtu: 1500,
        address: vec![2, 0, 0, 0, 0, 1],
        ..Link::default()
    }
}

fn given(index: u32) -> Given {
    let lease = v4::Lease {
        address: Ipv4Addr::new(10, 0, 0, 50),
        prefix: 24,
        server: Ipv4Addr::new(10, 0, 0, 1),
        routes: vec![(Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 0, 1))],
        name_servers: vec![Ipv4Addr::new(10, 0, 0, 53)],
        search: vec!["lan".to_owned()],
        domain: Some("lan".to_owned()),
        host_name: Some("leased".to_owned()),
        ntp_servers: vec![Ipv4Addr::new(10, 0, 0, 123)],
        mtu: Some(1400),
        times: [Duration::from_secs(600); 3],
    };
    let held = v4::Held { lease, since: NOW };
    Given { four: BTreeMap::from([(index, held)]), ..Given::default() }
}

fn want(state: &State, actual: &Actual, given: &Given) -> Wanted {
    let bindings = bind(state, &actual.links, |_| None);
    wanted(state, &bindings, actual, given, NOW)
}

/// The changes as words, with nothing of the kernel's files missing.
fn changes(state: &State, actual: &Actual, given: &Given) -> Vec<String> {
    let wanted = want(state, actual, given);
    difference(actual, &wanted, |_| false).iter().map(ToString::to_string).collect()
}

/// What the kernel has when everything that is wanted has been done.
fn settled(state: &State, mut actual: Actual, given: &Given) -> Actual {
    let wanted = want(state, &actual, given);
    (actual.addresses, actual.routes, actual.rules) = (wanted.addresses, wanted.routes, wanted.rules);
    for own in &wanted.links {
        if let Some(link) = actual.links.iter_mut().find(|link| link.index == own.index && !link.loopback) {
            link.mtu = own.mtu.unwrap_or(link.mtu);
            link.master = own.master.unwrap_or(link.master);
            link.name = own.name.clone().unwrap_or(link.name.clone());
        }
    }
    actual
}

const STATIC: &str = "
version: 2
ethernets:
  eth0:
    addresses: [192.0.2.5/24, 'fe80::5/64', '2001:db8::5/64']
    gateway4: 192.0.2.1
    gateway6: 2001:db8:1::1
    routes: [{to: 10.0.0.0/8, via: 192.0.2.7, metric: 50}, {to: 192.0.2.128/25, type: blackhole}]
    routing-policy: [{from: 192.0.2.5, table: 100}, {mark: 7, table: 100, priority: 5}]
    mtu: 1400
";

#[test]
fn a_static_network_needs_nothing_once_it_is_there() {
    let state = state(STATIC);
    let actual = Actual { links: vec![link(2, "eth0", None)], ..Actual::default() };
    let first = changes(&state, &actual, &Given::default());
    assert_eq!(
        first,
        [
            "set its MTU to 1400",
            "set 192.0.2.5/24",
            "set fe80::5/64",
            "set 2001:db8::5/64",
            "add the route to 0.0.0.0/0",
            "add the route to 10.0.0.0/8",
            "add the route to 192.0.2.128/25",
            "add the route to ::/0",
            "add a rule",
            "add a rule",
            "add a rule",
        ]
    );
    let settled = settled(&state, actual, &Given::default());
    assert_eq!(changes(&state, &settled, &Given::default()), [""; 0]);
}

#[test]
fn a_router_outside_of_every_network_is_on_the_link() {
    let actual = Actual { links: vec![link(2, "eth0", None)], ..Actual::default() };
    let routes = want(&state(STATIC), &actual, &Given::default()).routes;
    let on_link = |gateway: &str| {
        let gateway: IpAddr = gateway.parse().unwrap();
        routes.iter().find(|route| route.next.gateway == Some(gateway)).unwrap().next.on_link
    };
    assert!(!on_link("192.0.2.1"));
    assert!(on_link("2001:db8:1::1"));
}

#[test]
fn what_is_changed_from_outside_is_put_right_and_what_others_add_is_left() {
    let state = state(STATIC);
    let actual = Actual { links: vec![link(2, "eth0", None)], ..Actual::default() };
    let settled = settled(&state, actual, &Given::default());
    let changed = |change: &dyn Fn(&mut Actual)| {
        let mut actual = settled.clone();
        change(&mut actual);
        changes(&state, &actual, &Given::default())
    };
    let (first, router): (IpAddr, _) = ("192.0.2.5".parse().unwrap(), "192.0.2.1".parse().ok());
    assert_eq!(changed(&|actual| actual.addresses.retain(|a| a.address != first)), ["set 192.0.2.5/24"]);
    assert_eq!(
        changed(&|actual| actual.routes.retain(|r| r.next.gateway != router)),
        ["add the route to 0.0.0.0/0"]
    );
    assert_eq!(changed(&|actual| actual.rules.clear()), ["add a rule"; 3]);
    assert_eq!(changed(&|actual| actual.links[0].up = false), ["switch it on"]);
    assert_eq!(changed(&|actual| actual.links[0].mtu = 1500), ["set its MTU to 1400"]);
    assert_eq!(changed(&|actual| actual.links[0].master = Some(9)), ["take it out of another one"]);
    let more = Address {
        link: 2,
        address: "192.0.2.77".parse().unwrap(),
        prefix: 32,
        scope: Scope::Global,
        origin: Origin::Other,
        usable: true,
        lifetime: None,
        no_route: false,
    };
    assert_eq!(changed(&|actual| actual.addresses.push(more.clone())), [""; 0]);
    let ours = Address { origin: Origin::Ours, ..more.clone() };
    assert_eq!(changed(&|actual| actual.addresses.push(ours.clone())), ["remove 192.0.2.77"]);
}

#[test]
fn what_is_not_wanted_any_more_goes_and_only_that() {
    let before = state(STATIC);
    let links = vec![link(2, "eth0", None), link(3, "old", Some("vlan"))];
    let foreign = Link { alias: None, ..link(4, "docker0", Some("bridge")) };
    let actual = Actual { links: [links, vec![foreign]].concat(), ..Actual::default() };
    let settled = settled(&before, actual, &Given::default());
    let after =
        changes(&state("{version: 2, ethernets: {eth9: {dhcp4: true}}}"), &settled, &Given::default());
    assert_eq!(after.iter().filter(|change| *change == "remove a rule").count(), 3);
    assert_eq!(after.iter().filter(|change| change.starts_with("remove the route")).count(), 4);
    assert!(after.contains(&"remove 192.0.2.5".to_owned()));
    let links: Vec<_> = after.iter().filter(|change| change.ends_with(" it")).collect();
    assert_eq!(links, ["release it", "remove it"], "the hardware is released, what was made is removed");
}

#[test]
fn a_lease_becomes_an_address_with_its_times_and_routes() {
    let state = state("{version: 2, ethernets: {eth0: {dhcp4: true}, eth1: {dhcp4: true}}}");
    let actual = Actual { links: vec![link(2, "eth0", None), link(3, "eth1", None)], ..Actual::default() };
    let wanted = want(&state, &actual, &given(3));
    assert_eq!(wanted.addresses[0].lifetime, Some((600, 600)));
    let route = &wanted.routes[0];
    assert_eq!((route.metric, route.next.link, route.next.on_link), (101, Some(3), true), "behind eth0's");
    assert_eq!(wanted.links[1].mtu, Some(1400));
    // The kernel counts down, and a second is no reason to do anything.
    let mut settled = settled(&state, actual, &given(3));
    settled.addresses[0].lifetime = Some((597, 597));
    assert_eq!(changes(&state, &settled, &given(3)), [""; 0]);
    settled.addresses[0].lifetime = Some((300, 300));
    assert_eq!(changes(&state, &settled, &given(3)), ["set 10.0.0.50/24"], "the lease was renewed");
}

#[test]
fn what_is_not_to_be_taken_from_a_lease_is_not_taken() {
    let overrides = "{use-dns: false, use-domains: 'false', use-ntp: false, use-mtu: false, use-routes: false, \
                     use-hostname: false}";
    let text = format!("{{version: 2, ethernets: {{eth0: {{dhcp4: true, dhcp4-overrides: {overrides}}}}}}}");
    let actual = Actual { links: vec![link(2, "eth0", None)], ..Actual::default() };
    for (text, taken) in [("{version: 2, ethernets: {eth0: {dhcp4: true}}}".to_owned(), true), (text, false)]
    {
        let state = state(&text);
        let bindings = bind(&state, &actual.links, |_| None);
        let wanted = wanted(&state, &bindings, &actual, &given(2), NOW);
        let (names, facts) = resolver::facts(&state, &bindings, &given(2), NOW);
        assert_eq!(wanted.routes.len(), usize::from(taken));
        assert_eq!(wanted.links[0].mtu, taken.then_some(1400));
        assert_eq!(names.resolv_conf(), if taken { "search lan\nnameserver 10.0.0.53\n" } else { "" });
        assert_eq!(facts.host_name.as_deref(), taken.then_some("leased"));
        assert_eq!(facts.ntp_servers.len(), usize::from(taken));
    }
}

#[test]
fn name_servers_of_the_configuration_come_first_and_each_once() {
    let text = "
version: 2
ethernets:
  eth0: {dhcp4: true, nameservers: {addresses: [192.0.2.53, 10.0.0.53], search: [example.com, lan]}}
";
    let state = state(text);
    let links = [link(2, "eth0", None)];
    let bindings = bind(&state, &links, |_| None);
    let mut given = given(2);
    let told = vec!["fd00::53".parse().unwrap(), "10.0.0.53".parse().unwrap()];
    given.routers.insert(2, (told, NOW + Duration::from_secs(1)));
    let conf = |now| resolver::facts(&state, &bindings, &given, now).0.resolv_conf();
    let own = "search example.com lan\nnameserver 192.0.2.53\nnameserver 10.0.0.53\n";
    assert_eq!(conf(NOW), format!("{own}nameserver fd00::53\n"));
    assert_eq!(conf(NOW + Duration::from_secs(1)), own, "a router's word has an end");
}

const STACKED: &str = "
version: 2
ethernets: {eth0: {}, eth1: {}}
bonds: {bond0: {interfaces: [eth0, eth1], parameters: {mode: active-backup}}}
vlans: {tagged: {id: 5, link: bond0}}
bridges: {br0: {interfaces: [tagged], addresses: [10.0.0.1/24], macaddress: '02:00:00:00:00:99'}}
";

#[test]
fn links_are_made_when_what_they_are_made_of_is_there() {
    let state = state(STACKED);
    let mut actual =
        Actual { links: vec![link(2, "eth0", None), link(3, "eth1", None)], ..Actual::default() };
    let first = changes(&state, &actual, &Given::default());
    assert_eq!(first, ["make bond 'bond0'", "make bridge 'br0'"], "no VLAN before its bond");
    actual.links.push(Link { bond_mode: Some(1), ..link(4, "bond0", Some("bond")) });
    actual.links.push(Link { address: vec![2, 0, 0, 0, 0, 0x99], ..link(5, "br0", Some("bridge")) });
    let second = changes(&state, &actual, &Given::default());
    let enslave = ["switch it off", "make it part of another one", "switch it on"];
    let expected = [["make vlan 'tagged'"].as_slice(), &enslave, &enslave, &["set 10.0.0.1/24"]].concat();
    assert_eq!(second, expected);
    let vlan = Link { vlan: Some(5), lower: Some(4), ..link(6, "tagged", Some("vlan")) };
    actual.links.push(vlan.clone());
    let settled = settled(&state, actual, &Given::default());
    assert_eq!(changes(&state, &settled, &Given::default()), [""; 0]);

    let mut other = settled.clone();
    other.links.retain(|link| link.index != 6);
    other.links.push(Link { vlan: Some(6), master: Some(5), ..vlan });
    assert_eq!(changes(&state, &other, &Given::default()), ["remove it"], "another tag is another link");
    let mut other = settled;
    other.links[2].bond_mode = Some(4);
    assert_eq!(changes(&state, &other, &Given::default()), ["remove it"], "another mode is another bond");
}

#[test]
fn a_name_that_is_taken_is_taken_away() {
    let text = "{version: 2, ethernets: {a: {match: {macaddress: '02:00:00:00:00:01'}, set-name: eth1}}}";
    let other = Link { alias: None, address: vec![2; 6], ..link(3, "eth1", None) };
    let actual = Actual { links: vec![link(2, "eth0", None), other], ..Actual::default() };
    assert_eq!(
        changes(&state(text), &actual, &Given::default()),
        ["switch it off", "rename it to 'old3'", "switch it off", "rename it to 'eth1'", "switch it on"]
    );
}

#[test]
fn routes_of_no_interface_go_over_the_link_that_reaches_their_router() {
    let text = "
version: 1
config:
- {type: physical, name: eth0, subnets: [{type: static, address: 192.0.2.5/24}]}
- {type: route, destination: 10.0.0.0/8, gateway: 192.0.2.1, metric: 3}
- {type: route, destination: 11.0.0.0/8, gateway: 203.0.113.1}
";
    let actual = Actual { links: vec![link(2, "eth0", None)], ..Actual::default() };
    let routes = want(&state(text), &actual, &Given::default()).routes;
    let expected = Route {
        network: "10.0.0.0".parse().unwrap(),
        prefix: 8,
        table: 254,
        metric: 3,
        next: netlink::NextHop { link: Some(2), gateway: Some("192.0.2.1".parse().unwrap()), on_link: false },
        source: None,
        mtu: None,
        kind: RouteKind::Unicast,
    };
    assert_eq!(routes, [expected], "a router that nobody reaches is waited for");
}

#[test]
fn a_rule_that_names_no_network_is_one_for_each_family() {
    let actual = Actual { links: vec![link(2, "eth0", None)], ..Actual::default() };
    let rules = want(&state(STATIC), &actual, &Given::default()).rules;
    let from = Rule {
        from: Some(("192.0.2.5".parse().unwrap(), 32)),
        table: 100,
        priority: 32_000,
        ..Rule::default()
    };
    let marked = Rule { mark: 7, table: 100, priority: 5, ..Rule::default() };
    assert_eq!(rules, [from, marked.clone(), Rule { six: true, ..marked }]);
}

#[test]
fn every_change_names_its_link() {
    let address = want(
        &state(STATIC),
        &Actual { links: vec![link(2, "eth0", None)], ..Actual::default() },
        &Given::default(),
    )
    .addresses
    .remove(0);
    assert_eq!(Change::SetAddress(address).link(), Some(2));
    assert_eq!(Change::Release(7).link(), Some(7));
}
