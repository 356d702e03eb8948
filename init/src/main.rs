//! PID 1: boots the node, keeps its services running, shuts it down.
//!
//! The same program runs twice: as `/init` of the initrd it finds, verifies and enters the root; as the root's init
//! it prepares the host and then supervises for ever. It never ends, never waits for anything that may not answer,
//! has one event loop and one reaper, and parses nothing that came from outside. Work that may take long is done by
//! children: other programs, or this one under another first argument.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod boot;
mod clock;
mod fault;
mod gate;
mod grow;
mod host;
mod late;
mod random;
mod recorder;
mod runtime;
mod shutdown;
mod state;
mod supervise;
mod sysctl;
mod trace;
mod watchdog;

use std::process::ExitCode;
use sys::console;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        return late::main();
    }
    shutdown::last_words(|| {
        let booted = boot::boot();
        // From now on nothing may fail any more: what runs is supervised until somebody asks for the end.
        let kind = runtime::run(booted);
        shutdown::finish(kind)
    })
}
