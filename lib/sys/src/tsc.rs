//! The processor's time-stamp counter.

use std::arch::x86_64::_rdtsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long it is watched: an error of a microsecond in reading the clock is one in 50,000.
const WATCHED: Duration = Duration::from_millis(50);

/// How fast it counts, in kHz, by the system's clock.
pub fn frequency_khz() -> u64 {
    let (began, from) = (Instant::now(), read());
    thread::sleep(WATCHED);
    let (passed, to) = (began.elapsed(), read());
    let counted = u128::from(to.wrapping_sub(from));
    u64::try_from(counted * 1_000_000 / passed.as_nanos().max(1)).unwrap_or(u64::MAX)
}

fn read() -> u64 {
    // SAFETY: the instruction is part of x86_64 and touches no memory.
    unsafe { _rdtsc() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_counts_at_the_pace_of_a_processor() {
        let measured = super::frequency_khz();
        assert!((200_000..20_000_000).contains(&measured), "{measured} kHz");
    }
}
