//! The supervisor: what to start, stop and restart, and when. No clock and no I/O: `step(event, now) -> actions`.
//!
//! A *unit* is the agent or a service: one process that PID 1 started, and the cgroup with everything below it.
//!
//! | state | meaning | leaves it |
//! |---|---|---|
//! | waiting | to be started as soon as what it depends on and needs is there | that is there |
//! | starting | its process runs, its container does not yet | `READY=1`; exit; [`START_LIMIT`] |
//! | running, healthy, unhealthy | its container runs; the latter two when it has a health check | exit |
//! | stopping | it was asked to end; after its stop time-out the cgroup is killed | exit |
//! | ending | its process has ended; the cgroup is killed and not yet empty | the cgroup is empty |
//! | backing-off | it has ended and is to be started again at a certain time | that time |
//! | exited, failed | it has ended, with code 0 or not, and its restart policy says to leave it | another plan |
//! | stopped | it was stopped because the machine shuts down | never |
//!
//! Whatever way a process ends, its cgroup is killed and seen empty before anything else happens to the unit: a
//! second container of a service never runs beside the remains of the first. A service whose process was killed by a
//! signal lost its shim, not its container's own exit: it is started again whatever its restart policy.
//!
//! A unit's *goal* says where it is heading: up, down (gone from the plan, or shutdown), or replaced by another
//! specification. Units go down in the reverse order of their dependencies, the agent last. One whose place another one
//! takes goes down when that one works, and until then is kept up as if it were in the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use plan::{Condition, Gate, Plan, ServiceName};
use sys::kmsg::Level;
use sys::process::Exit;

mod unit;

#[cfg(test)]
mod tests;

use unit::{Goal, Phase, Spec, Successor, Unit};

/// How long a shim may take until its container runs: mounting and verifying layers is slow on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long services wait for the agent's word that the machine is what the configuration says.
const MACHINE_LIMIT: Duration = Duration::from_secs(30);
/// How long services wait for the agent's word on the network.
const NETWORK_LIMIT: Duration = Duration::from_secs(30);
/// How long a unit that sends `WATCHDOG=1` may stay silent after it.
pub(crate) const WATCHDOG_LIMIT: Duration = Duration::from_secs(60);
/// How long a shutdown waits for processes that were killed: one stuck in the kernel must not hold it for ever.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What is supervised. The agent comes first in every order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Id {
    /// `holdfastd`.
    Agent,
    /// A service of the plan.
    Service(ServiceName),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("agent"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}

/// What has happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// From now on this is to run.
    Plan(Plan),
    /// The agent is to run.
    Agent,
    /// A unit could not be started.
    NotStarted(Id, String),
    /// A unit says `READY=1`.
    Ready(Id),
    /// A unit's health check has passed, or failed for good.
    Health(Id, bool),
    /// A unit says `WATCHDOG=1`.
    Alive(Id),
    /// A unit describes itself.
    Status(Id, String),
    /// A unit's process was reaped.
    Exited(Id, Exit),
    /// After [`Action::Kill`]: nothing is left in the unit's cgroup.
    Empty(Id),
    /// The agent has made the machine what the configuration says: its files, its mounts.
    Machine,
    /// The agent has brought up the network, or has given up.
    Network,
    /// Stop everything.
    Shutdown,
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start its process; answer with `NotStarted` when that fails.
    Start(Id),
    /// Send its process SIGTERM.
    Terminate(Id),
    /// Kill its cgroup; answer with `Empty` as soon as nothing is left, also when there was nothing.
    Kill(Id),
    /// Put a line on the console.
    Say(Level, String),
}

/// What can be told of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View<'a> {
    /// Its state, as in the table above.
    pub(crate) state: &'static str,
    /// Since when, after boot.
    pub(crate) since: Duration,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// How it ended the last time.
    pub(crate) exit: Option<i32>,
    /// What it says of itself, or waits for.
    pub(crate) status: &'a str,
}

/// The state of everything that is supervised.
#[derive(Debug)]
pub(crate) struct Supervisor {
    units: BTreeMap<Id, Unit>,
    generation: Option<u64>,
    gate: Gate,
    /// When services stop waiting for the network; none when it has been reported.
    network_limit: Option<Duration>,
    /// The same for the machine itself.
    machine_limit: Option<Duration>,
    shutdown: bool,
}

impl Supervisor {
    /// Nothing runs yet.
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            units: BTreeMap::new(),
            generation: None,
            gate: Gate::default(),
            network_limit: Some(now + NETWORK_LIMIT),
            machine_limit: Some(now + MACHINE_LIMIT),
            shutdown: false,
        }
    }

    /// Takes one event and says what follows from it at this time.
    pub(crate) fn step(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Plan(plan) => self.apply(plan, now),
            Event::Agent if !self.shutdown => {
                self.units.entry(Id::Agent).or_insert_with(|| Unit::new(Spec::agent(), now));
            }
            Event::Machine => self.machine_limit = None,
            Event::Network => self.network_limit = None,
            Event::Shutdown => {
                self.shutdown = true;
                self.units.values_mut().for_each(|unit| unit.goal = Goal::Down);
            }
            Event::Agent | Event::Tick => {}
            Event::NotStarted(id, why) => {
                self.with(&id, |unit| {
                    actions.push(Action::Say(Level::Error, format!("{id} cannot be started: {why}")));
                    unit.status = why;
                    unit.exited(&id, Exit::Code(125), now, &mut actions);
                });
            }
            Event::Ready(id) => self.with(&id, |unit| unit.ready(&id, now, &mut actions)),
            Event::Health(id, healthy) => {
                self.with(&id, |unit| unit.health(&id, healthy, now, &mut actions));
            }
            Event::Alive(id) => self.with(&id, |unit| unit.alive = Some(now)),
            Event::Status(id, text) => self.with(&id, |unit| unit.status = text),
            Event::Exited(id, exit) => self.with(&id, |unit| unit.exited(&id, exit, now, &mut actions)),
            Event::Empty(id) => self.with(&id, |unit| unit.ended(&id, now, &mut actions)),
        }
        while self.pass(now, &mut actions) {}
        actions
    }

    /// When `step` has something to do even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let network =
            self.network_limit.filter(|_| self.units.values().any(|unit| self.waits_for_network(unit)));
        let machine =
            self.machine_limit.filter(|_| self.units.values().any(|unit| self.waits_for_machine(unit)));
        let own = self.units.values().filter_map(|unit| unit.deadline(self.shutdown));
        let replaced = self.successions().map(|(_, from)| from);
        own.chain(network).chain(machine).chain(replaced).min()
    }

    /// Whether a shutdown has stopped everything.
    pub(crate) fn is_down(&self) -> bool {
        self.shutdown && self.units.values().all(|unit| !unit.is_active())
    }

    /// The generation that is to run.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// When a boot counts as good.
    pub(crate) fn gate(&self) -> Gate {
        self.gate
    }

    /// Whether any unit's process runs whose container does not yet.
    pub(crate) fn is_starting(&self) -> bool {
        self.units.iter().any(|(id, unit)| *id != Id::Agent && matches!(unit.phase, Phase::Starting))
    }

    /// Since when every required service is good: running and not unhealthy, or ended with code 0. None when one is
    /// not; zero when there is none.
    pub(crate) fn steady_since(&self) -> Option<Duration> {
        let required = self.units.values().filter(|unit| unit.spec.required);
        required.map(Unit::good_since).try_fold(Duration::ZERO, |latest, since| Some(latest.max(since?)))
    }

    /// The required services that are not good, each with its state.
    pub(crate) fn not_steady(&self) -> String {
        let required =
            self.units.iter().filter(|(_, unit)| unit.spec.required && unit.good_since().is_none());
        let names: Vec<String> =
            required.map(|(id, unit)| format!("{id} is {}", unit.view().state)).collect();
        names.join(", ")
    }

    /// Since when a required service has failed for good.
    pub(crate) fn failed_since(&self) -> Option<Duration> {
        let failed = self.units.values().filter(|unit| unit.spec.required && unit.phase == Phase::Failed);
        failed.map(|unit| unit.since).min()
    }

    /// Whether the agent has ever been asked for.
    pub(crate) fn has_agent(&self) -> bool {
        self.units.contains_key(&Id::Agent)
    }

    /// Since when the agent is there: its process, and its word that it is ready.
    pub(crate) fn agent_since(&self) -> (Option<Duration>, bool) {
        match self.units.get(&Id::Agent) {
            Some(agent) => match agent.phase {
                Phase::Starting => (Some(agent.since), false),
                Phase::Running { .. } => (Some(agent.since), true),
                _ => (None, false),
            },
            None => (None, false),
        }
    }

    /// What can be told of every unit.
    pub(crate) fn view(&self) -> impl Iterator<Item = (&Id, View<'_>)> {
        self.units.iter().map(|(id, unit)| (id, unit.view()))
    }

    /// The bundle of a service.
    pub(crate) fn bundle(&self, id: &Id) -> Option<&std::path::Path> {
        self.units.get(id).map(|unit| unit.spec.bundle.as_path())
    }

    fn with(&mut self, id: &Id, change: impl FnOnce(&mut Unit)) {
        if let Some(unit) = self.units.get_mut(id) {
            change(unit);
        }
    }

    /// Takes over another plan: what is the same keeps running.
    fn apply(&mut self, plan: Plan, now: Duration) {
        if self.shutdown {
            return;
        }
        self.generation = Some(plan.generation);
        self.gate = plan.gate;
        let services: BTreeMap<_, _> =
            plan.services.into_iter().map(|(name, s)| (Id::Service(name), Spec::service(s))).collect();
        for (id, unit) in self.units.iter_mut().filter(|(id, _)| **id != Id::Agent) {
            unit.successor = None;
            if services.contains_key(id) {
                continue;
            }
            let successor = services.iter().find_map(|(successor, spec)| {
                let replaced = spec.replaces.as_ref()?;
                let is_it = *id == Id::Service(replaced.service.clone());
                is_it.then(|| Successor { id: successor.clone(), when: replaced.when })
            });
            if successor.is_some() && !unit.is_ending_for_good() {
                unit.goal = Goal::Up;
                unit.successor = successor;
            } else {
                unit.goal = Goal::Down;
            }
        }
        for (id, spec) in services {
            match self.units.get_mut(&id) {
                None => {
                    self.units.insert(id, Unit::new(spec, now));
                }
                Some(unit) if unit.spec.digest == spec.digest && !unit.is_ending_for_good() => {
                    unit.goal = Goal::Up;
                    unit.spec = spec;
                }
                Some(unit) => unit.goal = Goal::Replace(Box::new(spec)),
            }
        }
    }

    /// Does what time and goals ask for; true when something changed that others may have waited for.
    fn pass(&mut self, now: Duration, actions: &mut Vec<Action>) -> bool {
        let before = actions.len();
        let shutdown = self.shutdown;
        for (id, unit) in &mut self.units {
            unit.timers(id, now, shutdown, actions);
        }
        for id in self.replaced(now) {
            self.with(&id, |unit| unit.goal = Goal::Down);
        }
        for id in self.may_stop() {
            self.with(&id, |unit| unit.stop(&id, now, actions));
        }
        self.units.retain(|id, unit| unit.settle_goal(id, shutdown, now, actions));
        let ready: Vec<Id> =
            self.units.iter().filter(|(_, u)| self.may_start(u, now)).map(|(id, _)| id.clone()).collect();
        for id in ready {
            self.with(&id, |unit| unit.start(&id, now, actions));
        }
        for id in self.units.keys().cloned().collect::<Vec<_>>() {
            let waits = self.units.get(&id).and_then(|unit| self.waits_for(unit, now));
            self.with(&id, |unit| {
                if let Some(waits) = waits {
                    unit.status = waits;
                }
            });
        }
        actions.len() > before
    }

    /// The units that run until another one works, with the time from which on that one does, as things are.
    fn successions(&self) -> impl Iterator<Item = (&Id, Duration)> {
        self.units.iter().filter_map(|(id, unit)| {
            let successor = unit.successor.as_ref().filter(|_| matches!(unit.goal, Goal::Up))?;
            Some((id, self.units.get(&successor.id)?.works_at(successor.when)?))
        })
    }

    fn replaced(&self, now: Duration) -> Vec<Id> {
        let replaced = self.successions().filter(|(_, from)| *from <= now);
        replaced.map(|(id, _)| id.clone()).collect()
    }

    /// The units that have to go down and whose dependents are down. When dependencies form a circle nothing else
    /// would ever stop: then all of them.
    fn may_stop(&self) -> BTreeSet<Id> {
        let down = |unit: &Unit| !matches!(unit.goal, Goal::Up) && unit.is_active();
        let needed = |id: &Id| {
            self.units.iter().any(|(other, unit)| {
                let depends = match id {
                    Id::Agent => *other != Id::Agent,
                    Id::Service(name) => unit.spec.depends_on.contains_key(name),
                };
                other != id && depends && down(unit)
            })
        };
        let wanted = || self.units.iter().filter(|(_, unit)| down(unit));
        let free: BTreeSet<Id> = wanted().map(|(id, _)| id).filter(|id| !needed(id)).cloned().collect();
        if free.is_empty() { wanted().map(|(id, _)| id.clone()).collect() } else { free }
    }

    fn may_start(&self, unit: &Unit, now: Duration) -> bool {
        matches!((&unit.phase, &unit.goal), (Phase::Waiting, Goal::Up)) && self.waits_for(unit, now).is_none()
    }

    /// What a unit that is to start still waits for.
    fn waits_for(&self, unit: &Unit, now: Duration) -> Option<String> {
        if !matches!((&unit.phase, &unit.goal), (Phase::Waiting, Goal::Up)) {
            return None;
        }
        for (name, condition) in &unit.spec.depends_on {
            let other = self.units.get(&Id::Service(name.clone()));
            let (met, what) = match condition {
                Condition::ServiceStarted => (other.is_some_and(|o| o.started), "be started"),
                Condition::ServiceHealthy => (other.is_some_and(Unit::is_healthy), "be healthy"),
                Condition::ServiceCompletedSuccessfully => {
                    (other.is_some_and(|o| o.phase == Phase::Exited), "exit with code 0")
                }
            };
            if !met {
                return Some(format!("waits for service {name} to {what}"));
            }
        }
        if self.waits_for_machine(unit) && self.machine_limit.is_some_and(|limit| now < limit) {
            return Some("waits for the machine to be set up".to_owned());
        }
        let network = self.waits_for_network(unit) && self.network_limit.is_some_and(|limit| now < limit);
        network.then(|| "waits for the network".to_owned())
    }

    fn waits_for_machine(&self, unit: &Unit) -> bool {
        unit.phase == Phase::Waiting && unit.spec.machine && self.machine_limit.is_some()
    }

    fn waits_for_network(&self, unit: &Unit) -> bool {
        unit.phase == Phase::Waiting && unit.spec.network && self.network_limit.is_some()
    }
}
