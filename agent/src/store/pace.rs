//! Whether something comes fast enough: one who sends a byte now and then holds up all others.

use std::time::{Duration, Instant};

/// Less than this in such a time is too slow: a modem is faster.
pub(super) const WINDOW: Duration = Duration::from_secs(30);
pub(super) const SLOWEST: u64 = 32 << 10;

/// How far it had come, and when.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    offset: u64,
}

impl Pace {
    /// From `offset` on.
    pub(super) fn from(offset: u64) -> Self {
        Self { since: Instant::now(), offset }
    }

    /// It has come to `offset`.
    pub(super) fn is_too_slow(&mut self, offset: u64) -> bool {
        if self.since.elapsed() < WINDOW {
            return false;
        }
        let is_too_slow = offset - self.offset < SLOWEST;
        *self = Self::from(offset);
        is_too_slow
    }
}
