//! `holdfast.firewall`: who may reach the node itself, beside what services say in `ports` and `expose`.

use std::net::IpAddr;

use userdata::{At, KeySpec as Key};

use super::take;
use crate::container_network::{Accepted, Firewall, Protocol, parse_network};

/// The section `holdfast.firewall`.
const FIREWALL: [Key<Firewall>; 1] = [take(
    "accept",
    |at, firewall| {
        firewall.accept = at.list().into_iter().flatten().filter_map(|item| accepted(&item)).collect()
    },
    "List of what is let in: `PORT`, `FIRST-LAST` or either with `/udp`; or a map of `port`, in that form, and `source`, \
     a network.",
)];

/// The keys of one item.
const ACCEPTED: [Key<Draft>; 2] = [
    take("port", |at, draft| draft.port = port(at), "Required."),
    take(
        "source",
        |at, draft| draft.source = source(at),
        "The network that it is let in from. Default: everywhere.",
    ),
];

#[derive(Default)]
struct Draft {
    port: Option<((u16, u16), Protocol)>,
    source: Option<(IpAddr, u8)>,
}

/// Reads the section.
pub(super) fn read(at: &At<'_>) -> Firewall {
    let mut firewall = Firewall::default();
    at.section("'holdfast.firewall'", &FIREWALL, &mut firewall);
    firewall
}

fn accepted(at: &At<'_>) -> Option<Accepted> {
    let mut draft = Draft::default();
    if at.is_map() {
        at.section("a port to let in", &ACCEPTED, &mut draft);
        if at.get("port").is_none() {
            at.error("names no 'port'");
        }
    } else {
        draft.port = port(at);
    }
    let (ports, protocol) = draft.port?;
    Some(Accepted { ports, protocol, source: draft.source })
}

fn port(at: &At<'_>) -> Option<((u16, u16), Protocol)> {
    let text = at.text()?;
    let parsed = parse(text);
    if parsed.is_none() {
        at.error_with_hint(format!("'{text}' is not a port"), "PORT or FIRST-LAST, with /tcp or /udp");
    }
    parsed
}

fn parse(text: &str) -> Option<((u16, u16), Protocol)> {
    let (ports, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return None,
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0);
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(((first, last), protocol))
}

fn source(at: &At<'_>) -> Option<(IpAddr, u8)> {
    let text = at.text()?;
    let network = parse_network(text).or_else(|| {
        let address: IpAddr = text.parse().ok()?;
        Some((address, if address.is_ipv6() { 128 } else { 32 }))
    });
    if network.is_none() {
        at.error_with_hint(format!("'{text}' is not a network"), "as in 192.0.2.0/24");
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_single_or_ranges_of_a_protocol() {
        for (text, expected) in [
            ("22", Some(((22, 22), Protocol::Tcp))),
            ("8000-8010/tcp", Some(((8000, 8010), Protocol::Tcp))),
            ("53/udp", Some(((53, 53), Protocol::Udp))),
            ("0", None),
            ("9-1", None),
            ("22/sctp", None),
            ("ssh", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
