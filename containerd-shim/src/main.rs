//! `containerd-shim-holdfast-v1`: holds one container.
//!
//! `run BUNDLE` stays in the foreground as the parent of the container's first process: it puts the root together
//! from the image's layers, has the container created, passes on the stop signal, and ends with the container's exit
//! code. The bundle is an OCI `config.json` and a `shim.json` ([`plan::ShimConfig`]).
//!
//! What it relies on and what it must never do:
//! - it is single-threaded, because libcontainer forks without regard for other threads, and it runs libcontainer
//!   only in a child that ends before the container's program starts: what the library leaks ends with the child;
//! - every mount, and what libcontainer keeps on disk, lives in the shim's own mount namespace, so nothing is left
//!   behind however the shim ends;
//! - the container never waits for a console and never sees a full disk through its log: such output is dropped.
//!
//! What `config.json` must hold for this shim and this libcontainer:
//! - `root.path` is `/run/holdfast/shim/NAME/rootfs`, `linux.cgroupsPath` is `/services.slice/NAME/container`;
//! - the default security set: the capabilities CHOWN, DAC_OVERRIDE, FSETID, FOWNER, SETGID, SETUID, SETPCAP,
//!   NET_BIND_SERVICE, SYS_CHROOT, KILL, AUDIT_WRITE and SETFCAP as bounding, effective and permitted ones (Docker's
//!   set without MKNOD, SYS_RESOURCE and NET_RAW), `noNewPrivileges`, the profile in `rootfs/seccomp.json`, device
//!   rules that deny all but the harmless ones, and Docker's masked and read-only paths.

#![expect(unsafe_code, reason = "what creates the container or enters it is a fork of the shim")]

mod binds;
mod budget;
mod cgroup;
mod console;
mod create;
mod devices;
mod exec;
mod files;
mod filter;
mod health;
mod ids;
mod init;
mod joined;
mod log;
mod log_file;
mod network;
mod notify;
mod oom;
mod probe;
mod quota;
mod report;
mod rootfs;
mod run;
mod service;
mod spec;
mod user;
mod volumes;
mod within;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use sys::kmsg::{self, Level};

/// The shim could not run the container; Docker's exit code for it, as 126 and 127 are for its program.
const CANNOT_RUN: u8 = 125;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let bundle = match args.as_slice() {
        [verb, bundle] if verb == "run" => Path::new(bundle),
        [verb, words @ ..] if verb == init::VERB => {
            // The console is the node's: there is nobody to tell.
            return init::run(words).unwrap_or(ExitCode::from(CANNOT_RUN));
        }
        _ => {
            eprintln!("usage: containerd-shim-holdfast-v1 run BUNDLE");
            return ExitCode::from(CANNOT_RUN);
        }
    };
    let config: plan::ShimConfig = match plan::read_json(&bundle.join("shim.json")) {
        Ok(config) => config,
        Err(error) => return fail(&bundle.display().to_string(), &error, CANNOT_RUN),
    };
    match run::run(bundle, &config) {
        Ok(exit) => ExitCode::from(u8::try_from(exit.code()).unwrap_or(u8::MAX)),
        Err(error) => {
            let code = fail(config.name.as_str(), &error, error.exit_code());
            if error.is_damage() {
                // PID 1 always replaces a shim that was killed: by then the layer may be there anew.
                end_killed();
            }
            code
        }
    }
}

/// Ends this process as if it had been killed.
fn end_killed() {
    if let Err(error) = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL) {
        kmsg::write(Level::Warning, &format!("holdfast: the shim cannot end itself: {error}"));
    }
}

/// Says on the console and to PID 1 why there is no container.
fn fail(service: &str, error: &dyn Error, code: u8) -> ExitCode {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    kmsg::write(Level::Error, &format!("holdfast: cannot run {service}: {reason}"));
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Status(&reason)]) {
        kmsg::write(Level::Warning, &format!("holdfast: {service}: cannot tell PID 1: {error}"));
    }
    ExitCode::from(code)
}
