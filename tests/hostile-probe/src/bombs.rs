//! Taking all there is.

use std::fs::{self, File};
use std::io::{self, Write};

use crate::{Tried, say};

/// Whether there is nothing that stops [`fork`].
pub(crate) fn no_process_limit() -> Tried {
    let limit = fs::read_to_string("/sys/fs/cgroup/pids.max")?;
    if limit.trim() == "max" { Ok(()) } else { Err(io::Error::other(format!("at most {}", limit.trim()))) }
}

/// Processes, until there are no more.
pub(crate) fn fork() {
    let mut count = 0;
    loop {
        // SAFETY: the probe has one thread, and the child only waits.
        match unsafe { libc::fork() } {
            // SAFETY: no argument; a signal ends the process.
            0 => unsafe {
                libc::pause();
            },
            -1 => return say(&format!("fork: {count} processes, then {}", io::Error::last_os_error())),
            _ => count += 1,
        }
    }
}

/// Memory, until the kernel ends this process.
pub(crate) fn memory() {
    say("memory: begins");
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        // Other than zero, or it would take none.
        all.push(vec![1; 1 << 20]);
    }
}

/// Disk, in the writable layer and in a volume, until there is no more.
pub(crate) fn disk() {
    for (name, path) in [("layer", "/tmp/full"), ("volume", "/volume/full")] {
        let filled = File::create(path).and_then(|mut file| {
            let block = [1; 1 << 16];
            let mut length = 0;
            loop {
                if let Err(error) = file.write_all(&block).and_then(|()| file.sync_data()) {
                    return Ok((length >> 20, error));
                }
                length += block.len();
            }
        });
        match filled {
            Ok((length, error)) => say(&format!("{name}: {length} MiB, then {error}")),
            Err(error) => say(&format!("{name}: {error}")),
        }
    }
}
