//! The node's network: DHCPv4 on the first link, for as long as the node runs.
//!
//! A thread of its own, because nothing else of the agent may wait for it. What it has got is kept in `/run`, so that
//! an agent that was killed goes on with the lease instead of asking for a new one.

mod dhcp;
mod exchange;
mod frame;
mod link;
mod netlink;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dhcp::Lease;
use exchange::{Answer, Client};
use link::Link;
use plan::paths;
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

use crate::{console, file, tell};

/// When PID 1 is told that there is no network yet, so that what waits for it starts.
const GIVE_UP: Duration = Duration::from_secs(20);

/// How long an answer is waited for at first, and at most (RFC 2131, section 4.1, begins with 4 s; a virtual network
/// answers in milliseconds, and the first frames after a link comes up are often lost).
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(64);

/// Renewals are not tried more often than this (RFC 2131, section 4.4.5).
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// How often links are looked for.
const POLL: Duration = Duration::from_millis(100);

/// The network of the node, for the other parts of the agent. Clones are the same network.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    view: Arc<(Mutex<View>, Condvar)>,
}

/// What the network is at the moment.
#[derive(Clone, Debug, Default)]
struct View {
    /// There is an address that is not link-local.
    online: bool,
    facts: Facts,
}

/// What servers on the network have told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Time servers: addresses, or names by DHCPv6.
    pub(crate) ntp_servers: Vec<String>,
    /// The name that the node is to have.
    pub(crate) host_name: Option<String>,
    /// Name servers.
    pub(crate) name_servers: Vec<IpAddr>,
    /// The domain that the node is in.
    pub(crate) domain: Option<String>,
}

/// Starts the thread. Without it the node is one without network, and says so.
pub(crate) fn start() -> Network {
    let network = Network { view: Arc::default() };
    let view = Arc::clone(&network.view);
    let thread = thread::Builder::new().name("network".to_owned()).stack_size(512 << 10).spawn(move || {
        let mut report = Report { view, ..Report::default() };
        let link = first_link(&mut report);
        run(&link, &mut report);
    });
    if let Err(error) = thread {
        console::error(format_args!("cannot start the network: {error}"));
        tell(&[NotifyState::Custom("X_HOLDFAST_NETWORK=failed")]);
    }
    network
}

impl Network {
    /// From now on this is wanted; `None` is the fallback: DHCPv4 and router advertisements on the first link with
    /// carrier. Before the first call, and after it, what is there stays as it is.
    pub(crate) fn apply(&self, wanted: Option<netconfig::State>) {
        drop(wanted);
    }

    /// Waits for an address that is not link-local; says whether there is one.
    pub(crate) fn wait_online(&self, limit: Duration) -> bool {
        let (view, changed) = &*self.view;
        let view = view.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(view, limit, |view| !view.online);
        waited.unwrap_or_else(PoisonError::into_inner).0.online
    }

    /// What servers on the network have told so far.
    pub(crate) fn facts(&self) -> Facts {
        self.view.0.lock().unwrap_or_else(PoisonError::into_inner).facts.clone()
    }

    /// Gives `/etc/resolv.conf` this content, or (`None`) what the network says.
    pub(crate) fn set_resolv_conf(&self, text: Option<String>) {
        drop(text);
    }
}

/// What PID 1 has been told.
#[derive(Debug)]
struct Report {
    begun: Instant,
    said: Option<&'static str>,
    view: Arc<(Mutex<View>, Condvar)>,
}

impl Default for Report {
    fn default() -> Self {
        Self { begun: Instant::now(), said: None, view: Arc::default() }
    }
}

impl Report {
    fn say(&mut self, word: &'static str) {
        if self.said != Some(word) {
            self.said = Some(word);
            self.view.0.lock().unwrap_or_else(PoisonError::into_inner).online = word == "up";
            self.view.1.notify_all();
            tell(&[NotifyState::Custom(&format!("X_HOLDFAST_NETWORK={word}"))]);
        }
    }

    /// Gives up, for PID 1, when it has taken too long. Trying goes on.
    fn check(&mut self, missing: &str) {
        if self.said.is_none() && self.begun.elapsed() >= GIVE_UP {
            console::warning(format_args!("network: {missing} after {} s; still trying", GIVE_UP.as_secs()));
            self.say("failed");
        }
    }
}

/// Waits for a link: its driver may be loaded late.
fn first_link(report: &mut Report) -> Link {
    loop {
        if let Some(link) = link::first() {
            return link;
        }
        report.check("there is no link");
        thread::sleep(POLL);
    }
}

/// Keeps an address on the link, for ever.
fn run(link: &Link, report: &mut Report) {
    let mut held = Held::stored(link);
    loop {
        let lease = match held.take() {
            Some(held) => held,
            None => Held::new(acquire(link, report)),
        };
        if !lease.apply(link) {
            thread::sleep(FIRST_WAIT);
            continue;
        }
        console::notice(format_args!("address {} {}", link.name, lease.lease.address));
        report.say("up");
        held = hold(link, lease);
        if held.is_none() {
            report.say("failed");
        }
    }
}

/// Asks until a server gives a lease.
fn acquire(link: &Link, report: &mut Report) -> Lease {
    let mut wait = FIRST_WAIT;
    let mut said = String::new();
    loop {
        let up = netlink::set_up(link.index).map_err(|error| format!("cannot bring it up: {error}"));
        let outcome = up.and_then(|()| {
            Client::broadcast(link)
                .and_then(|mut client| client.acquire(wait))
                .map_err(|error| format!("cannot use it: {error}"))
        });
        match outcome {
            Ok(Some(lease)) => return lease,
            Ok(None) => wait = (wait * 2).min(LONGEST_WAIT),
            Err(problem) => {
                if problem != said {
                    console::warning(format_args!("network {}: {problem}", link.name));
                    said = problem;
                }
                thread::sleep(wait);
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
        report.check("no DHCP server has answered");
    }
}

/// Renews a lease until that fails for good; returns the lease that replaced it when the address changed.
fn hold(link: &Link, mut held: Held) -> Option<Held> {
    loop {
        let [renew, rebind, expiry] = held.deadlines();
        sleep_until(renew);
        let mut next = renew;
        let answer = loop {
            let now = boot_time();
            if now >= expiry {
                break Answer::Refused;
            }
            let answer = if now < rebind {
                Client::unicast(&held.lease, link.address)
                    .and_then(|mut client| client.renew(&held.lease, FIRST_WAIT * 4))
            } else {
                Client::broadcast(link).and_then(|mut client| client.renew(&held.lease, FIRST_WAIT * 4))
            };
            match answer {
                Ok(Answer::Silence) => {}
                Ok(answer) => break answer,
                Err(error) => console::warning(format_args!("network {}: cannot renew: {error}", link.name)),
            }
            // Half of what is left until the next step of the protocol (RFC 2131, section 4.4.5).
            let step = if boot_time() < rebind { rebind } else { expiry };
            next = next.max(now) + (step.saturating_sub(now) / 2).max(RENEWAL_PAUSE);
            sleep_until(next.min(expiry));
        };
        match answer {
            Answer::Lease(lease) if lease.address == held.lease.address => {
                held = Held::new(*lease);
                held.apply(link);
            }
            Answer::Lease(lease) => {
                held.remove(link);
                return Some(Held::new(*lease));
            }
            Answer::Refused | Answer::Silence => {
                console::warning(format_args!(
                    "network {}: the lease of {} has ended",
                    link.name, held.lease.address
                ));
                held.remove(link);
                return None;
            }
        }
    }
}

/// A lease that this node holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    /// Index of its link.
    link: u32,
    lease: Lease,
    /// When it was given, in time since boot.
    since: Duration,
}

impl Held {
    fn new(lease: Lease) -> Self {
        Self { link: 0, lease, since: boot_time() }
    }

    /// What an agent before this one has got, when it is still valid.
    fn stored(link: &Link) -> Option<Self> {
        let held: Self = plan::read_json(&Self::path()).ok()?;
        (held.link == link.index && boot_time() < held.deadlines()[2]).then_some(held)
    }

    fn path() -> PathBuf {
        Path::new(paths::RUN).join("lease.json")
    }

    /// When to renew, when to ask any server, when it ends.
    fn deadlines(&self) -> [Duration; 3] {
        self.lease.times.map(|time| self.since.saturating_add(time))
    }

    /// Makes the link what the lease says; says what fails.
    fn apply(&self, link: &Link) -> bool {
        let left = self.deadlines()[2].saturating_sub(boot_time());
        if let Err(error) = netlink::apply(link.index, &self.lease, left) {
            console::warning(format_args!(
                "network {}: cannot set {}: {error}",
                link.name, self.lease.address
            ));
            return false;
        }
        let stored = Self { link: link.index, ..self.clone() };
        let text = serde_json::to_vec(&stored).unwrap_or_default();
        let kept = file::replace(&Self::path(), 0o600, &text);
        let resolv = file::overwrite(Path::new("/etc/resolv.conf"), self.lease.resolv_conf().as_bytes());
        for result in [kept, resolv] {
            if let Err(error) = result {
                console::warning(console::chain(&error));
            }
        }
        true
    }

    fn remove(&self, link: &Link) {
        if let Err(error) = netlink::remove(link.index, &self.lease) {
            console::warning(format_args!("network {}: cannot remove an address: {error}", link.name));
        }
        match std::fs::remove_file(Self::path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                console::warning(format_args!("cannot remove {}: {error}", Self::path().display()));
            }
            _ => {}
        }
    }
}

/// Time since boot, which goes on while the machine sleeps, as leases do.
fn boot_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

fn sleep_until(time: Duration) {
    // In pieces, because a sleep does not count the time that the machine itself was asleep.
    while let Some(left) = time.checked_sub(boot_time()).filter(|left| !left.is_zero()) {
        thread::sleep(left.min(Duration::from_secs(30)));
    }
}

/// Addresses that a lease may name.
fn is_usable(address: Ipv4Addr) -> bool {
    let broadcast = address.is_broadcast() || address.is_multicast();
    !(address.is_unspecified() || address.is_loopback() || broadcast)
}
