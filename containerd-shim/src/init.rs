//! The first process of a container whose program wants none of what that is: compose's `init: true`.
//!
//! It is this program again, started with [`VERB`] from a handle that was opened before the node was out of sight, so that
//! nothing of the shim's memory is in the container. It passes signals on to the container's program, reaps whatever ends,
//! and ends as the program does.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{ForkResult, Pid, execveat, fork, getpgrp, setpgid, tcsetpgrp};
use rustix::io::{FdFlags, fcntl_setfd};
use sys::process::Exit;

use crate::report::Report;

/// What this program is called with as an init: `init REPORT PROGRAM [ARG...]`, where REPORT is the number of an open file.
pub(crate) const VERB: &str = "init";

/// This program, to be executed where its path means nothing.
pub(crate) fn handle() -> io::Result<File> {
    File::open("/proc/self/exe")
}

/// Executes this program, opened as `own`, as the init of `program`. Returns when that fails.
pub(crate) fn become_init(own: &File, report: &Report, program: &str, args: &[String]) -> io::Error {
    let become_it = || -> io::Result<()> {
        fcntl_setfd(report, FdFlags::empty())?;
        let report = report.as_fd().as_raw_fd().to_string();
        let words = [VERB, VERB, &report, program].into_iter().chain(args.iter().map(String::as_str));
        let words = words.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let variable = |(name, value): (OsString, OsString)| {
            CString::new([name.into_vec(), value.into_vec()].join(&b'='))
        };
        let env = std::env::vars_os().map(variable).collect::<Result<Vec<_>, _>>()?;
        execveat(own, c"", &words, &env, AtFlags::AT_EMPTY_PATH)?;
        Ok(())
    };
    become_it().err().unwrap_or_else(|| io::ErrorKind::Other.into())
}

/// Runs the program with these words after [`VERB`].
pub(crate) fn run(words: &[OsString]) -> io::Result<ExitCode> {
    let [report, program, args @ ..] = words else { return Err(io::ErrorKind::InvalidInput.into()) };
    let report: RawFd =
        report.to_str().and_then(|number| number.parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: whoever executed this left it open for it, and nobody else here knows of it.
    let report = Report::from(unsafe { File::from_raw_fd(report) });
    fcntl_setfd(&report, FdFlags::CLOEXEC)?;
    // Orphans come here also where this is not process 1.
    nix::sys::prctl::set_child_subreaper(true)?;
    let every = SigSet::all();
    every.thread_block()?;
    // SAFETY: there is one thread.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            in_front()?;
            SigSet::empty().thread_set_mask()?;
            let error = Command::new(program).args(args).exec();
            report.not_executed(&program.to_string_lossy(), &error);
            return Ok(ExitCode::FAILURE);
        }
        ForkResult::Parent { child } => child,
    };
    drop(report);
    loop {
        match every.wait()? {
            Signal::SIGCHLD => {
                while let Some((pid, exit)) = sys::process::reap()? {
                    if pid == child.as_raw() {
                        return Ok(code(exit));
                    }
                }
            }
            signal => match kill(child, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
}

/// Makes this process the leader of a group of its own, to which the terminal belongs if there is one.
fn in_front() -> io::Result<()> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    match tcsetpgrp(io::stdin(), getpgrp()) {
        Ok(()) | Err(Errno::ENOTTY | Errno::EBADF | Errno::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn code(exit: Exit) -> ExitCode {
    ExitCode::from(u8::try_from(exit.code()).unwrap_or(u8::MAX))
}
