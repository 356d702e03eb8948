//! The network of a node that nobody has described one for: what the kernel command line says, else the first link with
//! carrier, by DHCPv4 and by router advertisements.

use std::time::Duration;

use netconfig::{Dhcp, Link as Entry, Method, State, Subnet};
use netlink::Link;

use super::bind::is_hardware;

/// How long the first link is waited for when another one has carrier: a negotiation of speeds takes that long.
const PREFERENCE: Duration = Duration::from_secs(3);

/// The choice of a link. It stays, also while its cable is out, until the link is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Fallback {
    chosen: Option<u32>,
    /// Since when there is a link at all.
    since: Option<Duration>,
    /// Another link is waited for.
    patient: bool,
}

impl Fallback {
    /// Goes on with the link that was chosen before.
    pub(super) fn with(chosen: Option<u32>) -> Self {
        Self { chosen, ..Self::default() }
    }

    /// When to look again although nothing has happened.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.since.filter(|_| self.patient).map(|since| since + PREFERENCE)
    }

    /// What is wanted with these links. All hardware is switched on, because only then it is known what carries packets.
    pub(super) fn state(&mut self, at_boot: Option<&State>, links: &[Link], now: Duration) -> State {
        let Some(at_boot) = at_boot else {
            return State { links: self.first(&dhcp(), links, now), ..State::default() };
        };
        let mut state = at_boot.clone();
        if let Some(place) = state.links.iter().position(|entry| entry.name.is_empty()) {
            let any = state.links.remove(place);
            state.links.extend(self.first(&any, links, now));
        }
        state
    }

    /// Entries for all hardware, of which the first with carrier is to be like `any`.
    fn first(&mut self, any: &Entry, links: &[Link], now: Duration) -> Vec<Entry> {
        let mut hardware: Vec<&Link> = links.iter().filter(|link| is_hardware(link, links)).collect();
        hardware.sort_by_key(|link| link.index);
        self.chosen = self.chosen.filter(|chosen| hardware.iter().any(|link| link.index == *chosen));
        if !hardware.is_empty() {
            self.since.get_or_insert(now);
        }
        let early = self.since.is_some_and(|since| now < since + PREFERENCE);
        let mut candidates = hardware.iter().take(if early { 1 } else { usize::MAX });
        self.chosen = self.chosen.or_else(|| candidates.find(|link| link.carrier).map(|link| link.index));
        self.patient = early && self.chosen.is_none();
        let first = self.chosen.or(hardware.first().map(|link| link.index));
        let entry = |link: &&Link| {
            let (id, name) = (link.name.clone(), link.name.clone());
            match Some(link.index) == first {
                true => Entry { id, name, ..any.clone() },
                false => Entry { id, name, accept_ra: Some(false), optional: Some(true), ..Entry::default() },
            }
        };
        hardware.iter().map(entry).collect()
    }
}

fn dhcp() -> Entry {
    let subnet = Subnet { method: Method::Dhcp(Dhcp::Four), ..Subnet::default() };
    Entry { accept_ra: Some(true), subnets: vec![subnet], ..Entry::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, carrier: bool) -> Link {
        Link { index, name: format!("eth{index}"), hardware: 1, carrier, ..Link::default() }
    }

    /// The link that is used.
    fn used(fallback: &mut Fallback, links: &[Link], seconds: u64) -> Option<String> {
        let state = fallback.state(None, links, Duration::from_secs(seconds));
        assert!(state.links.len() <= links.len());
        state.links.into_iter().find(|entry| !entry.subnets.is_empty()).map(|entry| entry.id)
    }

    #[test]
    fn the_first_link_with_carrier_is_used_and_kept() {
        let mut fallback = Fallback::default();
        assert_eq!(used(&mut fallback, &[], 0), None);
        assert_eq!(used(&mut fallback, &[link(3, false), link(2, false)], 1).as_deref(), Some("eth2"));
        let second = [link(2, false), link(3, true)];
        assert_eq!(used(&mut fallback, &second, 2).as_deref(), Some("eth2"), "it may come yet");
        assert_eq!(fallback.deadline(), Some(Duration::from_secs(4)));
        assert_eq!(used(&mut fallback, &second, 4).as_deref(), Some("eth3"));
        let both = [link(2, true), link(3, false)];
        assert_eq!(used(&mut fallback, &both, 5).as_deref(), Some("eth3"), "it stays");
        assert_eq!(used(&mut fallback, &both[..1], 6).as_deref(), Some("eth2"), "until it is gone");
        assert_eq!(fallback.deadline(), None);
    }

    #[test]
    fn the_kernel_command_line_counts_first_and_may_leave_the_link_open() {
        let links = [link(2, true), link(3, true)];
        let names = |cmdline: &str| {
            let state = netconfig::command_line(cmdline).unwrap().unwrap().state;
            let state = Fallback::default().state(Some(&state), &links, Duration::ZERO);
            let used = state.links.into_iter().filter(|entry| !entry.subnets.is_empty());
            used.map(|entry| entry.id).collect::<Vec<_>>()
        };
        assert_eq!(names("ip=eth3:dhcp"), ["eth3"]);
        assert_eq!(names("ip=192.0.2.1:::255.255.255.0"), ["eth2"]);
    }

    #[test]
    fn an_agent_that_was_restarted_keeps_the_choice() {
        let mut fallback = Fallback::with(Some(3));
        assert_eq!(used(&mut fallback, &[link(2, true), link(3, true)], 0).as_deref(), Some("eth3"));
    }
}
