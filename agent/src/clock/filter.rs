//! What a server has said lately, and which of it is worth hearing. Pure.
//!
//! A packet that was held up on its way makes a server look wrong by up to half of that. The quickest of some exchanges
//! is the most exact one, and one that took much longer than the quickest is left out (RFC 5905, section 10).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::packet::{Sample, drift};

/// How many exchanges are remembered (RFC 5905, NSTAGE).
const STAGES: usize = 8;

/// What an exchange may take beyond twice the quickest one: less than that is the noise of any busy machine.
const SLACK: Duration = Duration::from_millis(2);

/// The last exchanges with one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    samples: VecDeque<(Instant, Sample)>,
    /// One bit an exchange, the last one lowest: whether an answer came (RFC 5905, the reach register).
    reached: u8,
}

impl Filter {
    /// Takes what came of an exchange.
    pub(super) fn add(&mut self, now: Instant, sample: Option<Sample>) {
        self.reached = self.reached << 1 | u8::from(sample.is_some());
        if let Some(sample) = sample {
            self.samples.truncate(STAGES - 1);
            self.samples.push_front((now, sample));
        }
    }

    /// Whether one of the last eight exchanges came to something.
    pub(super) fn is_reachable(&self) -> bool {
        self.reached != 0
    }

    /// The last eight exchanges, as the reach register shows them.
    pub(super) fn reached(&self) -> u8 {
        self.reached
    }

    /// The most exact sample of those after `adjusted`, when our clock was last touched: older ones were taken with
    /// another clock.
    pub(super) fn best(&self, now: Instant, adjusted: Option<Instant>) -> Option<Sample> {
        let quickest = self.samples.iter().map(|(_, sample)| sample.delay).min()?;
        let fresh =
            self.samples.iter().filter(|(taken, _)| adjusted.is_none_or(|adjusted| *taken > adjusted));
        let aged = fresh.map(|(taken, sample)| {
            let error = sample.error + drift(now.saturating_duration_since(*taken));
            Sample { error, ..*sample }
        });
        aged.filter(|sample| sample.delay <= quickest * 2 + SLACK).min_by_key(|sample| sample.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(offset: i64, delay: u64) -> Sample {
        let delay = Duration::from_millis(delay);
        Sample { offset, delay, error: delay / 2 }
    }

    #[test]
    fn the_quickest_exchange_since_the_clock_was_touched_counts() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut filter = Filter::default();
        for (second, offset, delay) in [(0, 1, 30), (2, 2, 10), (4, 3, 20)] {
            filter.add(at(second), Some(sample(offset, delay)));
        }
        let best = |filter: &Filter, adjusted| filter.best(at(4), adjusted).map(|sample| sample.offset);
        assert_eq!(best(&filter, None), Some(2));
        assert_eq!(best(&filter, Some(at(2))), Some(3));
        assert_eq!(best(&filter, Some(at(4))), None);
        // One that was held up is not used, not even when there is no other.
        filter.add(at(5), Some(sample(4, 23)));
        assert_eq!(best(&filter, Some(at(4))), None);
    }

    #[test]
    fn a_slower_path_is_accepted_when_the_quick_one_is_forgotten() {
        let now = Instant::now();
        let mut filter = Filter::default();
        filter.add(now, Some(sample(0, 10)));
        for _ in 0..STAGES {
            assert_eq!(filter.best(now, None).map(|best| best.offset), Some(0));
            filter.add(now, Some(sample(1, 50)));
        }
        assert_eq!(filter.best(now, None).map(|best| best.offset), Some(1));
    }

    #[test]
    fn a_server_is_gone_after_eight_questions_without_an_answer() {
        let now = Instant::now();
        let mut filter = Filter::default();
        filter.add(now, Some(sample(0, 10)));
        for _ in 0..7 {
            filter.add(now, None);
        }
        assert!(filter.is_reachable());
        filter.add(now, None);
        assert!(!filter.is_reachable());
    }
}
