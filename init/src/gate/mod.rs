//! The gate: when does a boot count as good, and what follows from it.
//!
//! A boot has passed when every required service has run for the settle time (a one-shot that exited with code 0
//! counts; no services, or a configuration that is rejected, is no failure) and the agent is ready: a version
//! whose agent does not run could never be replaced again, and until it is ready the services may be those of another
//! version's generation. An agent that lives and is not ready, as it waits for somebody who does not answer, counts at the
//! deadline. Passing makes the slot proven and blesses a counted kernel image. A boot has missed the gate at its deadline,
//! or when a required service has failed for good.
//!
//! Invariant: missing the gate makes the machine reboot only when the boot is counted and another slot is proven.
//! Elsewhere the system itself works, and the boot is no failure of its slot.
//!
//! This module judges and remembers; touching the ESP is the work of a child ([`esp`]), because firmware variables and
//! disks may not answer.

use std::time::Duration;

use slots::{Slot, Slots};

pub(crate) mod esp;

/// What a boot is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The time.
    pub(crate) now: Duration,
    /// The plan's settings.
    pub(crate) settings: plan::Gate,
    /// Since when all required services are good; none when one is not.
    pub(crate) steady_since: Option<Duration>,
    /// Since when a required service is failed for good.
    pub(crate) failed_since: Option<Duration>,
    /// Since when the agent's process runs, and whether it has said that it is ready.
    pub(crate) agent: (Option<Duration>, bool),
}

/// The gate of this boot.
#[derive(Debug)]
pub(crate) struct Gate {
    begun: Duration,
    counted: Option<bool>,
    state: State,
}

/// How far the boot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It may still go either way.
    Pending,
    /// It is good.
    Passed,
    /// It was not good in time; it goes on, because there is nothing better to boot.
    Missed,
    /// It was not good in time, and the other slot is to be booted.
    FallingBack,
}

impl State {
    /// Its name in the status.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Passed => "passed",
            Self::Missed => "missed",
            Self::FallingBack => "falling-back",
        }
    }
}

/// What became of the gate just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Passed: prove and bless.
    Passed,
    /// Missed, and the machine goes on.
    Missed,
    /// Missed, and the machine is to boot its other slot.
    FallBack,
}

impl Gate {
    /// The gate of a boot whose init began at `begun`; `counted` is none as long as nobody has looked.
    pub(crate) fn new(begun: Duration, counted: Option<bool>) -> Self {
        Self { begun, counted, state: State::Pending }
    }

    /// How far the boot has come.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether the boot is counted, if that is known.
    pub(crate) fn counted(&self) -> Option<bool> {
        self.counted
    }

    /// It was found out whether the boot is counted.
    pub(crate) fn set_counted(&mut self, counted: bool) {
        self.counted = Some(counted);
    }

    /// Judges the boot by what is true now.
    pub(crate) fn judge(&mut self, facts: &Facts, slots: Option<(&Slots, Slot)>) -> Option<Change> {
        let deadline = self.deadline(facts);
        if matches!(self.state, State::Passed | State::FallingBack) {
            return None;
        }
        let passed = self.good_at(facts).is_some_and(|at| at <= facts.now);
        // Who passes waits to hear whether there is something to bless, but not for ever.
        if passed && (self.counted.is_some() || deadline <= facts.now) {
            self.state = State::Passed;
            return Some(Change::Passed);
        }
        let failed = facts.failed_since.map(|since| since + settle(facts));
        let missed = deadline <= facts.now || failed.is_some_and(|at| at <= facts.now);
        if passed || !missed || self.state == State::Missed {
            return None;
        }
        let fallback = slots.filter(|(slots, slot)| slots.has_fallback(*slot));
        // Nobody could say whether the boot is counted: a version that is not proven is on trial.
        let trial = fallback.is_some_and(|(slots, slot)| self.counted.unwrap_or(!slots.get(slot).proven));
        self.state = if trial { State::FallingBack } else { State::Missed };
        Some(if trial { Change::FallBack } else { Change::Missed })
    }

    /// When to judge again even if nothing happens.
    pub(crate) fn due(&self, facts: &Facts) -> Option<Duration> {
        if matches!(self.state, State::Passed | State::FallingBack) {
            return None;
        }
        let failed = facts.failed_since.map(|since| since + settle(facts));
        let times = [self.good_at(facts), failed, Some(self.deadline(facts))];
        times.into_iter().flatten().filter(|at| *at > facts.now).min()
    }

    fn deadline(&self, facts: &Facts) -> Duration {
        self.begun.saturating_add(Duration::from_millis(facts.settings.deadline_ms))
    }

    /// When the boot is good if nothing happens until then.
    fn good_at(&self, facts: &Facts) -> Option<Duration> {
        let (since, ready) = facts.agent;
        let since = since?;
        let agent = if ready { since } else { since.saturating_add(settle(facts)).max(self.deadline(facts)) };
        Some(agent.max(facts.steady_since?.saturating_add(settle(facts))))
    }
}

fn settle(facts: &Facts) -> Duration {
    Duration::from_millis(facts.settings.settle_ms)
}

#[cfg(test)]
mod tests {
    use slots::RootHash;

    use super::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn facts(now: u64) -> Facts {
        Facts {
            now: secs(now),
            settings: plan::Gate { settle_ms: 10_000, deadline_ms: 60_000 },
            steady_since: Some(secs(5)),
            failed_since: None,
            agent: (Some(secs(1)), true),
        }
    }

    /// Slot a is proven, b is being tried.
    fn trial() -> Slots {
        let mut slots = Slots::default();
        slots.begin_boot(Slot::A, RootHash([1; 32]), false);
        slots.reached_gate(Slot::A);
        slots.begin_boot(Slot::B, RootHash([2; 32]), true);
        slots
    }

    #[test]
    fn steady_services_and_an_agent_pass_after_the_settle_time() {
        let mut gate = Gate::new(secs(0), Some(true));
        assert_eq!(gate.judge(&facts(14), None), None);
        assert_eq!(gate.due(&facts(14)), Some(secs(15)));
        assert_eq!(gate.judge(&facts(15), None), Some(Change::Passed));
        assert_eq!(gate.judge(&facts(99), None), None, "once is enough");
        assert_eq!(gate.due(&facts(99)), None);
    }

    #[test]
    fn an_agent_that_is_not_ready_counts_at_the_deadline_when_it_lives() {
        let mut gate = Gate::new(secs(0), Some(true));
        let waiting = Facts { agent: (Some(secs(12)), false), ..facts(59) };
        assert_eq!(gate.judge(&waiting, None), None);
        assert_eq!(gate.due(&waiting), Some(secs(60)));
        assert_eq!(gate.judge(&Facts { now: secs(60), ..waiting }, None), Some(Change::Passed));
        let mut gate = Gate::new(secs(0), Some(true));
        let ready = Facts { agent: (Some(secs(12)), true), ..waiting };
        assert_eq!(gate.judge(&Facts { now: secs(16), ..ready }, None), Some(Change::Passed));
        // One that comes and goes does not count.
        let mut gate = Gate::new(secs(0), Some(true));
        let young = Facts { agent: (Some(secs(55)), false), ..facts(60) };
        assert_eq!(gate.judge(&young, None), Some(Change::Missed));
        let mut gate = Gate::new(secs(0), Some(true));
        assert_eq!(gate.judge(&Facts { agent: (None, false), ..facts(59) }, None), None);
    }

    #[test]
    fn passing_waits_to_know_whether_the_boot_is_counted_until_the_deadline() {
        let mut gate = Gate::new(secs(0), None);
        assert_eq!(gate.judge(&facts(20), None), None);
        assert_eq!(gate.due(&facts(20)), Some(secs(60)));
        assert_eq!(gate.judge(&facts(60), None), Some(Change::Passed));
        let mut gate = Gate::new(secs(0), None);
        gate.set_counted(false);
        assert_eq!(gate.judge(&facts(20), None), Some(Change::Passed));
    }

    #[test]
    fn only_a_counted_boot_with_a_proven_other_slot_falls_back() {
        let slots = trial();
        let bad = Facts { steady_since: None, ..facts(60) };
        for (counted, slots, expected) in [
            (Some(true), Some((&slots, Slot::B)), Change::FallBack),
            (None, Some((&slots, Slot::B)), Change::FallBack),
            (Some(false), Some((&slots, Slot::B)), Change::Missed),
            (Some(true), Some((&slots, Slot::A)), Change::Missed),
            (None, Some((&slots, Slot::A)), Change::Missed),
            (Some(true), None, Change::Missed),
        ] {
            let mut gate = Gate::new(secs(0), counted);
            assert_eq!(gate.judge(&Facts { now: secs(59), ..bad }, slots), None);
            assert_eq!(gate.judge(&bad, slots), Some(expected), "{counted:?}");
        }
    }

    #[test]
    fn a_failed_service_does_not_wait_for_the_deadline() {
        let slots = trial();
        let failed = Facts { steady_since: None, failed_since: Some(secs(20)), ..facts(29) };
        let mut gate = Gate::new(secs(0), Some(true));
        assert_eq!(gate.judge(&failed, Some((&slots, Slot::B))), None);
        assert_eq!(gate.due(&failed), Some(secs(30)));
        let failed = Facts { now: secs(30), ..failed };
        assert_eq!(gate.judge(&failed, Some((&slots, Slot::B))), Some(Change::FallBack));
    }

    #[test]
    fn a_boot_that_missed_the_gate_can_still_pass_it() {
        let mut gate = Gate::new(secs(0), Some(false));
        assert_eq!(gate.judge(&Facts { steady_since: None, ..facts(60) }, None), Some(Change::Missed));
        assert_eq!(gate.judge(&Facts { steady_since: None, ..facts(70) }, None), None, "said once");
        assert_eq!(gate.judge(&facts(80), None), Some(Change::Passed));
    }
}
