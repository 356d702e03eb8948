//! The wall clock, as far as it can be known without asking anybody.
//!
//! A machine may have no clock that runs while it is off, or one with an empty battery. Time never goes back behind two
//! moments, though: the one that the release was built at, and the last one that this node has known. PID 1 sets the
//! clock to the later of them, because containers, certificates and the state's own files need a date before the agent
//! is up. Asking time servers is the agent's part.

use std::fs::{self, File, FileTimes};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plan::paths;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::console;

/// How far the time of a running clock and the time since boot may drift apart.
const DRIFT: Duration = Duration::from_secs(60);

/// Puts the clock forward when it is behind what is known. To be called when the root is there, and again when the
/// state is.
pub(crate) fn raise() -> io::Result<()> {
    let known = known();
    let Ok(behind) = known.duration_since(SystemTime::now()) else { return Ok(()) };
    let time = known.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let seconds = i64::try_from(time.as_secs()).map_err(io::Error::other)?;
    clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() })?;
    console::notice(format_args!(
        "clock raised by {:.3} s, to the last time that is known",
        behind.as_secs_f64()
    ));
    Ok(())
}

/// Keeps the time for the next boot, when it is worth it: time servers have confirmed it, or it is what was known at
/// the beginning of this boot and the time since then. Any other comes from a hardware clock, which has it anyway, and
/// must not be remembered if it is one of a far future.
pub(crate) fn keep() -> io::Result<()> {
    let uptime = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
    let confirmed = sys::clock::state()?.synchronised;
    let now = SystemTime::now();
    if !confirmed && !is_known(now, known(), uptime) {
        return Ok(());
    }
    let file = File::options().write(true).create(true).truncate(false).open(paths::CLOCK)?;
    file.set_times(FileTimes::new().set_modified(now))?;
    file.sync_all()
}

/// The later of the moments before which it cannot be.
fn known() -> SystemTime {
    let changed = |path| fs::metadata(path).and_then(|metadata| metadata.modified());
    [paths::RELEASE, paths::CLOCK]
        .into_iter()
        .filter_map(|path| changed(path).ok())
        .max()
        .unwrap_or(UNIX_EPOCH)
}

/// Whether a clock that says `now` was set to what was `known` when the machine came up.
fn is_known(now: SystemTime, known: SystemTime, uptime: Duration) -> bool {
    now.duration_since(known).is_ok_and(|since| since <= uptime + DRIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_that_follows_from_a_known_one_is_known() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let (known, uptime) = (at(1000), Duration::from_secs(500));
        for (now, is) in
            [(1000, true), (1500, true), (1560, true), (1561, false), (999, false), (u64::MAX >> 2, false)]
        {
            assert_eq!(is_known(at(now), known, uptime), is, "{now}");
        }
    }
}
