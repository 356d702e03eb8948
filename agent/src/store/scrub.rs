//! Reads every layer of the store, so that what has changed on the disk is found before somebody needs it.
//!
//! It is due a day after the last one, or as often as `holdfast.scrub` says, give or take a tenth: nodes that were started
//! together do not all read at once. The file `scrubbed` in the store has the time of the last one as its own. Never in
//! the first minutes of an agent, in which services start.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use config::Scrub;
use rustix::fs::{Advice, fadvise};
use rustix::process::setpriority_process;
use rustix::rand::{GetRandomFlags, getrandom};

use super::Store;
use crate::console;
use crate::file::cannot;

/// How long after the start of an agent nothing is due.
const SETTLED: Duration = Duration::from_secs(10 * 60);
/// How long after it was due nothing is due again, also when that it was done cannot be noted.
const APART: Duration = Duration::from_secs(60 * 60);
/// The least that the scheduler gives a thread.
const LOWEST: i32 = 19;

/// When the store is read the next time.
#[derive(Debug)]
pub(super) struct Schedule {
    not_before: Instant,
    /// Of 256 parts.
    jitter: u8,
}

impl Schedule {
    pub(super) fn new() -> Self {
        let mut jitter = [0; 1];
        // Without it all is as well, only at the same time as elsewhere.
        getrandom(&mut jitter, GetRandomFlags::NONBLOCK).ok();
        Self { not_before: Instant::now() + SETTLED, jitter: jitter[0] }
    }

    /// How long it is until then, if there is a then.
    pub(super) fn wait(&self, store: &Store, scrub: Scrub) -> Option<Duration> {
        let period = scrub.period()?;
        let mark = mark(store);
        // What is new was checked when it was written. A time in the future says nothing.
        let age = match fs::metadata(&mark).and_then(|metadata| metadata.modified()) {
            Ok(last) => last.elapsed().unwrap_or_default(),
            Err(_) => {
                done(store);
                Duration::ZERO
            }
        };
        let least = self.not_before.saturating_duration_since(Instant::now());
        Some(due(period, age, self.jitter).max(least))
    }

    /// It was due.
    pub(super) fn passed(&mut self) {
        self.not_before = Instant::now() + APART;
    }
}

/// How long until something of this age is a period old, give or take a tenth of that.
fn due(period: Duration, age: Duration, jitter: u8) -> Duration {
    let shortest = period - period / 10;
    (shortest + period / 5 * u32::from(jitter) / 256).saturating_sub(age)
}

/// Notes that everything has been read.
pub(super) fn done(store: &Store) {
    let mark = mark(store);
    if let Err(error) = fs::write(&mark, "").map_err(cannot("write", &mark)) {
        console::warning(console::chain(&error));
    }
}

fn mark(store: &Store) -> PathBuf {
    store.directory().join("scrubbed")
}

/// Reads files to their ends, in a thread that yields to all others, and says how much it was. Gives those that cannot
/// be read.
pub(super) fn read_all(files: &[PathBuf]) -> Vec<PathBuf> {
    let (mut damaged, mut bytes) = (Vec::new(), 0);
    let mut read = || {
        // A thread's own priority. That of whoever asked for it stays.
        setpriority_process(None, LOWEST).ok();
        for path in files {
            match read_through(path) {
                Ok(read) => bytes += read,
                Err(_) => damaged.push(path.clone()),
            }
        }
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("scrub".to_owned()).spawn_scoped(scope, &mut read);
        match thread.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => console::error(format_args!("cannot read the layers of images: {error}")),
        }
    });
    let (all, bad, read) = (files.len(), damaged.len(), bytes >> 20);
    console::notice(format_args!("images: read {all} layers, {read} MiB: {bad} are damaged"));
    damaged
}

/// Reads a file to its end, from the disk: what memory holds of it was checked when it was read.
pub(super) fn read_through(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    // Memory that somebody has mapped stays, which is as well: it is what they see.
    let forget = |file: &File| fadvise(file, 0, None, Advice::DontNeed).ok();
    forget(&file);
    let (mut buffer, mut read) = (vec![0; 1 << 18], 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => read += count as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // Nobody has asked for it.
    forget(&file);
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn it_is_due_after_a_period_give_or_take_a_tenth() {
        for (age, jitter, hours) in
            [(0, 0, 21.6), (0, 128, 24.0), (0, 255, 26.4), (12, 128, 12.0), (30, 128, 0.0)]
        {
            let wait = due(DAY, Duration::from_secs(age * 3600), jitter).as_secs_f64() / 3600.0;
            assert!((wait - hours).abs() < 0.05, "{age} {jitter}: {wait}");
        }
    }
}
