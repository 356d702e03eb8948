//! `ports` and `expose`.

use std::net::IpAddr;

use serde_json::{Map, Value as Json, json};
use userdata::{At, KeySpec as Key, Use};

use crate::machine::take;

/// A port of the container, and the one of the node that leads to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// In the container.
    pub target: u16,
    /// On the node, first and last: one of them is taken. Absent: any.
    pub published: Option<(u16, u16)>,
    /// `tcp`, `udp` or `sctp`, when it is given.
    pub protocol: Option<String>,
    /// The node's address.
    pub host_ip: Option<IpAddr>,
    /// `host` or `ingress`, when it is given.
    pub mode: Option<String>,
}

impl Port {
    pub(super) fn json(&self) -> Json {
        let mut map = Map::new();
        map.insert("target".to_owned(), json!(self.target));
        match self.published {
            Some((first, last)) if first == last => drop(map.insert("published".to_owned(), json!(first))),
            Some((first, last)) => drop(map.insert("published".to_owned(), json!(format!("{first}-{last}")))),
            None => {}
        }
        for (key, value) in [
            ("protocol", self.protocol.clone()),
            ("external_ip", self.host_ip.map(|ip| ip.to_string())),
            ("mode", self.mode.clone()),
        ] {
            if let Some(value) = value {
                map.insert(key.to_owned(), json!(value));
            }
        }
        Json::Object(map)
    }
}

/// How many ports the services of a file may have together: a range stands for each of its ports.
pub(super) const MAX_PORTS: usize = 20_000;

/// Reads ports. `left` of [`MAX_PORTS`] is made smaller by them.
pub(super) fn ports(at: &At<'_>, left: &mut usize) -> Vec<Port> {
    let mut ports = Vec::new();
    for item in at.list().into_iter().flatten() {
        if item.is_map() {
            ports.extend(long(&item));
        } else if let Some(text) = item.text() {
            match short(text, *left) {
                Some(more) if more.is_empty() => {
                    item.error(format!("the services have more than {MAX_PORTS} ports"));
                    break;
                }
                Some(more) => {
                    *left -= more.len();
                    ports.extend(more);
                }
                None => item.error_with_hint(
                    format!("'{text}' is not a port"),
                    "CONTAINER, NODE:CONTAINER or ADDRESS:NODE:CONTAINER, ranges as 8000-8010, and /udp",
                ),
            }
        }
    }
    ports
}

/// `[[ADDRESS:]NODE:]CONTAINER[/PROTOCOL]`; empty when that is more than `limit` ports.
fn short(text: &str, limit: usize) -> Option<Vec<Port>> {
    let (text, protocol) = match text.rsplit_once('/') {
        Some((text, protocol)) if ["tcp", "udp", "sctp"].contains(&protocol) => {
            (text, Some(protocol.to_owned()))
        }
        Some(_) => return None,
        None => (text, None),
    };
    let (rest, target) = text.rsplit_once(':').map_or((None, text), |(rest, target)| (Some(rest), target));
    let target = range(target)?;
    let (address, published) = match rest {
        None => (None, None),
        Some(rest) => match rest.rsplit_once(':') {
            Some((address, published)) => (Some(address), Some(published)),
            None => (None, Some(rest)),
        },
    };
    let host_ip = match address {
        None => None,
        Some(address) => {
            let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
            Some(address.parse().ok()?)
        }
    };
    let published = match published {
        None | Some("") => None,
        Some(published) => Some(range(published)?),
    };
    let width = target.1 - target.0;
    if published.is_some_and(|(first, last)| width > 0 && last - first != width) {
        return None;
    }
    if usize::from(width) >= limit {
        return Some(Vec::new());
    }
    let port = |offset: u16| Port {
        target: target.0 + offset,
        published: published
            .map(|(first, last)| if width > 0 { (first + offset, first + offset) } else { (first, last) }),
        protocol: protocol.clone(),
        host_ip,
        mode: None,
    };
    Some((0..=width).map(port).collect())
}

/// `8000` or `8000-8010`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0);
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

fn long(at: &At<'_>) -> Option<Port> {
    let table: [Key<Port>; 7] = [
        take(
            "target",
            |at, port: &mut Port| {
                port.target = at.int(1..=65535).and_then(|port| port.try_into().ok()).unwrap_or(0)
            },
            "Port in the container. Required.",
        ),
        take(
            "published",
            |at, port| {
                port.published = at.text().filter(|text| !text.is_empty()).and_then(range);
                if port.published.is_none() {
                    at.error("not a port or a range of ports");
                }
            },
            "Port of the node, or a range to choose from.",
        ),
        take(
            "protocol",
            |at, port| {
                port.protocol =
                    at.word(&[("tcp", "tcp"), ("udp", "udp"), ("sctp", "sctp")]).map(str::to_owned);
            },
            "Default `tcp`.",
        ),
        take(
            "host_ip",
            |at, port| {
                port.host_ip = at.text().and_then(|text| text.parse().ok());
                if port.host_ip.is_none() {
                    at.error("not an IP address");
                }
            },
            "Address of the node. Default: all.",
        ),
        take(
            "mode",
            |at, port| port.mode = at.word(&[("host", "host"), ("ingress", "ingress")]).map(str::to_owned),
            "No difference on a node.",
        ),
        Key { name: "name", use_: Use::Quiet, doc: "" },
        Key { name: "app_protocol", use_: Use::Quiet, doc: "" },
    ];
    let mut port = Port::default();
    at.section("a port", &table, &mut port);
    if at.get("target").is_none() {
        at.error("a port has no 'target'");
    }
    (port.target > 0).then_some(port)
}

/// Ports that only other containers see: numbers, ranges, with a protocol.
pub(super) fn expose(at: &At<'_>) -> Json {
    let mut ports = Vec::new();
    for item in at.list().into_iter().flatten() {
        let Some(text) = item.text() else { continue };
        if short(text, 0).is_none() || text.contains(':') {
            item.error(format!("'{text}' is not a port"));
        }
        ports.push(text.parse::<u16>().map_or_else(|_| json!(text), |number| json!(number)));
    }
    Json::Array(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ports_take_composes_forms() {
        let normal =
            |text: &str| short(text, 100).map(|ports| ports.iter().map(Port::json).collect::<Vec<_>>());
        for (text, expected) in [
            ("80", json!([{"target": 80}])),
            ("8080:80", json!([{"target": 80, "published": 8080}])),
            ("53:53/udp", json!([{"target": 53, "published": 53, "protocol": "udp"}])),
            ("127.0.0.1:1:2", json!([{"target": 2, "published": 1, "external_ip": "127.0.0.1"}])),
            ("[::1]:1:2", json!([{"target": 2, "published": 1, "external_ip": "::1"}])),
            ("127.0.0.1::2", json!([{"target": 2, "external_ip": "127.0.0.1"}])),
            ("1-2:3-4", json!([{"target": 3, "published": 1}, {"target": 4, "published": 2}])),
            ("1-2:3", json!([{"target": 3, "published": "1-2"}])),
        ] {
            assert_eq!(normal(text).map(Json::from), Some(expected), "{text}");
        }
        for text in ["", "a", "0", "65536", "1:2:3", "1-3:1-2", "2-1", "80/ip", "a:80", "1:2:3:4", ":"] {
            assert_eq!(normal(text), None, "{text}");
        }
    }
}
