//! Whether a container works, by what its checks say: when the next one is due, and what the last ones mean. No clock and
//! no process: times are since any moment, the same for all calls.
//!
//! | state | meaning | leaves it |
//! |---|---|---|
//! | starting | no check has passed yet | a check passes; enough count and fail |
//! | healthy | the last check passed | enough checks in a row fail |
//! | unhealthy | enough checks in a row have failed | a check passes |
//!
//! Until the first check passes, checks come at the start interval, and those in the start period do not count. The first
//! interval is such a period, too: Docker would not check in it, so a failure then must make nothing worse, and a success
//! need not be waited for.

use std::time::Duration;

use plan::container::HealthCheck;

/// How soon after the start the first check comes: what it finds is mostly known after this time, and whoever waits for
/// the service should not wait much longer than it takes.
const FIRST: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Healthy,
    Unhealthy,
}

/// What is to be done about the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing before this time.
    At(Duration),
    /// Start one.
    Start,
    /// End the one that runs: it takes too long.
    End,
}

/// The checks of one container.
#[derive(Debug)]
pub(crate) struct Health {
    interval: Duration,
    timeout: Duration,
    start_interval: Duration,
    /// Until then a failure does not count, unless a check has passed.
    counts_from: Duration,
    retries: u32,
    state: State,
    failures: u32,
    next: Duration,
    /// When the check that runs has to have ended.
    ends: Option<Duration>,
}

impl Health {
    /// For a container that has been started at `now`.
    pub(crate) fn new(check: &HealthCheck, now: Duration) -> Self {
        let time = Duration::from_millis;
        let interval = time(check.interval_ms);
        let start_interval = time(check.start_interval_ms).min(interval);
        Self {
            interval,
            timeout: time(check.timeout_ms),
            start_interval,
            counts_from: now + interval.max(time(check.start_period_ms)),
            retries: check.retries,
            state: State::Starting,
            failures: 0,
            next: now + start_interval.min(FIRST),
            ends: None,
        }
    }

    /// What to do at `now`.
    pub(crate) fn due(&self, now: Duration) -> Due {
        match self.ends {
            Some(ends) if ends <= now => Due::End,
            Some(ends) => Due::At(ends),
            None if self.next <= now => Due::Start,
            None => Due::At(self.next),
        }
    }

    /// A check runs since `now`.
    pub(crate) fn began(&mut self, now: Duration) {
        self.ends = Some(now + self.timeout);
    }

    /// The check that runs is being ended: it has failed, and nothing more is due until it is gone.
    pub(crate) fn killed(&mut self) {
        self.ends = Some(Duration::MAX);
    }

    /// A check has ended at `now`. Tells whether the container is healthy when that has changed.
    pub(crate) fn ended(&mut self, passed: bool, now: Duration) -> Option<bool> {
        self.ends = None;
        let before = self.state;
        if passed {
            self.failures = 0;
            self.state = State::Healthy;
        } else if before != State::Starting || now >= self.counts_from {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= self.retries {
                self.state = State::Unhealthy;
            }
        }
        // A failure that does not count is not waited for longer than until those that do.
        let early = self.state == State::Starting && now < self.counts_from;
        let next = now + if early { self.start_interval } else { self.interval };
        self.next = if early { next.min(self.counts_from) } else { next };
        (self.state != before).then_some(self.state == State::Healthy)
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn health(start_period: u64) -> Health {
        let check = HealthCheck {
            test: Vec::new(),
            interval_ms: 30_000,
            timeout_ms: 10_000,
            retries: 3,
            start_period_ms: start_period * 1000,
            start_interval_ms: 5_000,
            restart: false,
        };
        Health::new(&check, s(100))
    }

    /// Runs checks that each end at once, and gives the times (since the start) of changes.
    fn changes(mut health: Health, until: u64, passes: impl Fn(u64) -> bool) -> Vec<(u64, bool)> {
        let (mut now, mut changes) = (s(100), Vec::new());
        while now < s(100 + until) {
            match health.due(now) {
                Due::At(next) => now = next,
                Due::Start => {
                    health.began(now);
                    let at = (now - s(100)).as_secs();
                    changes.extend(health.ended(passes(at), now).map(|healthy| (at, healthy)));
                }
                Due::End => panic!("it ended at once"),
            }
        }
        changes
    }

    #[test]
    fn it_is_healthy_with_the_first_check_that_passes() {
        assert_eq!(changes(health(0), 300, |_| true), [(1, true)]);
        assert_eq!(changes(health(0), 300, |at| at >= 8), [(11, true)]);
        assert_eq!(changes(health(200), 300, |at| at >= 100), [(101, true)]);
    }

    #[test]
    fn only_failures_after_the_start_count() {
        assert_eq!(changes(health(0), 300, |_| false), [(90, false)]);
        assert_eq!(changes(health(60), 300, |_| false), [(120, false)]);
        // Having passed once, it is no longer starting.
        assert_eq!(changes(health(250), 300, |at| at < 2), [(1, true), (91, false)]);
    }

    #[test]
    fn one_failure_is_forgotten_by_one_success() {
        let blinks = |at: u64| (at / 30).is_multiple_of(3);
        assert_eq!(changes(health(0), 1000, blinks), [(1, true)]);
        let back = |at: u64| !(100..300).contains(&at);
        assert_eq!(changes(health(0), 500, back), [(1, true), (181, false), (301, true)]);
    }

    #[test]
    fn a_check_that_takes_too_long_is_ended_and_has_failed() {
        let mut health = health(0);
        let now = s(130);
        assert_eq!(health.due(now), Due::Start);
        health.began(now);
        assert_eq!(health.due(now), Due::At(s(140)));
        assert_eq!(health.due(s(140)), Due::End);
        health.killed();
        assert!(matches!(health.due(s(500)), Due::At(_)), "ended once is enough");
        assert_eq!(health.ended(false, s(141)), None);
        assert_eq!((health.failures(), health.due(s(141))), (1, Due::At(s(171))));
    }
}
