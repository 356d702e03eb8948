//! One unit: its state, and what each event does to it. What depends on other units is the supervisor's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use plan::{Condition, Replaced, Restart, Service, ServiceName};
use sys::kmsg::Level;
use sys::process::Exit;

use super::{Action, Id, KILL_LIMIT, START_LIMIT, View, WATCHDOG_LIMIT};

/// The wait before the second restart in a row (the first is immediate); it doubles from then on, as docker's does.
const BACK_OFF: Duration = Duration::from_millis(100);
/// The longest wait before a restart.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// Running for so long ends a row of restarts: docker's value.
const STEADY: Duration = Duration::from_secs(10);
/// How long the agent may take to end when it is asked to.
const AGENT_STOP: Duration = Duration::from_secs(5);
/// The longest text that is kept of what a unit says of itself.
const STATUS_MAX: usize = 400;

/// What a unit is.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) bundle: PathBuf,
    pub(super) digest: String,
    restart: Restart,
    pub(super) depends_on: BTreeMap<ServiceName, Condition>,
    pub(super) network: bool,
    pub(super) machine: bool,
    stop_timeout: Duration,
    start_limit: Option<Duration>,
    pub(super) required: bool,
    pub(super) replaces: Option<Replaced>,
}

impl Spec {
    pub(super) fn agent() -> Self {
        Self {
            bundle: PathBuf::new(),
            digest: String::new(),
            restart: Restart::Always,
            depends_on: BTreeMap::new(),
            network: false,
            machine: false,
            stop_timeout: AGENT_STOP,
            start_limit: None,
            required: false,
            replaces: None,
        }
    }

    pub(super) fn service(service: Service) -> Self {
        Self {
            bundle: service.bundle,
            digest: service.digest,
            restart: service.restart,
            depends_on: service.depends_on,
            network: service.needs.network,
            machine: service.needs.machine,
            stop_timeout: Duration::from_millis(service.stop_timeout_ms),
            start_limit: Some(START_LIMIT),
            required: service.required,
            replaces: service.replaces,
        }
    }
}

/// Where a unit is heading.
#[derive(Debug)]
pub(super) enum Goal {
    Up,
    Down,
    Replace(Box<Spec>),
}

/// Who takes the place of a unit, and when that one counts as working.
#[derive(Clone, Debug)]
pub(super) struct Successor {
    pub(super) id: Id,
    pub(super) when: Condition,
}

/// The states of the table in the parent module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Starting,
    Running {
        healthy: Option<bool>,
    },
    Stopping {
        kill_at: Duration,
    },
    /// Its cgroup was killed while its process had not been reaped.
    Killed,
    Ending {
        exit: Exit,
    },
    BackingOff {
        until: Duration,
    },
    Exited,
    Failed,
    Stopped,
}

/// A unit and its history.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) spec: Spec,
    pub(super) goal: Goal,
    /// It is no longer in the plan, and runs until this one works.
    pub(super) successor: Option<Successor>,
    pub(super) phase: Phase,
    /// Since when it is in this phase.
    pub(super) since: Duration,
    /// Whether its container has run since its specification changed.
    pub(super) started: bool,
    /// When it last said `WATCHDOG=1`.
    pub(super) alive: Option<Duration>,
    pub(super) status: String,
    restarts: u32,
    /// Restarts in a row without steady running between them.
    in_a_row: u32,
    exit: Option<i32>,
}

impl Unit {
    pub(super) fn new(spec: Spec, now: Duration) -> Self {
        Self {
            spec,
            goal: Goal::Up,
            successor: None,
            phase: Phase::Waiting,
            since: now,
            started: false,
            alive: None,
            status: String::new(),
            restarts: 0,
            in_a_row: 0,
            exit: None,
        }
    }

    /// Whether a process of it may exist.
    pub(super) fn is_active(&self) -> bool {
        use Phase::{Ending, Killed, Running, Starting, Stopping};
        matches!(self.phase, Starting | Running { .. } | Stopping { .. } | Killed | Ending { .. })
    }

    /// Whether it is too late to let it run on.
    pub(super) fn is_ending_for_good(&self) -> bool {
        !matches!(self.goal, Goal::Up) && !matches!(self.phase, Phase::Starting | Phase::Running { .. })
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.phase == Phase::Running { healthy: Some(true) }
    }

    /// Since when the health gate has nothing against it.
    pub(super) fn good_since(&self) -> Option<Duration> {
        match self.phase {
            Phase::Running { healthy: None | Some(true) } => Some(self.since),
            Phase::Exited => Some(Duration::ZERO),
            _ => None,
        }
    }

    /// When it has worked for long enough to take another one's place, as things are.
    pub(super) fn works_at(&self, when: Condition) -> Option<Duration> {
        let ends = !matches!(self.goal, Goal::Up);
        match (self.phase, when) {
            _ if ends => None,
            (Phase::Running { healthy: Some(true) } | Phase::Exited, _) => Some(self.since),
            (Phase::Running { healthy: None }, Condition::ServiceStarted) => Some(self.since + STEADY),
            _ => None,
        }
    }

    pub(super) fn start(&mut self, id: &Id, now: Duration, actions: &mut Vec<Action>) {
        self.enter(Phase::Starting, now);
        self.alive = None;
        self.status.clear();
        self.say(id, Level::Notice, "starting", actions);
        actions.push(Action::Start(id.clone()));
    }

    pub(super) fn ready(&mut self, id: &Id, now: Duration, actions: &mut Vec<Action>) {
        if self.phase == Phase::Starting {
            self.enter(Phase::Running { healthy: None }, now);
            self.started = true;
            self.say(id, Level::Notice, "running", actions);
        }
    }

    pub(super) fn health(&mut self, id: &Id, healthy: bool, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Running { healthy: before } = self.phase else { return };
        if before != Some(healthy) {
            self.enter(Phase::Running { healthy: Some(healthy) }, now);
            let (level, word) =
                if healthy { (Level::Notice, "healthy") } else { (Level::Warning, "unhealthy") };
            self.say(id, level, word, actions);
        }
    }

    /// Its process has ended: whatever is left in its cgroup goes as well.
    pub(super) fn exited(&mut self, id: &Id, exit: Exit, now: Duration, actions: &mut Vec<Action>) {
        if !self.is_active() || matches!(self.phase, Phase::Ending { .. }) {
            return;
        }
        if matches!(self.phase, Phase::Running { .. }) && now >= self.since + STEADY {
            self.in_a_row = 0;
        }
        self.exit = Some(exit.code());
        self.enter(Phase::Ending { exit }, now);
        if matches!(self.goal, Goal::Up) {
            let level = if exit.code() == 0 { Level::Notice } else { Level::Warning };
            self.say(id, level, "exited", actions);
        }
        actions.push(Action::Kill(id.clone()));
    }

    /// Nothing of it is left.
    pub(super) fn ended(&mut self, id: &Id, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Ending { exit } = self.phase else { return };
        if !matches!(self.goal, Goal::Up) {
            self.enter(Phase::Stopped, now);
            self.say(id, Level::Notice, "stopped", actions);
            return;
        }
        if self.restarts_after(exit) {
            let until = now + back_off(self.in_a_row);
            self.in_a_row = self.in_a_row.saturating_add(1);
            self.restarts = self.restarts.saturating_add(1);
            self.enter(Phase::BackingOff { until }, now);
        } else if exit == Exit::Code(0) {
            self.enter(Phase::Exited, now);
        } else {
            self.enter(Phase::Failed, now);
            self.say(id, Level::Error, "failed", actions);
        }
    }

    /// Does what has become due.
    pub(super) fn timers(&mut self, id: &Id, now: Duration, shutdown: bool, actions: &mut Vec<Action>) {
        if self.deadline(shutdown).is_none_or(|due| now < due) {
            return;
        }
        match self.phase {
            Phase::BackingOff { .. } if matches!(self.goal, Goal::Up) => self.start(id, now, actions),
            Phase::Starting | Phase::Running { .. } | Phase::Stopping { .. } => {
                let why = match self.phase {
                    Phase::Stopping { .. } => "did not stop in time",
                    Phase::Starting if self.alive.is_none() => "did not start in time",
                    _ => "does not answer",
                };
                actions.push(Action::Say(Level::Warning, format!("{id} {why}: killed")));
                self.enter(Phase::Killed, now);
                actions.push(Action::Kill(id.clone()));
            }
            Phase::Killed | Phase::Ending { .. } => {
                actions.push(Action::Say(Level::Error, format!("{id} cannot be killed: left behind")));
                self.enter(Phase::Stopped, now);
            }
            _ => {}
        }
    }

    /// When `timers` has something to do.
    pub(super) fn deadline(&self, shutdown: bool) -> Option<Duration> {
        let watchdog = self.alive.map(|alive| alive + WATCHDOG_LIMIT);
        match self.phase {
            Phase::BackingOff { until } => Some(until),
            Phase::Starting => {
                let start = self.spec.start_limit.map(|limit| self.since + limit);
                start.into_iter().chain(watchdog).min()
            }
            Phase::Running { .. } => watchdog,
            Phase::Stopping { kill_at } => Some(kill_at),
            Phase::Killed | Phase::Ending { .. } if shutdown => Some(self.since + KILL_LIMIT),
            _ => None,
        }
    }

    /// Asks it to end, if it has not been asked yet.
    pub(super) fn stop(&mut self, id: &Id, now: Duration, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Starting | Phase::Running { .. }) {
            self.enter(Phase::Stopping { kill_at: now.saturating_add(self.spec.stop_timeout) }, now);
            actions.push(Action::Terminate(id.clone()));
        }
    }

    /// Carries out its goal once nothing of it runs; false when the unit is gone.
    pub(super) fn settle_goal(
        &mut self,
        id: &Id,
        shutdown: bool,
        now: Duration,
        actions: &mut Vec<Action>,
    ) -> bool {
        if self.is_active() {
            return true;
        }
        match std::mem::replace(&mut self.goal, Goal::Up) {
            Goal::Up => {}
            Goal::Replace(spec) => *self = Self::new(*spec, now),
            Goal::Down if shutdown => {
                self.goal = Goal::Down;
                if matches!(self.phase, Phase::Waiting | Phase::BackingOff { .. }) {
                    self.enter(Phase::Stopped, now);
                    self.say(id, Level::Notice, "stopped", actions);
                }
            }
            Goal::Down => return false,
        }
        true
    }

    pub(super) fn view(&self) -> View<'_> {
        let state = match self.phase {
            Phase::Waiting => "waiting",
            Phase::Starting => "starting",
            Phase::Running { healthy: None } => "running",
            Phase::Running { healthy: Some(true) } => "healthy",
            Phase::Running { healthy: Some(false) } => "unhealthy",
            Phase::Stopping { .. } => "stopping",
            Phase::Killed | Phase::Ending { .. } => "ending",
            Phase::BackingOff { .. } => "backing-off",
            Phase::Exited => "exited",
            Phase::Failed => "failed",
            Phase::Stopped => "stopped",
        };
        let status = self.status.get(..self.status.floor_char_boundary(STATUS_MAX)).unwrap_or_default();
        View { state, since: self.since, restarts: self.restarts, exit: self.exit, status }
    }

    fn restarts_after(&self, exit: Exit) -> bool {
        match (exit, self.spec.restart) {
            (Exit::Signal(_), _) | (_, Restart::Always | Restart::UnlessStopped) => true,
            (_, Restart::No) => false,
            (Exit::Code(code), Restart::OnFailure { max }) => {
                code != 0 && max.is_none_or(|max| self.in_a_row < max)
            }
        }
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        self.phase = phase;
        self.since = now;
    }

    /// The console's fixed form: `service NAME WORD [exit=N] [restarts=N]`.
    fn say(&self, id: &Id, level: Level, word: &str, actions: &mut Vec<Action>) {
        let mut line = format!("{id} {word}");
        if let Some(exit) = self.exit
            && matches!(word, "exited" | "failed" | "stopped")
        {
            line.push_str(&format!(" exit={exit}"));
        }
        if self.restarts > 0 {
            line.push_str(&format!(" restarts={}", self.restarts));
        }
        actions.push(Action::Say(level, line));
    }
}

/// The wait before a restart that follows `in_a_row` others.
fn back_off(in_a_row: u32) -> Duration {
    match in_a_row {
        0 => Duration::ZERO,
        n => 1_u32
            .checked_shl(n - 1)
            .map_or(BACK_OFF_MAX, |times| BACK_OFF.saturating_mul(times).min(BACK_OFF_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<_> = (0..14).map(|n| back_off(n).as_millis()).collect();
        assert_eq!(
            waits,
            [0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000, 60000]
        );
        assert_eq!(back_off(u32::MAX), BACK_OFF_MAX);
    }
}
