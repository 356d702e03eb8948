//! What every target asks for beside not to crash.

use rustix::time::{ClockId, clock_gettime};

/// The processor time that one input may take. Wall time would blame an input for what else the machine does.
const LIMIT_SECONDS: i64 = 1;

/// Does `work`, which is to be over soon whatever the input is.
///
/// # Panics
///
/// When it takes more than a second of processor time.
pub fn bounded(work: impl FnOnce()) {
    let before = clock_gettime(ClockId::ThreadCPUTime);
    work();
    let took = clock_gettime(ClockId::ThreadCPUTime) - before;
    assert!(took.tv_sec < LIMIT_SECONDS, "took {took:?} of processor time");
}
