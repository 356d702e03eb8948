//! The health check of the running container: executes it, ends it when it takes too long, and tells PID 1 what came of it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use plan::ServiceName;
use plan::container::HealthCheck;
use sd_notify::NotifyState;
use sys::kmsg::{self, Level};
use sys::process::Exit;

use crate::exec::{Container, Program, Stdio};
use crate::health::{Due, Health};

/// What follows for the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Stays,
    /// It is unhealthy, and is to be ended for that.
    Ends,
}

/// The check, and the one process of it that may run.
#[derive(Debug)]
pub(crate) struct Probe {
    container: Rc<Container>,
    program: Program,
    check: HealthCheck,
    health: Health,
    name: ServiceName,
    start: Instant,
    running: Option<Pid>,
}

impl Probe {
    /// Of a container that has just been started.
    pub(crate) fn new(container: Rc<Container>, check: &HealthCheck, name: &ServiceName) -> Self {
        let health = Health::new(check, Duration::ZERO);
        Self {
            container,
            program: Program { args: check.test.clone(), env: None, cwd: None },
            check: check.clone(),
            health,
            name: name.clone(),
            start: Instant::now(),
            running: None,
        }
    }

    /// Does what is due, and gives the time until something is due again.
    pub(crate) fn turn(&mut self) -> (Duration, Verdict) {
        let mut verdict = Verdict::Stays;
        loop {
            let now = self.start.elapsed();
            match self.health.due(now) {
                Due::At(next) => return (next.saturating_sub(now), verdict),
                Due::Start => {
                    self.health.began(now);
                    match Stdio::null().and_then(|stdio| self.container.exec(&self.program, &stdio)) {
                        Ok(pid) => self.running = Some(pid),
                        Err(error) => verdict = self.ended(false, &format!("cannot be executed: {error}")),
                    }
                }
                Due::End => {
                    if let Some(pid) = self.running {
                        // Its whole group. In the moment before it has one, and when it left it, at least itself.
                        killpg(pid, Signal::SIGKILL).unwrap_or(());
                        kill(pid, Signal::SIGKILL).unwrap_or(());
                    }
                    self.health.killed();
                }
            }
        }
    }

    /// A process was reaped: maybe the check.
    pub(crate) fn reaped(&mut self, pid: i32, exit: Exit) -> Verdict {
        if self.running.is_none_or(|running| running.as_raw() != pid) {
            return Verdict::Stays;
        }
        self.running = None;
        match exit {
            Exit::Code(code) => self.ended(code == 0, &format!("ended with {code}")),
            Exit::Signal(signal) => self.ended(false, &format!("was ended by signal {signal}")),
        }
    }

    fn ended(&mut self, passed: bool, how: &str) -> Verdict {
        let Some(healthy) = self.health.ended(passed, self.start.elapsed()) else { return Verdict::Stays };
        let word = if healthy { "healthy" } else { "unhealthy" };
        let health = format!("X_HOLDFAST_HEALTH={word}");
        let mut state = vec![NotifyState::Custom(&health)];
        let status =
            format!("unhealthy: {} checks in a row failed, the last one {how}", self.health.failures());
        if !healthy {
            kmsg::write(Level::Warning, &format!("holdfast: service {} {status}", self.name));
            state.push(NotifyState::Status(&status));
        }
        crate::run::notify(&self.name, &state);
        if !healthy && self.check.restart { Verdict::Ends } else { Verdict::Stays }
    }
}
