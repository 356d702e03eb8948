//! Signals as something to read in an event loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Numbers of the signals that PID 1 listens to.
pub use libc::{SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGPWR, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

/// One signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// The process that sent it; 0 for the kernel.
    pub sender: u32,
}

/// A queue of signals, readable when one has arrived; never blocks.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks `signals` in this thread and takes them over. Call it before there are other threads.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: the set is initialised by sigemptyset before it is used, and valid for each call.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for &signal in signals {
                libc::sigaddset(&raw mut set, signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd has just made it, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal, `None` when there is none left.
    pub fn read(&self) -> io::Result<Option<Signal>> {
        // SAFETY: a C struct of integers, for which all zeroes is valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: the buffer is valid for its size, and any bytes the kernel writes make a valid struct.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
        if usize::try_from(read) == Ok(size) {
            return Ok(Some(Signal { number: info.ssi_signo.cast_signed(), sender: info.ssi_pid }));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_once() {
        let signals = SignalFd::new(&[SIGUSR1]).unwrap();
        assert_eq!(signals.read().unwrap(), None);
        // SAFETY: raises a blocked signal for this thread.
        unsafe { libc::raise(SIGUSR1) };
        assert_eq!(signals.read().unwrap().map(|s| s.number), Some(SIGUSR1));
        assert_eq!(signals.read().unwrap(), None);
    }
}
