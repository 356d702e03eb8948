//! `/etc/resolv.conf` and the other facts that servers tell. Pure.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use netconfig::{Dns, Link, State};

use super::Facts;
use super::bind::Binding;
use super::given::{Given, automatic, options4, options6, takes_domains};

/// Name servers and search domains in the order in which they are asked: those of the configuration first, then what
/// DHCP gave, then what routers told; each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) servers: Vec<IpAddr>,
    search: Vec<String>,
}

impl Names {
    fn add(&mut self, servers: impl IntoIterator<Item = IpAddr>, search: &[String]) {
        for server in servers {
            if !self.servers.contains(&server) {
                self.servers.push(server);
            }
        }
        for domain in search {
            if !self.search.contains(domain) {
                self.search.push(domain.clone());
            }
        }
    }

    fn add_dns(&mut self, dns: &Dns) {
        self.add(dns.servers.iter().copied(), &dns.search);
    }

    /// The content of `/etc/resolv.conf`.
    pub(super) fn resolv_conf(&self) -> String {
        let mut text = String::new();
        if !self.search.is_empty() {
            text = format!("search {}\n", self.search.join(" "));
        }
        for server in &self.servers {
            // Writing to a text does not fail.
            writeln!(text, "nameserver {server}").unwrap_or_default();
        }
        text
    }
}

/// What is known, as of `now`.
pub(super) fn facts(state: &State, bindings: &[Binding], given: &Given, now: Duration) -> (Names, Facts) {
    let mut names = Names::default();
    let mut facts = Facts::default();
    names.add_dns(&state.dns);
    for entry in &state.links {
        automatic(entry).for_each(|subnet| names.add_dns(&subnet.dns));
        entry.dns.iter().for_each(|dns| names.add_dns(dns));
    }
    let bound = || bindings.iter().map(|(place, index)| (&state.links[*place], index));
    for (entry, index) in bound() {
        of_leases(entry, *index, given, &mut names, &mut facts);
    }
    for (entry, index) in bound() {
        if let Some((servers, until)) = given.routers.get(index)
            && *until > now
            && options6(entry).use_dns.unwrap_or(true)
        {
            names.add(servers.iter().copied(), &[]);
        }
    }
    facts.name_servers.clone_from(&names.servers);
    (names, facts)
}

fn of_leases(entry: &Link, index: u32, given: &Given, names: &mut Names, facts: &mut Facts) {
    if let Some(lease) = given.four.get(&index).map(|held| &held.lease) {
        let options = options4(entry);
        if options.use_dns.unwrap_or(true) {
            names.add(lease.name_servers.iter().copied().map(IpAddr::V4), &[]);
        }
        if takes_domains(options) {
            names.add([], &lease.search);
            facts.domain = facts.domain.take().or_else(|| lease.domain.clone());
        }
        if options.use_ntp.unwrap_or(true) {
            facts.ntp_servers.extend(lease.ntp_servers.iter().map(ToString::to_string));
        }
        if options.use_hostname.unwrap_or(true) {
            facts.host_name = facts.host_name.take().or_else(|| lease.host_name.clone());
        }
    }
    if let Some(lease) = given.six.get(&index).map(|held| &held.lease) {
        let options = options6(entry);
        if options.use_dns.unwrap_or(true) {
            names.add(lease.name_servers.iter().copied().map(IpAddr::V6), &[]);
        }
        if takes_domains(options) {
            names.add([], &lease.search);
        }
        if options.use_ntp.unwrap_or(true) {
            facts.ntp_servers.extend(lease.ntp_servers.iter().cloned());
        }
    }
}
