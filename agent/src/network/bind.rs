//! Which link of the kernel each entry of a network configuration means. Pure.

use netconfig::{Kind, Select, State};
use netlink::Link;

/// An entry's place in the state, and the number of a link that it means.
pub(super) type Binding = (usize, u32);

/// Pairs entries and links. A pattern may mean several links; a link belongs to the first entry that means it.
/// `driver` tells the driver of the link with a name.
pub(super) fn bind(state: &State, links: &[Link], driver: impl Fn(&str) -> Option<String>) -> Vec<Binding> {
    let mut bindings: Vec<Binding> = Vec::new();
    for (place, entry) in state.links.iter().enumerate() {
        for link in links.iter().filter(|link| means(entry, link, links, &driver)) {
            let taken = bindings.iter().any(|(_, index)| *index == link.index);
            // What makes a link or gives it a name means one link only.
            let single = entry.rename || made(&entry.kind).is_some();
            let done = single && bindings.iter().any(|(other, _)| *other == place);
            if !taken && !done {
                bindings.push((place, link.index));
            }
        }
    }
    bindings
}

/// The kernel's word for links that are made rather than found.
pub(super) fn made(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::Physical | Kind::Loopback | Kind::Infiniband => None,
        Kind::Vlan { .. } => Some("vlan"),
        Kind::Bond { .. } => Some("bond"),
        Kind::Bridge { .. } => Some("bridge"),
        Kind::Wireguard { .. } => Some("wireguard"),
    }
}

/// Hardware that carries Ethernet (1, `ARPHRD_ETHER`) or InfiniBand (32). Some clouds put one function of a network
/// card under another one, with the same address: the one below is not meant.
pub(super) fn is_hardware(link: &Link, links: &[Link]) -> bool {
    let below = link.master.and_then(|master| links.iter().find(|other| other.index == master));
    !link.loopback
        && link.kind.is_none()
        && matches!(link.hardware, 1 | 32)
        && below.is_none_or(|master| master.kind.is_some())
}

fn means(
    entry: &netconfig::Link,
    link: &Link,
    links: &[Link],
    driver: &impl Fn(&str) -> Option<String>,
) -> bool {
    match &entry.kind {
        Kind::Loopback => link.loopback,
        Kind::Physical | Kind::Infiniband if entry.select == Select::default() => {
            link.name == entry.name && !link.loopback
        }
        Kind::Physical | Kind::Infiniband => {
            let Select { mac, name, drivers } = &entry.select;
            let by_mac = mac.as_ref().is_none_or(|mac| {
                link.permanent.as_ref() == Some(&mac.0) || (link.permanent.is_none() && link.address == mac.0)
            });
            // A link that has been renamed is still the one that was meant.
            let renamed = entry.rename && link.name == entry.name;
            let by_name = name.as_ref().is_none_or(|name| renamed || fits(name, &link.name));
            let by_driver = drivers.is_empty()
                || driver(&link.name)
                    .is_some_and(|driver| drivers.iter().any(|pattern| fits(pattern, &driver)));
            is_hardware(link, links) && by_mac && by_name && by_driver
        }
        made_kind => link.name == entry.name && link.kind.as_deref() == made(made_kind),
    }
}

/// Whether a pattern with `*` and `?` fits.
fn fits(pattern: &str, text: &str) -> bool {
    fn bytes(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| bytes(rest, &text[skip..])),
            ([b'?', rest @ ..], [_, text @ ..]) => bytes(rest, text),
            ([one, rest @ ..], [other, text @ ..]) => one == other && bytes(rest, text),
            _ => false,
        }
    }
    // Names have 15 characters at most, so that no pattern of this length takes long.
    pattern.len() <= 64 && bytes(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use netconfig::Mac;

    use super::*;

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        let last = u8::try_from(index).unwrap();
        Link {
            index,
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            hardware: 1,
            address: vec![2, 0, 0, 0, 0, last],
            permanent: kind.is_none().then(|| vec![2, 0, 0, 0, 0, last]),
            ..Link::default()
        }
    }

    fn entry(select: Select, rename: Option<&str>) -> netconfig::Link {
        let name = rename.unwrap_or("any").to_owned();
        netconfig::Link { id: "any".to_owned(), name, select, rename: rename.is_some(), ..Default::default() }
    }

    fn by_name(name: &str) -> Select {
        Select { name: Some(name.to_owned()), ..Select::default() }
    }

    fn bound(entries: Vec<netconfig::Link>, links: &[Link]) -> Vec<Binding> {
        let state = State { links: entries, ..State::default() };
        bind(&state, links, |name| Some(if name == "eth1" { "e1000" } else { "virtio_net" }.to_owned()))
    }

    #[test]
    fn hardware_is_found_by_address_name_and_driver() {
        let links = [link(1, "eth0", None), link(2, "eth1", None), link(3, "eth0.5", Some("vlan"))];
        let by_mac = Select { mac: Some(Mac(vec![2, 0, 0, 0, 0, 2])), ..Select::default() };
        let by_driver = Select { drivers: vec!["virtio*".to_owned()], ..Select::default() };
        assert_eq!(bound(vec![entry(by_mac.clone(), None)], &links), [(0, 2)]);
        assert_eq!(bound(vec![entry(by_name("eth*"), None)], &links), [(0, 1), (0, 2)], "no VLAN");
        assert_eq!(bound(vec![entry(by_driver.clone(), None)], &links), [(0, 1)]);
        let all = Select { name: Some("eth1".to_owned()), ..by_driver };
        assert_eq!(bound(vec![entry(all, None)], &links), [], "all that is given must fit");
        let both = vec![entry(by_mac, None), entry(by_name("eth?"), None)];
        assert_eq!(bound(both, &links), [(0, 2), (1, 1)], "the first entry has it");
    }

    #[test]
    fn a_link_that_was_renamed_is_found_again() {
        let entries = || vec![entry(by_name("eth0"), Some("lan0"))];
        assert_eq!(bound(entries(), &[link(1, "eth0", None)]), [(0, 1)]);
        assert_eq!(bound(entries(), &[link(1, "lan0", None)]), [(0, 1)]);
    }

    #[test]
    fn a_function_of_a_card_under_another_one_is_not_meant() {
        let upper = link(1, "eth0", None);
        let lower = Link { master: Some(1), ..link(2, "eth1", None) };
        assert_eq!(bound(vec![entry(by_name("eth*"), None)], &[upper, lower.clone()]), [(0, 1)]);
        let bond = link(1, "bond0", Some("bond"));
        assert_eq!(bound(vec![entry(by_name("eth*"), None)], &[bond, lower]), [(0, 2)]);
    }

    #[test]
    fn what_is_made_is_found_by_name_and_kind() {
        let bond = |name: &str| netconfig::Link {
            name: name.to_owned(),
            kind: Kind::Bond { members: Vec::new(), params: Vec::new() },
            ..Default::default()
        };
        let links = [link(1, "bond0", Some("bond")), link(2, "bond1", Some("bridge"))];
        assert_eq!(bound(vec![bond("bond0"), bond("bond1")], &links), [(0, 1)]);
    }
}
