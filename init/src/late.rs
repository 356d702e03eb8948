//! What can wait until services run: drivers for the rest of the hardware, and growing the state. Done by children,
//! because loading a module and growing a file system block.

use std::env;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use plan::paths;
use sys::process::{Child, Spawn, spawn};

use crate::boot::{self, Booted, Drivers};
use crate::gate::esp;
use crate::state::State;
use crate::{console, grow, host};

const COLDPLUG: &str = "coldplug";
const GROW_STATE: &str = "grow-state";

/// Starts what can wait; to be called once, when the first services run. The children say on the console what goes
/// wrong, and whoever reaps need not know them.
pub(crate) fn start(booted: &Booted) -> Vec<Child> {
    let disk = booted.disk.as_ref().filter(|_| booted.state == State::Disk);
    let disk: Vec<_> = disk.iter().map(|disk| disk.device.as_os_str()).collect();
    [(COLDPLUG, [].as_slice()), (GROW_STATE, &disk)]
        .iter()
        .filter_map(|(name, args)| child(name, args))
        .collect()
}

fn child(name: &str, args: &[&OsStr]) -> Option<Child> {
    let program = Path::new(paths::INIT);
    let args = [&[OsStr::new(name)], args].concat();
    let started = host::system_group(name).and_then(|group| {
        spawn(&Spawn { program, args: &args, env: &[], cgroup: Some(group.as_fd()), stdio: [None; 3] })
    });
    started.map_err(|error| console::warning(format_args!("cannot start init {name}: {error}"))).ok()
}

/// The program when it is not PID 1.
pub(crate) fn main() -> ExitCode {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let name = args.first().and_then(|arg| arg.to_str());
    let result = match name {
        Some(COLDPLUG) => {
            let mut drivers = Drivers::open();
            drivers.stage(modules::Stage::Late);
            drivers.coldplug();
            boot::set_read_ahead(Path::new("/dev/dm-0"), boot::READ_AHEAD);
            Ok(0)
        }
        Some(GROW_STATE) => grow::run(args.get(1).map(Path::new)).map(|()| 0),
        _ => esp::run(name.unwrap_or_default(), args.get(1..).unwrap_or_default()).unwrap_or_else(|| {
            Err(std::io::Error::other("this is PID 1's program; it does nothing when started by hand"))
        }),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            console::warning(format_args!("{}: {error}", name.unwrap_or("init")));
            ExitCode::FAILURE
        }
    }
}
