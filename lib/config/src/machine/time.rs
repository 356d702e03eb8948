//! Time zone and time servers.

use std::net::IpAddr;

use userdata::{At, KeySpec as Key, Use};

use super::take;

/// Time servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ntp {
    /// Whether the clock is set by them at all.
    pub enabled: bool,
    /// Single servers.
    pub servers: Vec<String>,
    /// Names that stand for several servers.
    pub pools: Vec<String>,
}

/// A name of the time zone database. Whether it is there is seen where the database is.
pub(super) fn timezone(at: &At<'_>) -> Option<String> {
    let name = at.text()?;
    let part =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c));
    if name.len() > 100 || !name.split('/').all(part) {
        at.error_with_hint("not a time zone", "a name of the time zone database, as in Europe/Berlin");
        return None;
    }
    Some(name.to_owned())
}

pub(super) fn ntp(at: &At<'_>) -> Ntp {
    let not_served = "the node takes the time, it does not serve it";
    let table: [Key<Ntp>; 7] = [
        take(
            "enabled",
            |at, ntp: &mut Ntp| ntp.enabled = at.truth().unwrap_or(true),
            "`false`: the time is taken from nowhere.",
        ),
        take("servers", |at, ntp| ntp.servers = hosts(at), "Single servers, by name or address."),
        take("pools", |at, ntp| ntp.pools = hosts(at), "Names that stand for several servers."),
        Key { name: "ntp_client", use_: Use::NotApplicable, doc: "the node has its own client" },
        Key { name: "config", use_: Use::NotApplicable, doc: "give 'servers' and 'pools'" },
        Key { name: "peers", use_: Use::NotApplicable, doc: not_served },
        Key { name: "allow", use_: Use::NotApplicable, doc: not_served },
    ];
    let mut ntp = Ntp { enabled: true, servers: Vec::new(), pools: Vec::new() };
    at.section("'ntp'", &table, &mut ntp);
    ntp
}

/// Names or addresses of hosts.
fn hosts(at: &At<'_>) -> Vec<String> {
    let mut hosts = Vec::new();
    for item in at.list().into_iter().flatten() {
        let Some(host) = item.text() else { continue };
        let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.len() < 254 && host.chars().all(word))
        {
            hosts.push(host.to_owned());
        } else {
            item.error("not the name or address of a host");
        }
    }
    hosts
}
