//! Lines for the kernel log, which the kernel prints on every console: how the node talks to whoever watches.
//!
//! Writing never blocks and never fails the caller: a console that nobody reads must not stop PID 1. The kernel
//! takes one record a write, so a text is cut at line ends and at what a record can hold.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;

/// How much a line matters; the kernel prints those below its `loglevel` on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed and somebody has to act.
    Error = 3,
    /// Something failed and the node goes on without it.
    Warning = 4,
    /// What the node does.
    Notice = 5,
    /// Details, kept in the log but not shown.
    Info = 6,
}

/// The most bytes of text a record takes: the kernel's limit is 1024 with its prefix (kernel/printk/internal.h).
const RECORD: usize = 960;

/// Writes `text` to the kernel log, one record a line. Without a kernel log (not root, a container) it is dropped.
pub fn write(level: Level, text: &str) {
    let Some(mut log) = log() else { return };
    for line in text.lines() {
        for piece in pieces(line) {
            // One write is one record: the kernel takes it whole or not at all.
            if log.write(format!("<{}>{piece}\n", level as u8).as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The kernel log, opened at the first use that succeeds: early in PID 1 there is no /dev yet.
fn log() -> Option<&'static File> {
    static LOG: OnceLock<File> = OnceLock::new();
    if LOG.get().is_none() {
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
        LOG.get_or_init(|| opened);
    }
    LOG.get()
}

/// `line` in parts that fit a record, cut between characters.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let (head, tail) = line.split_at(line.floor_char_boundary(RECORD));
        rest = (!tail.is_empty()).then_some(tail);
        Some(head)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_between_characters_and_nothing_is_lost() {
        for line in ["", "short", &"x".repeat(RECORD), &"ü".repeat(RECORD)] {
            let cut: Vec<_> = pieces(line).collect();
            assert!(cut.iter().all(|p| p.len() <= RECORD));
            assert_eq!(cut.concat(), line);
        }
    }
}
