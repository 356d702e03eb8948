//! What a container may print, by a token bucket: what exceeds the rate is dropped and counted.

use std::time::{Duration, Instant};

/// How much at once, and how much in the long run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Bytes a second.
    pub(crate) steady: u64,
    /// Bytes at once.
    pub(crate) burst: u64,
}

/// What is left, and what was dropped for it.
#[derive(Debug)]
pub(crate) struct Budget {
    rate: Rate,
    bytes: u64,
    since: Instant,
    dropped: u64,
}

impl Budget {
    /// The whole burst, at `now`.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, bytes: rate.burst, since: now, dropped: 0 }
    }

    /// Takes `cost` from what is left at `now`; false, and counted, when that is not enough.
    pub(crate) fn take(&mut self, cost: u64, now: Instant) -> bool {
        let millis = u64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        let earned = millis.saturating_mul(self.rate.steady) / 1000;
        if earned > 0 {
            self.bytes = self.bytes.saturating_add(earned).min(self.rate.burst);
            self.since += Duration::from_millis(millis);
        }
        // Having dropped, it goes on only with a second's worth in hand: whole passages, not a line here and there.
        let reserve = if self.dropped > 0 { self.rate.steady } else { 0 };
        let left = self.bytes.checked_sub(cost).filter(|_| self.bytes >= reserve);
        match left {
            Some(left) => self.bytes = left,
            None => self.dropped += 1,
        }
        left.is_some()
    }

    /// Says how much was dropped since the last report, if anything.
    pub(crate) fn report(&mut self) -> Option<String> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then(|| format!("[{dropped} lines dropped: over {} bytes a second]", self.rate.steady))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_dropped_and_counted_and_the_budget_comes_back() {
        let start = Instant::now();
        let rate = Rate { steady: 8 << 10, burst: 64 << 10 };
        let mut budget = Budget::new(rate, start);
        assert!((0..64).all(|_| budget.take(1024, start)));
        assert!(!budget.take(1024, start));
        assert!(!budget.take(1024, start + Duration::from_millis(1)));
        assert!(!budget.take(1024, start + Duration::from_millis(500)), "only with a second's worth in hand");
        assert!(budget.take(1024, start + Duration::from_millis(1100)));
        assert_eq!(budget.report().as_deref(), Some("[3 lines dropped: over 8192 bytes a second]"));
        assert_eq!(budget.report(), None);
    }
}
