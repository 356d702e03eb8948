//! Faults built in on purpose, for tests of the watchdog and of the fallback: never part of a release.

/// Panics.
#[cfg(feature = "fault-panic")]
#[expect(clippy::panic, reason = "that is the fault")]
pub(crate) fn inject() {
    panic!("this init was built to panic");
}

/// Hangs.
#[cfg(all(feature = "fault-hang", not(feature = "fault-panic")))]
pub(crate) fn inject() {
    loop {
        std::hint::spin_loop();
    }
}

/// Nothing: this is no test.
#[cfg(not(any(feature = "fault-panic", feature = "fault-hang")))]
pub(crate) fn inject() {}
