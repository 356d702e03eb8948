//! The decision: may this slot be booted once more, is it to be given up, or is nothing left to try?
//!
//! A boot is counted as failed when it begins and forgiven when it reaches the gate or is shut down on request, so
//! that a crash, a hang or a power cut needs nobody to write anything down. A slot is *proven* when its root has
//! reached the gate once; another root hash in the slot is another version, of which nothing is known.
//!
//! Invariant: a slot is only given up for another one that is proven and has not itself failed too often, and every
//! sequence of boots that never reaches the gate comes to a `Stop`.

use crate::{RootHash, Slot};

/// Boots in a row that may end before the gate until a slot is given up (the same number of tries that a new
/// version's kernel image is given).
pub const MAX_FAILURES: u32 = 3;

/// What is known of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotRecord {
    /// The version that was last booted from it.
    pub root_hash: Option<RootHash>,
    /// Whether that version has ever reached the gate.
    pub proven: bool,
    /// Its boots in a row that ended before the gate; the boot that is going on counts.
    pub failures: u32,
}

/// What is known of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    pub(crate) a: SlotRecord,
    pub(crate) b: SlotRecord,
    /// The slot whose boot is counted as failed until it reaches the gate.
    pub(crate) trying: Option<Slot>,
    /// Boots that were begun, ever: the number of the boot that is going on.
    pub(crate) boots: u64,
}

/// What to do with a boot that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Go {
        /// The try in a row that this is, from 1.
        attempt: u32,
    },
    /// Make the boot loader choose the other slot, and reboot.
    GiveUp {
        /// The slot to boot instead.
        to: Slot,
    },
    /// Say why and wait for a human. The counters are cleared: the next power-on tries again.
    Stop {
        /// Boots in a row that failed.
        attempts: u32,
    },
}

impl Slots {
    /// What is known of `slot`.
    pub fn get(&self, slot: Slot) -> &SlotRecord {
        match slot {
            Slot::A => &self.a,
            Slot::B => &self.b,
        }
    }

    /// The number of the boot that is going on, from 1.
    pub fn boots(&self) -> u64 {
        self.boots
    }

    /// Whether another slot than `slot` is known to work: what a trial needs to be able to fall back.
    pub fn has_fallback(&self, slot: Slot) -> bool {
        let other = self.get(slot.other());
        other.proven && other.failures < MAX_FAILURES
    }

    /// A boot of `root_hash` from `slot` begins. `other_bootable` says whether the other slot has a kernel image and
    /// a root to boot. The result must be stored before the boot goes on.
    pub fn begin_boot(&mut self, slot: Slot, root_hash: RootHash, other_bootable: bool) -> Verdict {
        self.boots = self.boots.saturating_add(1);
        self.trying = None;
        let give_up = other_bootable && self.has_fallback(slot);
        let record = self.get_mut(slot);
        if record.root_hash != Some(root_hash) {
            *record = SlotRecord { root_hash: Some(root_hash), ..SlotRecord::default() };
        }
        let failed = record.failures;
        record.failures = failed.saturating_add(1);
        if failed < MAX_FAILURES {
            self.trying = Some(slot);
            return Verdict::Go { attempt: failed.saturating_add(1) };
        }
        // A boot loader that keeps choosing the slot that was given up must not make the machine reboot for ever.
        if give_up && failed < 2 * MAX_FAILURES {
            return Verdict::GiveUp { to: slot.other() };
        }
        self.a.failures = 0;
        self.b.failures = 0;
        Verdict::Stop { attempts: failed }
    }

    /// The boot from `slot` that is going on is good.
    pub fn reached_gate(&mut self, slot: Slot) {
        self.trying = None;
        let record = self.get_mut(slot);
        record.proven = true;
        record.failures = 0;
        let other = self.get_mut(slot.other());
        other.failures = other.failures.min(MAX_FAILURES);
    }

    /// The boot that is going on is no failure whether or not it reaches the gate: somebody asked for a shutdown, or
    /// the system works and what does not is the services'.
    pub fn forgive(&mut self) {
        let Some(slot) = self.trying.take() else { return };
        let record = self.get_mut(slot);
        record.failures = record.failures.saturating_sub(1);
    }

    fn get_mut(&mut self, slot: Slot) -> &mut SlotRecord {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V1: RootHash = RootHash([1; 32]);
    const V2: RootHash = RootHash([2; 32]);

    fn proven_in_a() -> Slots {
        let mut slots = Slots::default();
        slots.begin_boot(Slot::A, V1, false);
        slots.reached_gate(Slot::A);
        slots
    }

    #[test]
    fn the_only_slot_stops_after_three_failures_and_tries_again_after_that() {
        let mut slots = Slots::default();
        for _ in 0..2 {
            for attempt in 1..=3 {
                assert_eq!(slots.begin_boot(Slot::A, V1, false), Verdict::Go { attempt });
            }
            assert_eq!(slots.begin_boot(Slot::A, V1, false), Verdict::Stop { attempts: 3 });
        }
    }

    #[test]
    fn a_failing_slot_is_given_up_for_a_proven_one() {
        let mut slots = proven_in_a();
        for attempt in 1..=3 {
            assert_eq!(slots.begin_boot(Slot::B, V2, true), Verdict::Go { attempt });
        }
        assert_eq!(slots.begin_boot(Slot::B, V2, true), Verdict::GiveUp { to: Slot::A });
        assert_eq!(slots.begin_boot(Slot::A, V1, true), Verdict::Go { attempt: 1 });
        slots.reached_gate(Slot::A);
        assert!(!slots.has_fallback(Slot::A));
    }

    #[test]
    fn a_slot_is_not_given_up_for_one_that_cannot_boot() {
        let mut slots = proven_in_a();
        slots.b.failures = MAX_FAILURES;
        slots.b.root_hash = Some(V2);
        assert_eq!(slots.begin_boot(Slot::B, V2, false), Verdict::Stop { attempts: 3 });
    }

    #[test]
    fn another_version_in_the_slot_starts_from_nothing() {
        let mut slots = proven_in_a();
        assert!(slots.get(Slot::A).proven);
        slots.begin_boot(Slot::A, V2, false);
        assert_eq!(*slots.get(Slot::A), SlotRecord { root_hash: Some(V2), proven: false, failures: 1 });
    }

    #[test]
    fn a_requested_shutdown_before_the_gate_is_no_failure() {
        let mut slots = Slots::default();
        for _ in 0..10 {
            assert_eq!(slots.begin_boot(Slot::A, V1, false), Verdict::Go { attempt: 1 });
            slots.forgive();
        }
        slots.begin_boot(Slot::A, V1, false);
        slots.reached_gate(Slot::A);
        slots.forgive();
        assert_eq!(slots.get(Slot::A).failures, 0);
    }

    #[derive(Clone, Copy, Debug)]
    enum Outcome {
        Crash,
        Gate,
        Shutdown,
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![3 => Just(Outcome::Crash), 1 => Just(Outcome::Gate), 1 => Just(Outcome::Shutdown)]
    }

    fn boot() -> impl Strategy<Value = (Slot, u8, bool, Outcome)> {
        (prop_oneof![Just(Slot::A), Just(Slot::B)], 0..3u8, any::<bool>(), outcome())
    }

    proptest! {
        #[test]
        fn a_slot_is_only_given_up_for_one_that_is_proven(boots in prop::collection::vec(boot(), 1..60)) {
            let mut slots = Slots::default();
            for (slot, version, bootable, outcome) in boots {
                let before = slots;
                match slots.begin_boot(slot, RootHash([version; 32]), bootable) {
                    Verdict::GiveUp { to } => {
                        prop_assert_eq!(to, slot.other());
                        prop_assert!(bootable && before.get(to).proven && before.get(to).failures < MAX_FAILURES);
                        prop_assert_eq!(slots.get(to), before.get(to), "the proven slot is left alone");
                    }
                    Verdict::Stop { .. } => prop_assert!(slots.a.failures == 0 && slots.b.failures == 0),
                    Verdict::Go { attempt } => {
                        prop_assert!((1..=MAX_FAILURES).contains(&attempt));
                        match outcome {
                            Outcome::Crash => {}
                            Outcome::Gate => slots.reached_gate(slot),
                            Outcome::Shutdown => slots.forgive(),
                        }
                    }
                }
            }
        }

        /// Whatever was before, and whether or not the boot loader follows: boots that all crash come to an end.
        #[test]
        fn crashing_boots_come_to_a_stop(
            boots in prop::collection::vec(boot(), 0..30), obeys in any::<bool>(), bootable in any::<bool>(),
        ) {
            let mut slots = Slots::default();
            for (slot, version, bootable, outcome) in boots {
                slots.begin_boot(slot, RootHash([version; 32]), bootable);
                if matches!(outcome, Outcome::Gate) {
                    slots.reached_gate(slot);
                }
            }
            let mut slot = Slot::A;
            let mut stopped = false;
            for _ in 0..4 * MAX_FAILURES {
                match slots.begin_boot(slot, V1, bootable) {
                    Verdict::Stop { .. } => stopped = true,
                    Verdict::GiveUp { to } if obeys => slot = to,
                    _ => {}
                }
            }
            prop_assert!(stopped);
        }
    }
}
