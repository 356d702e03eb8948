//! Watches for processes of the container that the kernel ends because memory is short, and says whose they were.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use plan::ServiceName;
use sys::kmsg::{self, Level};

use crate::cgroup::Cgroup;

/// The container's `memory.events`; the kernel announces a change as a priority event.
#[derive(Debug)]
pub(crate) struct Oom {
    events: File,
    seen: u64,
    name: ServiceName,
}

impl Oom {
    /// Of the container `name`, whose control group is `cgroup`.
    pub(crate) fn watch(cgroup: &Cgroup, name: &ServiceName) -> io::Result<Self> {
        let mut oom = Self { events: cgroup.open("memory.events")?, seen: 0, name: name.clone() };
        oom.seen = oom.killed();
        Ok(oom)
    }

    /// What to poll for a priority event.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Looks, and says what is new.
    pub(crate) fn turn(&mut self) {
        let killed = self.killed();
        if killed > self.seen {
            let count = killed - self.seen;
            let text = format!(
                "holdfast: service {} out of memory: the kernel has ended {count} of its processes",
                self.name
            );
            kmsg::write(Level::Warning, &text);
        }
        self.seen = self.seen.max(killed);
    }

    fn killed(&self) -> u64 {
        let mut text = [0; 256];
        let length = rustix::io::pread(&self.events, &mut text, 0).unwrap_or(0);
        kills(&String::from_utf8_lossy(&text[..length]))
    }
}

/// The kernel's count (Documentation/admin-guide/cgroup-v2.rst, "memory.events").
fn kills(events: &str) -> u64 {
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_by_the_kernel() {
        assert_eq!(kills("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), 2);
        assert_eq!(kills("low 0\n"), 0);
    }
}
