//! The watchdog: hardware, or the kernel in its place, that resets the machine when PID 1 no longer answers.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

/// Seconds without a sign of life until the machine is reset: longer than any step of the boot takes on a slow
/// emulated machine, and short enough that nobody has to go there in the meantime.
const TIMEOUT_S: i32 = 30;

/// The device: the first one that a driver has registered.
const DEVICE: &str = "/dev/watchdog0";

/// An armed watchdog.
#[derive(Debug)]
pub(crate) struct Watchdog {
    device: File,
    timeout: Duration,
}

/// An armed watchdog on its way from the initrd's init to the root's: its descriptor, left open across exec.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Passed {
    descriptor: i32,
    timeout: Duration,
}

impl Watchdog {
    /// Opens and so arms the watchdog.
    pub(crate) fn arm() -> io::Result<Self> {
        let device = File::options().write(true).open(DEVICE)?;
        let seconds = sys::watchdog::set_timeout(&device, TIMEOUT_S).unwrap_or(TIMEOUT_S);
        Ok(Self { device, timeout: Duration::from_secs(seconds.unsigned_abs().into()) })
    }

    /// Lets it pass to the program that PID 1 is about to become.
    pub(crate) fn pass(&self) -> io::Result<Passed> {
        fcntl_setfd(&self.device, FdFlags::empty())?;
        Ok(Passed { descriptor: self.device.as_raw_fd(), timeout: self.timeout })
    }

    /// Goes on with one that was passed.
    pub(crate) fn take(passed: Passed) -> io::Result<Self> {
        let device = sys::inherited::descriptor(passed.descriptor)?.into();
        Ok(Self { device, timeout: passed.timeout })
    }

    /// Says that PID 1 is alive. A device that takes no writes any more will reset the machine, as it should.
    pub(crate) fn pet(&self) {
        (&self.device).write_all(b".").ok();
    }

    /// How often to pet it.
    pub(crate) fn interval(&self) -> Duration {
        self.timeout / 3
    }
}
