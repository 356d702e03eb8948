//! Attends a running guest: relays its console, watches it, and ends it when there is a reason to.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use regex::bytes::Regex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::machine::QEMU;

/// When to end the guest, and where its console goes beside standard output.
pub(super) struct Limits {
    pub(super) until: Option<Regex>,
    pub(super) timeout: Option<Duration>,
    pub(super) end_on_panic: bool,
    pub(super) serial: Option<PathBuf>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    PoweredOff,
    Matched,
    TimedOut,
    Panicked,
    /// This process was told to stop.
    Interrupted,
}

enum Event {
    Output(Vec<u8>),
    /// QEMU closed its output.
    End,
    Signal,
}

/// How long the console is followed after a panic, so that its last lines are seen.
const AFTER_PANIC: Duration = Duration::from_secs(2);

static PANIC: LazyLock<Regex> = LazyLock::new(|| Regex::new("Kernel panic").expect("a constant"));

/// Starts QEMU and stays until it has ended. Its standard input is ours.
pub(super) fn attend(qemu: &mut Command, limits: &Limits) -> anyhow::Result<Outcome> {
    let mut serial = match &limits.serial {
        Some(path) => Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => None,
    };
    let (sender, events) = channel();
    watch_signals(sender.clone())?;
    let mut guest = qemu.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {QEMU}"))?;
    let output = guest.stdout.take().context("QEMU has no output")?;
    std::thread::spawn(move || read_output(output, &sender));

    let outcome = follow(&events, limits, &mut serial)?;
    if outcome != Outcome::PoweredOff {
        terminate(&guest)?;
    }
    let status = guest.wait().context("cannot wait for QEMU")?;
    if outcome == Outcome::PoweredOff && !status.success() {
        bail!("{QEMU} failed ({status}): see its message above");
    }
    Ok(outcome)
}

/// Relays the console until there is a reason to stop.
fn follow(events: &Receiver<Event>, limits: &Limits, serial: &mut Option<File>) -> anyhow::Result<Outcome> {
    let mut deadline = limits.timeout.map(|timeout| (Instant::now() + timeout, Outcome::TimedOut));
    let mut line = Vec::new();
    loop {
        let event = match deadline {
            None => events.recv().unwrap_or(Event::End),
            Some((at, outcome)) => match events.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => return Ok(outcome),
                Err(RecvTimeoutError::Disconnected) => Event::End,
            },
        };
        let bytes = match event {
            Event::Output(bytes) => bytes,
            Event::End => return Ok(Outcome::PoweredOff),
            Event::Signal => return Ok(Outcome::Interrupted),
        };
        relay(&bytes, serial)?;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if limits.until.as_ref().is_some_and(|until| until.is_match(&line)) {
                return Ok(Outcome::Matched);
            }
            if limits.end_on_panic && PANIC.is_match(&line) {
                deadline = Some((Instant::now() + AFTER_PANIC, Outcome::Panicked));
            }
            if part.ends_with(b"\n") {
                line.clear();
            }
        }
    }
}

/// Copies console output to our own and to the file. A reader that went away does not end the guest.
fn relay(bytes: &[u8], serial: &mut Option<File>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if let Some(file) = serial {
        file.write_all(bytes).context("cannot write the console to its file")?;
    }
    Ok(())
}

fn read_output(mut output: impl Read, events: &Sender<Event>) {
    let mut buffer = [0; 4096];
    loop {
        let event = match output.read(&mut buffer) {
            Ok(0) | Err(_) => Event::End,
            Ok(read) => Event::Output(buffer.get(..read).unwrap_or_default().to_vec()),
        };
        let end = matches!(event, Event::End);
        if events.send(event).is_err() || end {
            return;
        }
    }
}

/// Turns the signals that end a command into events, so that no guest outlives it.
fn watch_signals(events: Sender<Event>) -> anyhow::Result<()> {
    let mut signals =
        signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot watch signals")?;
    std::thread::spawn(move || signals.forever().try_for_each(|_| events.send(Event::Signal)));
    Ok(())
}

/// Asks QEMU to end; it restores the terminal first.
fn terminate(guest: &Child) -> anyhow::Result<()> {
    let pid = rustix::process::Pid::from_child(guest);
    match rustix::process::kill_process(pid, rustix::process::Signal::TERM) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("cannot end QEMU"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attend_script(script: &str, until: Option<&str>, timeout_ms: u64) -> anyhow::Result<Outcome> {
        let limits = Limits {
            until: until.map(|u| Regex::new(u).unwrap()),
            timeout: Some(Duration::from_millis(timeout_ms)),
            end_on_panic: true,
            serial: None,
        };
        attend(Command::new("sh").args(["-c", script]), &limits)
    }

    #[test]
    fn each_end_is_told_apart() {
        let long = 20_000;
        assert_eq!(attend_script("echo bye", None, long).unwrap(), Outcome::PoweredOff);
        assert_eq!(
            attend_script("printf 'a login: '; exec sleep 60", Some("login: $"), long).unwrap(),
            Outcome::Matched
        );
        assert_eq!(attend_script("exec sleep 60", None, 50).unwrap(), Outcome::TimedOut);
        let panic = "echo '[ 1.0] Kernel panic - not syncing'; exec sleep 60";
        assert_eq!(attend_script(panic, None, long).unwrap(), Outcome::Panicked);
        assert!(attend_script("exit 1", None, long).is_err());
    }
}
