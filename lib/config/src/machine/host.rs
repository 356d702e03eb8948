//! The node's names and how they are looked up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use userdata::{At, KeySpec as Key};

use super::{take, texts};

/// The node's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hostname {
    /// `hostname`: the first label, and the whole when it has dots.
    short: Option<String>,
    dotted: Option<String>,
    /// `fqdn`
    pub(super) fqdn: Option<String>,
    /// The kernel's name is the full one.
    pub(super) prefer_fqdn: bool,
    /// The name stays what it is.
    pub preserve: bool,
}

impl Hostname {
    /// The first label of the key `hostname`.
    pub(crate) fn given(&self) -> Option<String> {
        self.short.clone()
    }

    /// The first label. `local` is the datasource's name for the instance.
    pub fn short(&self, local: Option<&str>) -> Option<String> {
        let full = self.fqdn.as_deref().or(local);
        self.short.clone().or_else(|| full.and_then(|full| full.split('.').next()).map(str::to_owned))
    }

    /// The full name.
    pub fn full(&self, local: Option<&str>) -> Option<String> {
        let local = local.filter(|local| local.contains('.') && self.short.is_none());
        self.fqdn.clone().or_else(|| self.dotted.clone()).or_else(|| local.map(str::to_owned))
    }

    /// What the kernel calls the node.
    pub fn kernel(&self, local: Option<&str>) -> Option<String> {
        let full = self.full(local).filter(|_| self.prefer_fqdn);
        full.or_else(|| self.short(local)).filter(|_| !self.preserve)
    }
}

pub(super) fn read_hostname(at: &At<'_>, names: &mut Hostname) {
    let Some(name) = full_name(at) else { return };
    names.short = name.split('.').next().map(str::to_owned);
    names.dotted = Some(name).filter(|name| name.contains('.'));
}

/// A host name by RFC 1123.
pub(crate) fn full_name(at: &At<'_>) -> Option<String> {
    let name = at.text()?;
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        let rule = "labels of letters, digits and '-' with dots between them, each of 1 to 63 characters";
        at.error_with_hint("not a host name", rule);
        return None;
    }
    Some(name.to_owned())
}

/// What `/etc/hosts` says of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EtcHosts {
    /// Nothing.
    #[default]
    Leave,
    /// The whole file is made.
    Whole,
    /// The line of 127.0.1.1 is.
    Line,
}

pub(super) fn etc_hosts(at: &At<'_>, etc_hosts: &mut EtcHosts) {
    *etc_hosts = match at.text() {
        Some("localhost") => EtcHosts::Line,
        Some("template") => EtcHosts::Whole,
        Some(_) if at.truth() == Some(true) => EtcHosts::Whole,
        _ => EtcHosts::Leave,
    };
}

/// `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Addresses of name servers.
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Preferred networks.
    pub sortlist: Vec<String>,
    /// Options; those without a value are flags.
    pub options: BTreeMap<String, Option<String>>,
}

pub(super) fn resolv_conf(at: &At<'_>) -> ResolvConf {
    let table: [Key<ResolvConf>; 5] = [
        take(
            "nameservers",
            |at, conf: &mut ResolvConf| {
                conf.nameservers = at.list_or_one().iter().filter_map(address).collect()
            },
            "Addresses.",
        ),
        take("searchdomains", |at, conf| conf.search = texts(at), "Domains to search."),
        take("domain", |at, conf| conf.domain = at.text().map(str::to_owned), "The local domain."),
        take("sortlist", |at, conf| conf.sortlist = texts(at), "Networks that are preferred."),
        take("options", options, "Options by name, each with a value, or `true` for a flag."),
    ];
    let mut conf = ResolvConf::default();
    at.section("'resolv_conf'", &table, &mut conf);
    conf
}

fn address(at: &At<'_>) -> Option<IpAddr> {
    let address = at.text()?.parse().ok();
    if address.is_none() {
        at.error("not an IP address");
    }
    address
}

fn options(at: &At<'_>, conf: &mut ResolvConf) {
    for (name, _, value) in at.map().into_iter().flatten() {
        match value.text() {
            Some("false" | "no") | None => {}
            Some("true" | "yes") => drop(conf.options.insert(name.to_owned(), None)),
            Some(text) => drop(conf.options.insert(name.to_owned(), Some(text.to_owned()))),
        }
    }
}
