//! What PID 1 and the console hear of the network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use sd_notify::NotifyState;
use sys::console;

use crate::tell;

/// When PID 1 is told that there is no network yet, so that what waits for it starts.
const GIVE_UP: Duration = Duration::from_secs(20);

/// How long something may fail before it is said: most of it is a matter of order.
const PATIENCE: Duration = Duration::from_secs(2);

/// What has been said.
#[derive(Debug)]
pub(super) struct Report {
    begun: Duration,
    said: Option<&'static str>,
    addresses: BTreeSet<(u32, IpAddr)>,
    failures: BTreeMap<String, Failure>,
}

#[derive(Debug)]
struct Failure {
    since: Duration,
    said: bool,
}

impl Report {
    pub(super) fn new(now: Duration) -> Self {
        Self { begun: now, said: None, addresses: BTreeSet::new(), failures: BTreeMap::new() }
    }

    /// Tells PID 1 when it is another thing than before.
    pub(super) fn say(&mut self, word: &'static str) {
        if self.said != Some(word) {
            self.said = Some(word);
            tell(&[NotifyState::Custom(&format!("X_HOLDFAST_NETWORK={word}"))]);
        }
    }

    /// Notes whether there is an address, as of `now`; `missing` says what there is not. With nothing to wait for
    /// (`hopeless`) PID 1 hears so at once.
    pub(super) fn online(&mut self, online: bool, hopeless: bool, missing: &str, now: Duration) {
        if online {
            self.say("up");
        } else if self.said == Some("up") || (hopeless && self.said.is_none()) {
            self.say("failed");
        } else if self.said.is_none() && now >= self.begun + GIVE_UP {
            console::warning(format_args!("network: {missing} after {} s; still trying", GIVE_UP.as_secs()));
            self.say("failed");
        }
    }

    /// When to look again although nothing has happened.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let give_up = (self.said.is_none()).then_some(self.begun + GIVE_UP);
        let failures = self.failures.values().filter(|failure| !failure.said);
        give_up.into_iter().chain(failures.map(|failure| failure.since + PATIENCE)).min()
    }

    /// Notes the addresses that links have, by number and name.
    pub(super) fn addresses<'a>(&mut self, now: impl Iterator<Item = (u32, &'a str, IpAddr)>) {
        let mut seen = BTreeSet::new();
        for (index, name, address) in now {
            if !self.addresses.contains(&(index, address)) {
                console::notice(format_args!("address {name} {address}"));
            }
            seen.insert((index, address));
        }
        self.addresses = seen;
    }

    /// Notes what has failed at `now`. What fails for longer is said, once.
    pub(super) fn failures(&mut self, texts: Vec<String>, now: Duration) {
        self.failures.retain(|text, _| texts.contains(text));
        for text in texts {
            let failure = self.failures.entry(text.clone()).or_insert(Failure { since: now, said: false });
            if !failure.said && now >= failure.since + PATIENCE {
                console::warning(format_args!("network {text}"));
                failure.said = true;
            }
        }
    }
}
