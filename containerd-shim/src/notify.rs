//! What the container's program says of itself: sd_notify(3), heard at a socket in the container.
//!
//! `READY=1` makes it healthy. With a watchdog it must say `WATCHDOG=1` so often from then on; when it does not, or says
//! `WATCHDOG=trigger`, it is unhealthy, and ended.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use plan::ServiceName;
use plan::container::Notify;
use sd_notify::NotifyState;
use sys::kmsg::{self, Level};

use crate::probe::Verdict;

/// The longest message that is understood: what programs say is short.
const LONGEST: usize = 4096;

/// The socket, and what was said.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixDatagram,
    name: ServiceName,
    watchdog: Option<Duration>,
    /// The last word that it works; none before it is ready.
    alive: Option<Instant>,
    /// It was frozen when it was looked at last.
    paused: bool,
}

impl Listener {
    /// Makes the socket where `config.json` mounts it from.
    pub(crate) fn listen(path: &Path, name: &ServiceName, notify: &Notify) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let socket = UnixDatagram::bind(path)?;
        // For whoever the program runs as.
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        socket.set_nonblocking(true)?;
        let watchdog = notify.watchdog_ms.map(Duration::from_millis);
        Ok(Self { socket, name: name.clone(), watchdog, alive: None, paused: false })
    }

    /// Readable when something was said.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hears what was said, and gives the time until something must have been. A frozen program says nothing.
    pub(crate) fn turn(&mut self, paused: bool) -> (Option<Duration>, Verdict) {
        let mut triggered = false;
        let mut buffer = [0; LONGEST];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            for line in buffer[..length].split(|byte| *byte == b'\n') {
                match line {
                    b"READY=1" => self.ready(),
                    b"WATCHDOG=1" => self.alive = self.alive.map(|_| Instant::now()),
                    b"WATCHDOG=trigger" => triggered = true,
                    _ => {}
                }
            }
        }
        if self.paused && !paused {
            self.alive = self.alive.map(|_| Instant::now());
        }
        self.paused = paused;
        let Some((watchdog, alive)) = self.watchdog.zip(self.alive) else { return (None, Verdict::Stays) };
        let left = watchdog.saturating_sub(alive.elapsed());
        if paused {
            return (None, Verdict::Stays);
        }
        if triggered || left.is_zero() {
            self.alive = None;
            self.unhealthy(watchdog, triggered);
            return (None, Verdict::Ends);
        }
        (Some(left), Verdict::Stays)
    }

    fn ready(&mut self) {
        let first = self.alive.is_none();
        self.alive = Some(Instant::now());
        if first {
            crate::run::notify(&self.name, &[NotifyState::Custom("X_HOLDFAST_HEALTH=healthy")]);
        }
    }

    fn unhealthy(&self, watchdog: Duration, triggered: bool) {
        let status = if triggered {
            "unhealthy: it says so itself (WATCHDOG=trigger)".to_owned()
        } else {
            format!("unhealthy: no WATCHDOG=1 for {} ms", watchdog.as_millis())
        };
        kmsg::write(Level::Warning, &format!("holdfast: service {} {status}", self.name));
        let state = [NotifyState::Custom("X_HOLDFAST_HEALTH=unhealthy"), NotifyState::Status(&status)];
        crate::run::notify(&self.name, &state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(watchdog_ms: Option<u64>) -> (tempfile::TempDir, Listener, UnixDatagram) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("files/notify.sock");
        let name = ServiceName::new("web").unwrap();
        let listener = Listener::listen(&path, &name, &Notify { watchdog_ms }).unwrap();
        let program = UnixDatagram::unbound().unwrap();
        program.connect(&path).unwrap();
        (directory, listener, program)
    }

    #[test]
    fn without_a_watchdog_nothing_is_waited_for() {
        let (_directory, mut listener, program) = listener(None);
        assert_eq!(listener.turn(false), (None, Verdict::Stays));
        program.send(b"STATUS=warm\nREADY=1\n").unwrap();
        assert_eq!(listener.turn(false), (None, Verdict::Stays));
        assert!(listener.alive.is_some());
    }

    #[test]
    fn a_watchdog_begins_with_readiness_and_ends_what_falls_silent() {
        let (_directory, mut listener, program) = listener(Some(60_000));
        program.send(b"WATCHDOG=1").unwrap();
        assert_eq!(listener.turn(false), (None, Verdict::Stays), "it is not ready");
        program.send(b"READY=1").unwrap();
        assert!(
            matches!(listener.turn(false), (Some(left), Verdict::Stays) if left <= Duration::from_secs(60))
        );
        listener.watchdog = Some(Duration::ZERO);
        assert_eq!(listener.turn(true), (None, Verdict::Stays), "it is frozen");
        assert_eq!(listener.turn(false), (None, Verdict::Ends));
        assert_eq!(listener.turn(false), (None, Verdict::Stays), "it is ended once");
    }

    #[test]
    fn a_program_may_give_itself_up() {
        let (_directory, mut listener, program) = listener(Some(60_000));
        program.send(b"READY=1").unwrap();
        program.send(b"WATCHDOG=trigger").unwrap();
        assert_eq!(listener.turn(false), (None, Verdict::Ends));
    }
}
