//! Starting programs and learning of their end.
//!
//! [`spawn`] does what [`std::process::Command`] cannot: the child is born in its cgroup and the caller gets its
//! pidfd with it, so that there is no moment in which it is somewhere else or could be mistaken for another process.

use std::ffi::{CString, OsStr, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::WaitOptions;

/// What to start, and how.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// The program's file, absolute.
    pub program: &'a Path,
    /// Its arguments, without its own name.
    pub args: &'a [&'a OsStr],
    /// Its whole environment; nothing is inherited.
    pub env: &'a [(&'a str, &'a str)],
    /// The cgroup it starts in: its directory, opened.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Its standard input, output and error; `None` is the caller's.
    pub stdio: [Option<BorrowedFd<'a>>; 3],
}

/// A child that runs.
#[derive(Debug)]
pub struct Child {
    /// Its process id, valid until it is reaped.
    pub pid: i32,
    /// Its pidfd: readable when it has ended.
    pub pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code as a shell gives it: 128 and the signal's number for a process that was killed.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// How long [`spawn`] waits to hear that the program could not be executed. Executing takes some milliseconds; the
/// limit is there because PID 1 must not wait for a disk that does not answer.
const EXEC_LIMIT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// From linux/sched.h; the constant of the libc crate is cut to 32 bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Starts a program in a session of its own, in `/`, with no signal blocked or ignored.
///
/// An error is the one of the fork or of the exec: nothing runs then, and the child that tried is left for the
/// caller's reaper. Must be called from a single-threaded process.
pub fn spawn(spawn: &Spawn<'_>) -> io::Result<Child> {
    let c_string = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput);
    let program = c_string(spawn.program.as_os_str().as_bytes())?;
    let args = spawn.args.iter().map(|arg| c_string(arg.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let env = spawn.env.iter().map(|(k, v)| c_string(format!("{k}={v}").as_bytes()));
    let env = env.collect::<Result<Vec<_>, _>>()?;
    let mut argv = vec![program.as_ptr()];
    argv.extend(args.iter().map(|arg| arg.as_ptr()));
    argv.push(ptr::null());
    let mut envp: Vec<*const c_char> = env.iter().map(|var| var.as_ptr()).collect();
    envp.push(ptr::null());
    let (failure, report) = pipe_with(PipeFlags::CLOEXEC)?;

    let mut pidfd = -1_i32;
    // SAFETY: clone_args is a C struct of integers, for which all zeroes is the documented default.
    let mut clone: libc::clone_args = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_sign_loss, reason = "flags and descriptors are bit patterns and never negative")]
    {
        clone.flags = libc::CLONE_PIDFD as u64;
        clone.exit_signal = libc::SIGCHLD as u64;
        if let Some(cgroup) = spawn.cgroup {
            clone.flags |= CLONE_INTO_CGROUP;
            clone.cgroup = cgroup.as_raw_fd() as u64;
        }
    }
    clone.pidfd = (&raw mut pidfd) as u64;
    // SAFETY: the arguments are valid for the call; without CLONE_VM the child has its own copy of the memory, and
    // below it makes nothing but plain system calls on values made before.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut clone, size_of::<libc::clone_args>()) };
    match pid {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: this is the child of the fork above; argv and envp end with a null pointer and outlive it.
            unsafe { exec(spawn, &argv, &envp, report.as_raw_fd()) }
        }
        _ => drop(report),
    }
    // SAFETY: clone3 has stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidData)?;
    match failed(&failure)? {
        Some(error) => Err(error),
        None => Ok(Child { pid, pidfd }),
    }
}

/// The child's report: an error number when exec failed, nothing when its end of the pipe closed by exec.
fn failed(failure: &OwnedFd) -> io::Result<Option<io::Error>> {
    let mut ready = [PollFd::new(failure, PollFlags::IN)];
    if poll(&mut ready, Some(&EXEC_LIMIT))? == 0 {
        return Ok(None);
    }
    let mut errno = [0; 4];
    let read = rustix::io::read(failure, &mut errno)?;
    Ok((read == errno.len()).then(|| io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
}

/// The child's part of [`spawn`].
///
/// # Safety
/// To be called only in a child that shares no memory with its parent, with null-terminated arrays.
unsafe fn exec(spawn: &Spawn<'_>, argv: &[*const c_char], envp: &[*const c_char], report: i32) -> ! {
    // SAFETY: every call takes plain values or pointers that are valid here, and is async-signal-safe.
    unsafe {
        libc::setsid();
        for (target, fd) in (0..).zip(spawn.stdio) {
            // dup2 of a descriptor to itself would leave it close-on-exec: init keeps 0 to 2 for /dev/null.
            if let Some(fd) = fd
                && libc::dup2(fd.as_raw_fd(), target) < 0
            {
                die(report);
            }
        }
        // Exec resets what is handled; the one signal that Rust programs ignore would stay ignored.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::chdir(c"/".as_ptr());
        libc::execve(argv[0], argv.as_ptr(), envp.as_ptr());
        die(report)
    }
}

/// Ends the child with the last error as its report.
///
/// # Safety
/// As for [`exec`].
unsafe fn die(report: i32) -> ! {
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
    // SAFETY: errno is valid for its length.
    unsafe {
        libc::write(report, errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
    }
}

/// Reaps one child that has ended, whichever it is: its process id and how it ended, `None` when none has.
///
/// Only one place of a process may call this, or they take each other's children.
pub fn reap() -> io::Result<Option<(i32, Exit)>> {
    let ended = match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(ended) => ended,
        Err(rustix::io::Errno::CHILD) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(ended.map(|(pid, status)| {
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(libc::SIGKILL)),
        };
        (pid.as_raw_nonzero().get(), exit)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(child: &Child) -> Exit {
        let pid = rustix::process::Pid::from_raw(child.pid);
        let status = rustix::process::waitpid(pid, WaitOptions::empty()).unwrap().unwrap().1;
        status.exit_status().map_or_else(|| Exit::Signal(status.terminating_signal().unwrap()), Exit::Code)
    }

    fn start(program: &str, args: &[&str], env: &[(&str, &str)]) -> io::Result<Child> {
        let args: Vec<_> = args.iter().map(OsStr::new).collect();
        spawn(&Spawn { program: Path::new(program), args: &args, env, cgroup: None, stdio: [None; 3] })
    }

    #[test]
    fn a_program_runs_with_the_given_arguments_and_environment_only() {
        let script = "test \"$A\" = b && test -z \"$HOME\" && test $PWD = / && exit 7";
        let child = start("/bin/sh", &["-c", script], &[("A", "b")]).unwrap();
        assert_eq!(wait(&child), Exit::Code(7));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = start("/nowhere/program", &[], &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_killed_child_tells_its_signal() {
        let child = start("/bin/sh", &["-c", "kill -TERM $$"], &[]).unwrap();
        assert_eq!(wait(&child), Exit::Signal(libc::SIGTERM));
        assert_eq!(wait_code(Exit::Signal(libc::SIGTERM)), 143);
    }

    fn wait_code(exit: Exit) -> i32 {
        exit.code()
    }
}
