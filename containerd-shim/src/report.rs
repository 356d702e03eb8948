//! What the processes that create a container tell the shim.
//!
//! They report through a pipe: the container's process id, and the reason when something fails. The pipe is closed by the
//! exec of the container's program, so its end with no reason in it means that the program runs.
//!
//! libcontainer's processes wait for each other's messages, and each holds the pipe open: when one of them is killed, the
//! others would wait for ever. So whoever is killed takes the one that creates with it, and of that the shim hears.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::create::CreateError;

/// A new pipe for a report.
pub(crate) fn pipe() -> io::Result<(Hearer, Report)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Hearer(File::from(reader)), Report::from(File::from(writer))))
}

/// The writing end of the pipe.
#[derive(Clone, Debug)]
pub(crate) struct Report(Arc<File>);

impl Report {
    pub(crate) fn pid(&self, pid: i32) {
        self.line(&format!("pid {pid}\n"));
    }

    pub(crate) fn refused(&self, code: u8, reason: &str) {
        self.line(&format!("refused {code} {}\n", reason.replace('\n', " ")));
    }

    /// The program was not executed; gives the reason.
    pub(crate) fn not_executed(&self, program: &str, error: &io::Error) -> String {
        let (code, reason) = explain(program, error, Path::new(program).exists());
        if error.raw_os_error() == Some(libc::EIO) {
            self.damaged(&reason);
        } else {
            self.refused(code, &reason);
        }
        reason
    }

    /// The program is there, and cannot be read.
    fn damaged(&self, reason: &str) {
        self.line(&format!("damaged {}\n", reason.replace('\n', " ")));
    }

    pub(crate) fn line(&self, line: &str) {
        // Nobody reads any more: the shim is gone, and so is whoever could be told.
        (&*self.0).write_all(line.as_bytes()).unwrap_or(());
    }
}

/// The reading end of the pipe.
#[derive(Debug)]
pub(crate) struct Hearer(File);

impl Hearer {
    /// Waits until the container's program runs, or it is known that it will not. `creator` is the child that creates it;
    /// it is left to be reaped.
    pub(crate) fn hear(mut self, creator: Pid) -> Result<Pid, CreateError> {
        let handle = rustix::process::Pid::from_raw(creator.as_raw()).ok_or(CreateError::Silent)?;
        let handle =
            pidfd_open(handle, PidfdFlags::empty()).map_err(|error| CreateError::Fork(error.into()))?;
        let (mut text, mut buffer) = (Vec::new(), [0; 512]);
        loop {
            let mut ends = [PollFd::new(&self.0, PollFlags::IN), PollFd::new(&handle, PollFlags::IN)];
            match poll(&mut ends, None) {
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready.map_err(|error| CreateError::Fork(error.into()))?,
            };
            let [report, ended] = ends.map(|end| !end.revents().is_empty());
            if report {
                match self.0.read(&mut buffer).map_err(CreateError::Fork)? {
                    0 => break,
                    length => text.extend_from_slice(&buffer[..length]),
                }
            } else if ended {
                if ended_well(creator).map_err(CreateError::Fork)? {
                    // Of those who write, the container's first process is left.
                    self.0.read_to_end(&mut text).map_err(CreateError::Fork)?;
                }
                break;
            }
        }
        // Whoever has closed the pipe without an exec has ended, or is about to.
        let killed = !ended_well(creator).map_err(CreateError::Fork)?;
        match understand(&String::from_utf8_lossy(&text)) {
            Ok(_) | Err(CreateError::Silent) if killed => Err(CreateError::Killed),
            outcome => outcome,
        }
    }
}

/// Waits for the end of a child: did it come by itself, and content?
fn ended_well(child: Pid) -> io::Result<bool> {
    let status = waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
    Ok(matches!(status, WaitStatus::Exited(_, 0)))
}

/// From here on this process ends when a child of its own is killed.
pub(crate) fn end_with_the_killed() -> nix::Result<()> {
    extern "C" fn child_ended(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
        // SAFETY: the kernel passes what it knows of the child.
        let code = unsafe { (*info).si_code };
        if matches!(code, libc::CLD_KILLED | libc::CLD_DUMPED) {
            // SAFETY: it may be called in a signal handler, and does not return.
            unsafe { libc::_exit(crate::CANNOT_RUN.into()) };
        }
    }
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESTART | SaFlags::SA_NOCLDSTOP;
    let action = SigAction::new(SigHandler::SigAction(child_ended), flags, SigSet::empty());
    // SAFETY: the handler does nothing but what handlers may do.
    unsafe { sigaction(Signal::SIGCHLD, &action) }.map(|_| ())
}

impl From<File> for Report {
    fn from(file: File) -> Self {
        Self(Arc::new(file))
    }
}

impl AsFd for Report {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Docker's exit code for a program that could not be executed, and why it could not.
fn explain(program: &str, error: &io::Error, exists: bool) -> (u8, String) {
    let (code, why) = match error.kind() {
        io::ErrorKind::NotFound if !program.contains('/') => {
            (127, "no such program in the container's $PATH".into())
        }
        io::ErrorKind::NotFound if exists => {
            (127, "it is there, but the interpreter or loader that it names is not".into())
        }
        io::ErrorKind::NotFound => (127, "no such file in the image".into()),
        io::ErrorKind::PermissionDenied => (126, "it is not executable by the container's user".into()),
        _ => (126, error.to_string()),
    };
    (code, format!("cannot execute {program}: {why}"))
}

/// What the lines of a whole report mean.
fn understand(report: &str) -> Result<Pid, CreateError> {
    let (mut container, mut cause) = (None, None);
    for line in report.lines() {
        match line.split_once(' ') {
            Some(("pid", pid)) => container = pid.parse().ok().map(Pid::from_raw),
            Some(("refused", rest)) => {
                let (code, reason) = rest.split_once(' ').unwrap_or((rest, "no reason given"));
                let code = code.parse().unwrap_or(crate::CANNOT_RUN);
                let cause = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
                return Err(CreateError::Refused { code, reason: format!("{reason}{cause}") });
            }
            Some(("damaged", reason)) => return Err(CreateError::Damaged { reason: reason.to_owned() }),
            Some(("cause", text)) => cause = cause.or(Some(text)),
            _ => {}
        }
    }
    container.ok_or(CreateError::Silent)
}

#[cfg(test)]
mod tests {
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::signal::kill;
    use nix::sys::wait::waitpid;
    use nix::unistd::{ForkResult, fork, getpid, getppid, pause};

    use super::*;

    #[test]
    fn a_report_says_that_it_runs_or_why_it_does_not() {
        assert!(matches!(understand("pid 7\n"), Ok(pid) if pid.as_raw() == 7));
        for (report, code, reason) in [
            ("refused 125 no cgroup\n", 125, "no cgroup"),
            ("cause EROFS\ncause later\nrefused 125 no cgroup\n", 125, "no cgroup (EROFS)"),
            ("pid 7\nrefused 127 cannot execute /x\n", 127, "cannot execute /x"),
        ] {
            match understand(report) {
                Err(CreateError::Refused { code: c, reason: r }) => {
                    assert_eq!((c, r.as_str()), (code, reason))
                }
                other => panic!("{report:?}: {other:?}"),
            }
        }
        let damaged = understand("pid 7\ndamaged cannot execute /x: I/O error\n");
        assert!(matches!(damaged, Err(CreateError::Damaged { reason }) if reason.ends_with("I/O error")));
        assert!(matches!(understand(""), Err(CreateError::Silent)));
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_named_with_the_reason() {
        for (program, errno, exists, code, reason) in [
            ("nginx", 2, false, 127, "cannot execute nginx: no such program in the container's $PATH"),
            ("/x", 2, false, 127, "cannot execute /x: no such file in the image"),
            (
                "/x",
                2,
                true,
                127,
                "cannot execute /x: it is there, but the interpreter or loader that it names is not",
            ),
            ("/x", 13, true, 126, "cannot execute /x: it is not executable by the container's user"),
            ("/x", 8, true, 126, "cannot execute /x: Exec format error (os error 8)"),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(explain(program, &error, exists), (code, reason.to_owned()));
        }
    }

    #[test]
    fn whoever_is_killed_ends_the_wait_for_all() {
        for creator_is_killed in [true, false] {
            let (hearer, report) = pipe().unwrap();
            // SAFETY: the children make nothing but system calls.
            let ForkResult::Parent { child: creator } = unsafe { fork() }.unwrap() else {
                end_with_the_killed().unwrap();
                // SAFETY: as above.
                if unsafe { fork() }.unwrap().is_child() {
                    // It holds the pipe open for as long as there is a creator.
                    set_pdeathsig(Signal::SIGKILL).unwrap();
                    report.pid(getpid().as_raw());
                    kill(if creator_is_killed { getppid() } else { getpid() }, Signal::SIGKILL).unwrap();
                }
                loop {
                    pause();
                }
            };
            drop(report);
            assert!(matches!(hearer.hear(creator), Err(CreateError::Killed)), "{creator_is_killed}");
            waitpid(creator, None).unwrap();
        }
    }
}
