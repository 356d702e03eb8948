//! What to do about an offset: step, lead, or wait; and when to look again. Pure.
//!
//! The first time the clock is wrong by more than 128 ms it is stepped at once: nothing is worth more than the right
//! time then. Later it is led by the kernel's own loop (RFC 5905, section 11.3), because programs do not expect time to
//! jump; only an offset that stays for minutes is stepped (the machine was asleep, or moved).

use std::time::{Duration, Instant};

use super::STEP;

/// How long a large offset must last (RFC 5905, section 12, WATCH has 900 s; virtual machines that were asleep should
/// not be wrong for so long).
const PERSISTENT: Duration = Duration::from_secs(300);

/// Seconds between questions, as powers of two: 64 to 1024 (RFC 5905, MINPOLL and MAXPOLL, have 16 and 131072; that is
/// what other clients and pools of servers do).
pub(super) const LEAST_POLL: u8 = 6;
pub(super) const MOST_POLL: u8 = 10;

/// Offsets below this are noise, whatever they were before.
const NOISE: f64 = 500_000.0;

/// How often the offset must be small until questions become rarer, or large until they become more frequent.
const PATIENCE: i8 = 4;

/// What is to be done about an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Correction {
    /// Put the clock right.
    Step,
    /// Let the kernel lead it.
    Lead,
    /// Look again: this may be an accident.
    Wait,
}

/// The course of our clock.
#[derive(Clone, Debug)]
pub(super) struct Discipline {
    /// Whether it has been right in this boot.
    right: bool,
    poll: u8,
    /// Since when the offset is large.
    large_since: Option<Instant>,
    last: Option<i64>,
    /// Mean square of the differences from one offset to the next.
    jitter: f64,
    /// Counts calm and unrest towards another interval.
    calm: i8,
}

impl Discipline {
    /// `right`: the kernel takes the clock for right, because an agent before this one has put it right.
    pub(super) fn new(right: bool) -> Self {
        Self { right, poll: LEAST_POLL, large_since: None, last: None, jitter: 0.0, calm: 0 }
    }

    /// What to do about an offset in nanoseconds.
    pub(super) fn correct(&mut self, offset: i64, now: Instant) -> Correction {
        if offset.unsigned_abs() <= STEP.unsigned_abs() {
            self.right = true;
            self.large_since = None;
            self.pace(offset);
            return Correction::Lead;
        }
        let since = *self.large_since.get_or_insert(now);
        self.poll = LEAST_POLL;
        if self.right && now.saturating_duration_since(since) < PERSISTENT {
            return Correction::Wait;
        }
        *self = Self { right: true, ..Self::new(true) };
        Correction::Step
    }

    /// Whether the clock has been right in this boot.
    pub(super) fn is_right(&self) -> bool {
        self.right
    }

    /// Binary logarithm of the seconds until the next question.
    pub(super) fn poll(&self) -> u8 {
        self.poll
    }

    /// The kernel's time constant for this interval: kernel and RFC differ by four powers of two.
    pub(super) fn time_constant(&self) -> u8 {
        self.poll - 4
    }

    /// Asks more rarely while the offset is within its own noise (RFC 5905, section 12).
    fn pace(&mut self, offset: i64) {
        #[expect(clippy::cast_precision_loss, reason = "at most a step")]
        let (offset, last) = (offset as f64, self.last.replace(offset).map(|last| last as f64));
        if let Some(last) = last {
            self.jitter += ((offset - last).powi(2) - self.jitter) / 4.0;
        }
        let calm = offset.abs() <= 4.0 * self.jitter.sqrt().max(NOISE);
        self.calm += if calm { 1 } else { -2 };
        if self.calm >= PATIENCE {
            (self.poll, self.calm) = ((self.poll + 1).min(MOST_POLL), 0);
        } else if self.calm <= -PATIENCE {
            (self.poll, self.calm) = ((self.poll - 1).max(LEAST_POLL), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLISECOND: i64 = 1_000_000;

    #[test]
    fn a_wrong_clock_is_stepped_at_boot_and_led_from_then_on() {
        let now = Instant::now();
        for (offset, first) in [
            (0, Correction::Lead),
            (128 * MILLISECOND, Correction::Lead),
            (-128 * MILLISECOND, Correction::Lead),
            (129 * MILLISECOND, Correction::Step),
            (i64::MIN, Correction::Step),
        ] {
            let mut discipline = Discipline::new(false);
            assert_eq!(discipline.correct(offset, now), first, "{offset}");
            assert!(discipline.is_right());
            assert_eq!(discipline.correct(MILLISECOND, now), Correction::Lead);
        }
    }

    #[test]
    fn later_only_what_lasts_is_stepped() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut discipline = Discipline::new(true);
        for (seconds, offset, expected) in [
            (0, 500, Correction::Wait),
            (64, 500, Correction::Wait),
            (128, 3, Correction::Lead),
            (192, -500, Correction::Wait),
            (491, -500, Correction::Wait),
            (492, -500, Correction::Step),
            (556, 2, Correction::Lead),
        ] {
            assert_eq!(discipline.correct(offset * MILLISECOND, at(seconds)), expected, "at {seconds} s");
        }
    }

    #[test]
    fn a_calm_clock_is_looked_at_more_rarely_and_a_restless_one_more_often() {
        let now = Instant::now();
        let mut discipline = Discipline::new(false);
        for _ in 0..20 {
            discipline.correct(MILLISECOND, now);
        }
        assert_eq!(discipline.poll(), MOST_POLL);
        assert_eq!(discipline.time_constant(), 6);
        // Away steadily, as after a change of temperature: each offset is far more than it differs from the last one.
        for step in 0..20 {
            discipline.correct((20 + step) * MILLISECOND, now);
        }
        assert!(discipline.poll() < MOST_POLL, "{discipline:?}");
        discipline.correct(500 * MILLISECOND, now);
        assert_eq!(discipline.poll(), LEAST_POLL);
    }

    proptest! {
        #[test]
        fn whatever_comes_the_interval_stays_within_its_limits(
            offsets in prop::collection::vec((any::<i64>(), 0_u64..2000), 0..200),
        ) {
            let mut discipline = Discipline::new(false);
            let mut now = Instant::now();
            for (offset, pause) in offsets {
                now += Duration::from_secs(pause);
                let correction = discipline.correct(offset, now);
                prop_assert!((LEAST_POLL..=MOST_POLL).contains(&discipline.poll()));
                let small = offset.unsigned_abs() <= STEP.unsigned_abs();
                prop_assert_eq!(correction == Correction::Lead, small);
            }
        }
    }
}
