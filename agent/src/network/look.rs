//! One look at the network: how it is, how it shall be, and what makes the difference.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dhcp::v6;
use netconfig::{Link as Entry, State};
use netlink::{Link, Scope};
use sys::console;

use super::apply::apply;
use super::bind::{Binding, bind};
use super::clients::Needs;
use super::difference::{Change, difference};
use super::engine::{Engine, Want};
use super::given::{dhcp4, dhcp6};
use super::settings::Setting;
use super::store::{self, Running, mac_text};
use super::wanted::{Actual, MARK, wanted};
use super::{View, resolver};
use crate::{drivers, file};

/// More addresses than a machine has links are not remembered: links that are made have another address each boot.
const MOST_REMEMBERED: usize = 32;

/// Names that are no names of this node, but what it has when nobody has given it one.
const NO_NAMES: [&str; 4] = ["", "(none)", "localhost", "holdfast"];

impl Engine {
    /// Looks once; true when there was something to do.
    pub(super) fn look(&mut self, now: Duration) -> io::Result<bool> {
        let actual = Actual {
            links: self.kernel.links()?,
            addresses: self.kernel.addresses()?,
            routes: self.kernel.routes()?,
            rules: self.kernel.rules()?,
        };
        self.given.routers.retain(|_, (_, until)| *until > now);
        match self.state(&actual, now) {
            Some(state) if state.disabled => {
                self.report.online(false, true, "it is not to be configured", now);
                Ok(false)
            }
            Some(state) => Ok(self.keep(&state, &actual, now)),
            None => Ok(self.hold(&actual, now)),
        }
    }

    /// What the network shall be; `None`: what it is.
    fn state(&mut self, actual: &Actual, now: Duration) -> Option<Arc<State>> {
        match &self.want {
            Want::Nothing => None,
            Want::State(state) => Some(Arc::clone(state)),
            Want::Fallback if self.inherited && has_marked_address(actual) => None,
            Want::Fallback => {
                let at_boot = self.at_boot.as_ref().map(|line| &line.state);
                Some(Arc::new(self.fallback.state(at_boot, &actual.links, now)))
            }
        }
    }

    /// Makes the network what it shall be.
    fn keep(&mut self, state: &State, actual: &Actual, now: Duration) -> bool {
        let bindings = bind(state, &actual.links, driver_of);
        let needs = needs(state, &bindings, actual);
        let changed = self.clients.set(&needs, &self.remembered, now);
        self.clients.collect(&mut self.given);
        let wanted = wanted(state, &bindings, actual, &self.given, now);
        let changes = difference(actual, &wanted, is_missing);
        let busy = changed || !changes.is_empty();
        let mut failures = self.change(actual, &changes);
        failures.extend(self.tunnels.set(state, &bindings, &self.wake, now));
        self.report.failures(failures, now);

        let (names, mut facts) = resolver::facts(state, &bindings, &self.given, now);
        if let (Want::Fallback, Some(line)) = (&self.want, &self.at_boot) {
            facts.host_name = line.host_name.clone().or(facts.host_name);
            facts.ntp_servers.splice(0..0, line.ntp_servers.iter().map(ToString::to_string));
        }
        let text = self.resolv_conf.clone().unwrap_or_else(|| names.resolv_conf());
        if let Err(error) = file::overwrite(Path::new("/etc/resolv.conf"), text.as_bytes()) {
            console::warning(console::chain(&error));
        }
        let needed = bindings.iter().filter(|(place, _)| is_needed(state, &state.links[*place]));
        let needed: Vec<u32> = needed.map(|(_, index)| *index).collect();
        let missing = if needed.is_empty() { "there is no link" } else { "there is no address" };
        let online =
            self.announce(actual, &|link| bindings.iter().any(|(_, index)| *index == link.index), &|link| {
                needed.contains(&link.index)
            });
        self.shared.set(View { online, facts });
        let hopeless = state.links.is_empty() && matches!(self.want, Want::State(_));
        self.report.online(online, hopeless, missing, now);
        self.write(matches!(self.want, Want::State(_)));
        busy
    }

    /// Keeps what there is: leases go on, and nothing else is touched.
    fn hold(&mut self, actual: &Actual, now: Duration) -> bool {
        self.clients.collect(&mut self.given);
        let leased = |link: &&Link| {
            self.given.four.contains_key(&link.index) || self.given.six.contains_key(&link.index)
        };
        let entry =
            |link: &Link| Entry { id: link.name.clone(), name: link.name.clone(), ..Entry::default() };
        let links = actual.links.iter().filter(leased).map(entry).collect();
        let state = State { links, ..State::default() };
        let bindings = bind(&state, &actual.links, driver_of);
        let wanted = wanted(&state, &bindings, actual, &self.given, now);
        let mut changes = difference(actual, &wanted, |_| false);
        changes.retain(|change| matches!(change, Change::SetAddress(_)));
        let failures = self.change(actual, &changes);
        self.report.failures(failures, now);
        let online = self.announce(actual, &is_marked, &is_marked);
        let facts = resolver::facts(&state, &bindings, &self.given, now).1;
        self.shared.set(View { online, facts });
        self.report.online(online, false, "there is no configuration yet", now);
        self.write(self.inherited);
        !changes.is_empty()
    }

    /// Does what is to be done; gives what failed.
    fn change(&mut self, actual: &Actual, changes: &[Change]) -> Vec<String> {
        let mut failures = Vec::new();
        for change in changes {
            if let Change::Create(link) = change {
                let module = match link.kind.word() {
                    "vlan" => "8021q",
                    "bond" => "bonding",
                    other => other,
                };
                if self.drivers.insert(module) {
                    drivers::load(&[module]);
                }
            }
            if let Err(error) = apply(&mut self.kernel, change) {
                let link = actual.links.iter().find(|link| Some(link.index) == change.link());
                let name = link.map(|link| format!("{}: ", link.name)).unwrap_or_default();
                failures.push(format!("{name}cannot {change}: {error}"));
            }
        }
        failures
    }

    /// Says the addresses of our links; whether one of the needed links has one that is not link-local.
    fn announce(
        &mut self,
        actual: &Actual,
        ours: &dyn Fn(&Link) -> bool,
        needed: &dyn Fn(&Link) -> bool,
    ) -> bool {
        let all: Vec<(&Link, IpAddr)> = global(actual).collect();
        let own = all.iter().filter(|(link, _)| ours(link));
        self.report.addresses(own.map(|(link, address)| (link.index, link.name.as_str(), *address)));
        all.iter().any(|(link, _)| needed(link))
    }

    /// Writes down what an agent after this one, or the next boot, goes on with.
    fn write(&mut self, configured: bool) {
        let routers = self.given.routers.clone();
        let running = Running { configured, routers, ..self.clients.running() };
        if running != self.running {
            running.write();
            let mut remembered = self.remembered.clone();
            for (hardware, held) in running.four.values() {
                remembered.insert(mac_text(*hardware), held.lease.address);
            }
            if remembered != self.remembered && remembered.len() <= MOST_REMEMBERED {
                store::remember(&remembered);
                self.remembered = remembered;
            }
            self.running = running;
        }
    }
}

/// Whether the boot waits for an entry: for those that are not optional, and for all when all are.
fn is_needed(state: &State, entry: &Entry) -> bool {
    let optional = |entry: &Entry| entry.optional == Some(true);
    !optional(entry) || state.links.iter().all(optional)
}

fn is_marked(link: &Link) -> bool {
    link.alias.as_deref() == Some(MARK)
}

fn has_marked_address(actual: &Actual) -> bool {
    global(actual).any(|(link, _)| is_marked(link))
}

/// The usable addresses that reach farther than their link.
fn global(actual: &Actual) -> impl Iterator<Item = (&Link, IpAddr)> {
    let usable = actual.addresses.iter().filter(|address| address.usable && address.scope == Scope::Global);
    usable.filter_map(|address| {
        let link = actual.links.iter().find(|link| link.index == address.link && !link.loopback)?;
        Some((link, address.address))
    })
}

fn is_missing(setting: &Setting) -> bool {
    // A kernel without IPv6 has none of its settings.
    if setting.path.starts_with("/proc/sys/net/ipv6") && !Path::new("/proc/sys/net/ipv6").exists() {
        return false;
    }
    setting.missing().map_or(true, |writes| !writes.is_empty())
}

fn driver_of(name: &str) -> Option<String> {
    let path = Path::new("/sys/class/net").join(name).join("device/driver");
    Some(std::fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

fn needs(state: &State, bindings: &[Binding], actual: &Actual) -> BTreeMap<u32, Needs> {
    let mut needs = BTreeMap::new();
    for (place, index) in bindings {
        let entry = &state.links[*place];
        let Some(link) = actual.links.iter().find(|link| link.index == *index) else { continue };
        // Ethernet: other hardware addresses do not fit into DHCP's.
        let Ok(hardware) = <[u8; 6]>::try_from(link.address.as_slice()) else { continue };
        let four = dhcp4(entry).map(|subnet| {
            let name = subnet.dhcp.hostname.clone().or_else(own_name);
            name.filter(|_| subnet.dhcp.send_hostname.unwrap_or(true))
        });
        let asked = (entry.accept_ra != Some(false) && entry.master.is_none()).then_some(link);
        let by_routers = asked.and_then(|link| match (link.ra_managed, link.ra_other) {
            (true, _) => Some(v6::Mode::Address),
            (false, true) => Some(v6::Mode::Information),
            (false, false) => None,
        });
        let own = actual.addresses.iter().filter(|address| address.link == *index && address.usable);
        let link_local = own.filter_map(|address| match address.address {
            IpAddr::V6(own) if own.is_unicast_link_local() => Some(own),
            _ => None,
        });
        needs.insert(
            *index,
            Needs {
                name: link.name.clone(),
                hardware,
                carrier: link.up && link.carrier,
                four,
                six: dhcp6(entry).map(|(_, mode)| mode).or(by_routers),
                link_local: link_local.min(),
            },
        );
    }
    needs
}

fn own_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    Some(name).filter(|name| !NO_NAMES.contains(&name.as_str()))
}
