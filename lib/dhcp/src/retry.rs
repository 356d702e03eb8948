//! One exchange: its transaction, and when to ask again.

use std::time::Duration;

use crate::Random;

/// How questions are asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long the first answer is waited for; each time twice as long as the time before.
    pub(crate) first: Duration,
    /// At most.
    pub(crate) longest: Duration,
    /// After how many questions without an answer it is given up; `None`: never.
    pub(crate) times: Option<u32>,
}

/// A question that is being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// The transaction id: the same in every repetition.
    pub(crate) id: u32,
    /// When it was first asked.
    pub(crate) begun: Duration,
    /// How often it has been asked.
    pub(crate) asked: u32,
    /// When it was last asked.
    pub(crate) sent: Duration,
    /// When to ask again, or to give up.
    pub(crate) next: Duration,
}

impl Exchange {
    /// A question to be asked now.
    pub(crate) fn new(now: Duration, random: &mut Random) -> Self {
        Self { id: random.next(), begun: now, asked: 0, sent: now, next: now }
    }

    /// Notes that it is asked now; false when that has been done often enough.
    pub(crate) fn ask(&mut self, pace: Pace, now: Duration, random: &mut Random) -> bool {
        if pace.times.is_some_and(|times| self.asked >= times) {
            return false;
        }
        let doubled = pace.first.saturating_mul(1_u32.checked_shl(self.asked).unwrap_or(u32::MAX));
        // A tenth more or less, so that machines that were started together do not ask together (RFC 2131, section
        // 4.1; RFC 8415, section 15).
        let wait = doubled.min(pace.longest);
        let spread = wait / 5 * (random.next() % 1000) / 1000;
        self.asked += 1;
        self.sent = now;
        self.next = now + wait - wait / 10 + spread;
        true
    }
}
