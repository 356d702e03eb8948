//! The boot's stages and when each was reached: on the console, and as JSON for whoever asks later.

use std::fs;
use std::path::Path;

use plan::paths;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::console;

/// The stages reached so far, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Trace {
    stages: Vec<Stage>,
}

/// One stage and when it was reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stage {
    name: String,
    /// Microseconds since the kernel started.
    us: u64,
}

impl Trace {
    /// Notes that the boot has come to `name`, and says so: `holdfast: boot NAME`.
    pub(crate) fn reached(&mut self, name: &str) {
        self.stages.push(Stage { name: name.to_owned(), us: since_boot_us() });
        console::notice(format_args!("boot {name}"));
    }

    /// Writes what was reached so far to `paths::BOOT_TRACE`, replacing it whole.
    pub(crate) fn save(&self) -> std::io::Result<()> {
        let new = Path::new(paths::BOOT_TRACE).with_extension("new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, paths::BOOT_TRACE)
    }
}

/// Microseconds since the kernel started.
pub(crate) fn since_boot_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unwrap_or(0)
}
