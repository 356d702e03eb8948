//! The kernel's clock discipline (adjtimex(2)): a clock that is stepped, or led in small steps towards the right time.
//!
//! While the kernel takes the clock for right it also writes it to the hardware clock every eleven minutes, and at once
//! when it begins to (`CONFIG_RTC_SYSTOHC`); so nobody else has to.

use std::io;
use std::time::Duration;

use libc::timex;

/// What the kernel holds of its clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Whether it takes it for right. It stops to by itself some hours after it was last told.
    pub synchronised: bool,
    /// How much faster it lets the clock run than the oscillator alone would, in parts of a million.
    pub frequency: f64,
}

/// A second that UTC puts in or leaves out at the end of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leap {
    /// None is announced.
    None,
    /// The last minute has 61 seconds.
    Insert,
    /// The last minute has 59 seconds.
    Delete,
}

/// What the clock is to be led by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// Nanoseconds that the clock is behind, at most half a second; negative when it is ahead.
    pub offset: i64,
    /// How slowly it follows: 0 to 10, each one twice as slow (RFC 5905, section 11.3, kernel: `SHIFT_PLL`).
    pub time_constant: u8,
    /// The most that the clock may be wrong.
    pub error: Duration,
    /// What is announced for the end of the day.
    pub leap: Leap,
}

/// Asks the kernel.
pub fn state() -> io::Result<State> {
    adjust(&mut nothing())
}

/// Puts the clock forward by so many nanoseconds, or back. From then on the kernel does not take it for right.
pub fn step(nanoseconds: i64) -> io::Result<()> {
    let second = 1_000_000_000;
    let mut change = nothing();
    change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    // Before the epoch, too, the part of a second counts forward.
    change.time.tv_sec = nanoseconds.div_euclid(second);
    change.time.tv_usec = nanoseconds.rem_euclid(second);
    adjust(&mut change).map(drop)
}

/// Leads the clock, which counts as right from now on.
pub fn lead(lead: &Lead) -> io::Result<State> {
    let error = i64::try_from(lead.error.as_micros()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut change = nothing();
    change.modes = libc::ADJ_STATUS
        | libc::ADJ_NANO
        | libc::ADJ_OFFSET
        | libc::ADJ_TIMECONST
        | libc::ADJ_MAXERROR
        | libc::ADJ_ESTERROR;
    change.status = libc::STA_PLL
        | match lead.leap {
            Leap::None => 0,
            Leap::Insert => libc::STA_INS,
            Leap::Delete => libc::STA_DEL,
        };
    change.offset = lead.offset;
    change.constant = lead.time_constant.into();
    change.maxerror = error;
    change.esterror = error;
    adjust(&mut change)
}

/// A request that changes nothing.
fn nothing() -> timex {
    // SAFETY: a C struct of integers, for which all zeroes is valid.
    unsafe { std::mem::zeroed() }
}

fn adjust(change: &mut timex) -> io::Result<State> {
    // SAFETY: the struct is valid for reads and writes during the call.
    if unsafe { libc::adjtimex(change) } < 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 500 parts of a million, in 2^-16 of them")]
    let frequency = change.freq as f64 / 65536.0;
    Ok(State { synchronised: change.status & libc::STA_UNSYNC == 0, frequency })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_its_clock_is() {
        let state = state().unwrap();
        // 500 is the most that it corrects (kernel: MAXFREQ).
        assert!(state.frequency.abs() <= 500.0, "{state:?}");
    }
}
