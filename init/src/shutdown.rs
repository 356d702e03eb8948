//! The end of a boot: what is left is killed, what was written is safe, and the machine does what was asked.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::system::{RebootCommand, reboot};

use crate::{boot, clock, console, host, random, state};

/// What the machine is to do in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Boot again.
    Reboot,
    /// Switch the power off.
    PowerOff,
    /// Stand still with the power on.
    Halt,
}

/// How long what is left may take to end by itself once it has been asked.
const GRACE: Duration = Duration::from_secs(2);

/// How long the reason for a fatal end stays on the screen: what `panic=5` gives the kernel's.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Ends the boot. To be called when the services have been stopped.
///
/// - No process is left that could write: asked to end, then killed.
/// - The next boot has a fresh random seed and knows what time it was.
/// - `/var` is unmounted, or read-only when something holds it, and everything is on the disk.
pub(crate) fn finish(kind: Kind) -> ! {
    end_processes();
    if let Err(error) = random::save_seed() {
        console::warning(format_args!("cannot save the random seed: {error}"));
    }
    if let Err(error) = clock::keep() {
        console::warning(format_args!("cannot keep the time: {error}"));
    }
    if let Err(error) = state::close() {
        console::warning(format_args!("cannot unmount {}: {error}", plan::paths::STATE));
    }
    console::notice(format_args!(
        "{}",
        match kind {
            Kind::Reboot => "rebooting",
            Kind::PowerOff => "powering off",
            Kind::Halt => "halted",
        }
    ));
    end(kind)
}

fn end(kind: Kind) -> ! {
    let command = match kind {
        Kind::Reboot => RebootCommand::Restart,
        Kind::PowerOff => RebootCommand::PowerOff,
        Kind::Halt => RebootCommand::Halt,
    };
    loop {
        rustix::fs::sync();
        if let Err(error) = reboot(command) {
            console::error(format_args!("the kernel refuses ({kind:?}): {error}"));
        }
        thread::sleep(LAST_WORDS);
    }
}

/// Asks every process to end, then kills what has not.
fn end_processes() {
    for pid in processes() {
        // One that has just ended by itself is no failure.
        kill_process(pid, Signal::TERM).ok();
    }
    let began = Instant::now();
    while host::is_populated() && began.elapsed() < GRACE {
        while let Ok(Some(_)) = sys::process::reap() {}
        thread::sleep(Duration::from_millis(20));
    }
    host::kill_all();
    for pid in processes() {
        kill_process(pid, Signal::KILL).ok();
    }
    while let Ok(Some(_)) = sys::process::reap() {}
}

/// Every process but PID 1. Kernel threads are among them and do not mind signals.
fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| *pid > 1).filter_map(Pid::from_raw)
}

/// Runs PID 1. A panic is written on the console and the recorder; one that nothing inside has survived is the end, and
/// the machine restarts.
pub(crate) fn last_words(run: impl FnOnce() -> std::convert::Infallible) -> ! {
    std::panic::set_hook(Box::new(|panic| {
        let text = format!("PID 1 has failed: {panic}");
        console::error(&text);
        boot::record_failure(&text);
    }));
    drop(catch_unwind(AssertUnwindSafe(run)));
    restart()
}

/// Restarts the machine when the reason has been there to read for a while.
pub(crate) fn restart() -> ! {
    rustix::fs::sync();
    thread::sleep(LAST_WORDS);
    end(Kind::Reboot)
}
