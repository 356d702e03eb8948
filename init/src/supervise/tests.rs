//! The machine in virtual time: each rule by name, then all of them against a random world.

use proptest::prelude::*;

use plan::{Needs, Restart, Service};

use super::*;

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn service(digest: &str, restart: Restart, depends_on: &[(&str, Condition)]) -> Service {
    Service {
        bundle: "/bundle".into(),
        digest: digest.to_owned(),
        restart,
        depends_on: depends_on.iter().map(|(n, c)| (ServiceName::new(*n).unwrap(), *c)).collect(),
        needs: Needs::default(),
        stop_timeout_ms: 10_000,
        required: true,
        replaces: None,
    }
}

fn plan(generation: u64, services: &[(&str, Service)]) -> Plan {
    Plan {
        generation,
        os_version: "1".to_owned(),
        hostname: "node".to_owned(),
        gate: Gate::default(),
        services: services.iter().map(|(n, s)| (ServiceName::new(*n).unwrap(), s.clone())).collect(),
    }
}

fn id(name: &str) -> Id {
    Id::Service(ServiceName::new(name).unwrap())
}

fn state<'a>(supervisor: &'a Supervisor, name: &str) -> View<'a> {
    supervisor.view().find(|(found, _)| **found == id(name)).unwrap().1
}

/// Lines on the console, and what else is to be done, as words.
fn words(actions: &[Action]) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Say(_, line) => line.clone(),
        Action::Start(id) => format!("+{id}"),
        Action::Terminate(id) => format!("-{id}"),
        Action::Kill(id) => format!("!{id}"),
    };
    actions.iter().map(word).collect()
}

/// A supervisor at time zero with these services, and what it did.
fn with(services: &[(&str, Service)]) -> (Supervisor, Vec<String>) {
    let mut supervisor = Supervisor::new(Duration::ZERO);
    let actions = supervisor.step(Event::Plan(plan(1, services)), Duration::ZERO);
    (supervisor, words(&actions))
}

/// The service's process ends and nothing is left of it.
fn exit(supervisor: &mut Supervisor, name: &str, exit: Exit, now: Duration) -> Vec<String> {
    let mut said = words(&supervisor.step(Event::Exited(id(name), exit), now));
    said.extend(words(&supervisor.step(Event::Empty(id(name)), now)));
    said
}

#[test]
fn a_service_starts_runs_and_is_started_again_at_once() {
    let (mut s, said) = with(&[("web", service("1", Restart::Always, &[]))]);
    assert_eq!(said, ["service web starting", "+service web"]);
    assert_eq!(words(&s.step(Event::Ready(id("web")), secs(1))), ["service web running"]);
    let said = exit(&mut s, "web", Exit::Code(1), secs(2));
    let expected =
        ["service web exited exit=1", "!service web", "service web starting restarts=1", "+service web"];
    assert_eq!(said, expected);
}

#[test]
fn restarts_back_off_until_the_service_runs_steadily() {
    let (mut s, _) = with(&[("web", service("1", Restart::Always, &[]))]);
    let mut now = Duration::ZERO;
    let mut waits = Vec::new();
    for _ in 0..12 {
        s.step(Event::Ready(id("web")), now);
        exit(&mut s, "web", Exit::Code(1), now);
        let due = s.deadline().filter(|_| state(&s, "web").state == "backing-off").unwrap_or(now);
        waits.push((due - now).as_millis());
        now = due;
        s.step(Event::Tick, now);
        assert_eq!(state(&s, "web").state, "starting");
    }
    assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000]);
    s.step(Event::Ready(id("web")), now);
    exit(&mut s, "web", Exit::Code(0), now + secs(10));
    assert_eq!((state(&s, "web").state, state(&s, "web").restarts), ("starting", 13));
}

#[test]
fn policies_decide_what_ends_for_good() {
    use Restart::{Always, No, OnFailure, UnlessStopped};
    for (policy, code, expected) in [
        (No, 0, "exited"),
        (No, 1, "failed"),
        (Always, 0, "starting"),
        (UnlessStopped, 0, "starting"),
        (OnFailure { max: None }, 0, "exited"),
        (OnFailure { max: None }, 1, "starting"),
        (OnFailure { max: Some(0) }, 1, "failed"),
        (OnFailure { max: Some(1) }, 1, "starting"),
    ] {
        let (mut s, _) = with(&[("job", service("1", policy, &[]))]);
        exit(&mut s, "job", Exit::Code(code), secs(1));
        assert_eq!(state(&s, "job").state, expected, "{policy:?} {code}");
    }
}

#[test]
fn a_limited_service_fails_when_its_restarts_are_used_up() {
    let (mut s, _) = with(&[("job", service("1", Restart::OnFailure { max: Some(1) }, &[]))]);
    exit(&mut s, "job", Exit::Code(3), secs(1));
    let said = exit(&mut s, "job", Exit::Code(3), secs(1));
    let expected =
        ["service job exited exit=3 restarts=1", "!service job", "service job failed exit=3 restarts=1"];
    assert_eq!(said, expected);
}

#[test]
fn a_killed_shim_is_started_again_once_its_container_is_gone() {
    let (mut s, _) = with(&[("job", service("1", Restart::No, &[]))]);
    s.step(Event::Ready(id("job")), secs(1));
    let said = words(&s.step(Event::Exited(id("job"), Exit::Signal(9)), secs(2)));
    assert_eq!(said, ["service job exited exit=137", "!service job"]);
    assert_eq!(words(&s.step(Event::Tick, secs(60))), [""; 0], "the container may still run");
    let said = words(&s.step(Event::Empty(id("job")), secs(61)));
    assert_eq!(said, ["service job starting restarts=1", "+service job"]);
}

#[test]
fn dependents_wait_for_each_condition() {
    use Condition::{ServiceCompletedSuccessfully, ServiceHealthy, ServiceStarted};
    let (mut s, said) = with(&[
        ("db", service("1", Restart::Always, &[])),
        ("setup", service("1", Restart::No, &[("db", ServiceHealthy)])),
        (
            "web",
            service("1", Restart::Always, &[("db", ServiceStarted), ("setup", ServiceCompletedSuccessfully)]),
        ),
    ]);
    assert_eq!(said, ["service db starting", "+service db"]);
    assert_eq!(state(&s, "web").status, "waits for service db to be started");
    assert_eq!(words(&s.step(Event::Ready(id("db")), secs(1))), ["service db running"]);
    let said = words(&s.step(Event::Health(id("db"), true), secs(2)));
    assert_eq!(said, ["service db healthy", "service setup starting", "+service setup"]);
    let said = exit(&mut s, "setup", Exit::Code(0), secs(3));
    assert_eq!(said[2..], ["service web starting", "+service web"]);
}

#[test]
fn what_needs_the_network_waits_for_the_agents_word_but_not_for_ever() {
    let needs = Needs { network: true, ..Needs::default() };
    let needy = Service { needs, ..service("1", Restart::Always, &[]) };
    for event in [Event::Network, Event::Tick] {
        let (mut s, said) = with(&[("web", needy.clone())]);
        assert_eq!(said, [""; 0]);
        assert_eq!(state(&s, "web").status, "waits for the network");
        assert_eq!(s.deadline(), Some(NETWORK_LIMIT));
        let now = if matches!(event, Event::Tick) { NETWORK_LIMIT } else { secs(1) };
        assert_eq!(words(&s.step(event, now)), ["service web starting", "+service web"]);
    }
}

#[test]
fn what_needs_the_machine_waits_until_it_is_set_up_but_not_for_ever() {
    let needs = Needs { machine: true, ..Needs::default() };
    let needy = Service { needs, ..service("1", Restart::Always, &[]) };
    for event in [Event::Machine, Event::Tick] {
        let (mut s, said) = with(&[("web", needy.clone())]);
        assert_eq!(said, [""; 0]);
        assert_eq!(state(&s, "web").status, "waits for the machine to be set up");
        assert_eq!(s.deadline(), Some(MACHINE_LIMIT));
        let now = if matches!(event, Event::Tick) { MACHINE_LIMIT } else { secs(1) };
        assert_eq!(words(&s.step(event, now)), ["service web starting", "+service web"]);
    }
}

fn instead_of(replaced: &str, when: Condition) -> Service {
    let replaces = plan::Replaced { service: ServiceName::new(replaced).unwrap(), when };
    Service { replaces: Some(replaces), ..service("2", Restart::Always, &[]) }
}

#[test]
fn what_is_replaced_runs_until_its_successor_works() {
    for (when, word) in [(Condition::ServiceHealthy, "healthy"), (Condition::ServiceStarted, "running")] {
        let (mut s, _) = with(&[("web", service("1", Restart::Always, &[]))]);
        s.step(Event::Ready(id("web")), secs(1));
        let next = plan(2, &[("web-2", instead_of("web", when))]);
        let said = words(&s.step(Event::Plan(next.clone()), secs(2)));
        assert_eq!(said, ["service web-2 starting", "+service web-2"]);
        // As long as it is needed it is kept up.
        let said = exit(&mut s, "web", Exit::Code(1), secs(3));
        assert_eq!(said.last().unwrap(), "+service web");
        s.step(Event::Ready(id("web")), secs(3));
        // One that fails takes no place, and neither does one that has only just come.
        s.step(Event::Ready(id("web-2")), secs(4));
        assert_eq!(words(&s.step(Event::Plan(next), secs(5))), [""; 0], "the same plan again");
        exit(&mut s, "web-2", Exit::Code(1), secs(5));
        s.step(Event::Ready(id("web-2")), secs(6));
        let due = match when {
            Condition::ServiceHealthy => {
                assert!(words(&s.step(Event::Health(id("web-2"), false), secs(7))).len() == 1);
                s.step(Event::Health(id("web-2"), true), secs(30))
            }
            _ => {
                assert_eq!(s.deadline(), Some(secs(16)));
                s.step(Event::Tick, secs(16))
            }
        };
        assert_eq!(words(&due).last().unwrap(), "-service web");
        assert_eq!((state(&s, "web").state, state(&s, "web-2").state), ("stopping", word));
        let said = exit(&mut s, "web", Exit::Code(0), secs(31));
        assert_eq!(said, ["!service web", "service web stopped exit=0 restarts=1"]);
        assert_eq!(s.view().count(), 1);
    }
}

#[test]
fn a_plan_decides_anew_who_is_replaced() {
    let (mut s, _) = with(&[("web", service("1", Restart::Always, &[]))]);
    s.step(Event::Ready(id("web")), secs(1));
    let next = plan(2, &[("web-2", instead_of("web", Condition::ServiceHealthy))]);
    s.step(Event::Plan(next.clone()), secs(2));
    s.step(Event::Ready(id("web-2")), secs(3));
    // Back to the old one, which has never been away.
    let said = words(&s.step(Event::Plan(plan(3, &[("web", service("1", Restart::Always, &[]))])), secs(4)));
    assert_eq!(said, ["-service web-2"]);
    exit(&mut s, "web-2", Exit::Code(0), secs(4));
    // Nobody takes its place any more.
    s.step(Event::Plan(next), secs(5));
    assert_eq!(words(&s.step(Event::Plan(plan(5, &[])), secs(6))).len(), 2, "both are asked to end");
    // Nor does anybody at the end.
    let (mut s, _) = with(&[("web", service("1", Restart::Always, &[]))]);
    s.step(Event::Ready(id("web")), secs(1));
    s.step(Event::Plan(plan(2, &[("web-2", instead_of("web", Condition::ServiceHealthy))])), secs(2));
    let said = words(&s.step(Event::Shutdown, secs(3)));
    assert_eq!(said, ["-service web", "-service web-2"]);
}

#[test]
fn another_plan_leaves_alone_what_did_not_change() {
    let (mut s, _) = with(&[
        ("gone", service("1", Restart::Always, &[])),
        ("same", service("1", Restart::Always, &[])),
        ("web", service("1", Restart::Always, &[])),
    ]);
    let next = plan(
        2,
        &[
            ("new", service("1", Restart::No, &[])),
            ("same", service("1", Restart::Always, &[])),
            ("web", service("2", Restart::Always, &[])),
        ],
    );
    let said = words(&s.step(Event::Plan(next.clone()), secs(1)));
    assert_eq!(said, ["-service gone", "-service web", "service new starting", "+service new"]);
    assert_eq!(words(&s.step(Event::Plan(next), secs(2))), [""; 0], "the same plan again");
    let said = exit(&mut s, "web", Exit::Code(143), secs(3));
    assert_eq!(
        said,
        ["!service web", "service web stopped exit=143", "service web starting", "+service web"]
    );
    exit(&mut s, "gone", Exit::Code(0), secs(3));
    assert!(s.view().all(|(found, _)| *found != id("gone")));
    assert_eq!(s.generation(), Some(2));
}

#[test]
fn a_service_that_does_not_stop_is_killed() {
    let (mut s, _) = with(&[("web", service("1", Restart::Always, &[]))]);
    s.step(Event::Ready(id("web")), secs(1));
    s.step(Event::Plan(plan(2, &[])), secs(2));
    assert_eq!(s.deadline(), Some(secs(12)));
    let said = words(&s.step(Event::Tick, secs(12)));
    assert_eq!(said, ["service web did not stop in time: killed", "!service web"]);
    assert_eq!(words(&s.step(Event::Empty(id("web")), secs(12))), [""; 0], "its process is not reaped yet");
    exit(&mut s, "web", Exit::Signal(9), secs(13));
    assert_eq!(s.view().count(), 0);
}

#[test]
fn a_container_that_does_not_come_up_is_killed_and_tried_again() {
    let (mut s, _) = with(&[("web", service("1", Restart::Always, &[]))]);
    let said = words(&s.step(Event::Tick, START_LIMIT));
    assert_eq!(said, ["service web did not start in time: killed", "!service web"]);
    let said = exit(&mut s, "web", Exit::Signal(9), START_LIMIT);
    assert_eq!(said[2..], ["service web starting restarts=1", "+service web"]);
}

#[test]
fn an_agent_that_falls_silent_is_killed_one_that_never_spoke_is_not() {
    let mut s = Supervisor::new(Duration::ZERO);
    assert_eq!(words(&s.step(Event::Agent, Duration::ZERO)), ["agent starting", "+agent"]);
    assert_eq!(s.deadline(), None);
    s.step(Event::Ready(Id::Agent), secs(1));
    s.step(Event::Alive(Id::Agent), secs(2));
    let said = words(&s.step(Event::Tick, secs(2) + WATCHDOG_LIMIT));
    assert_eq!(said, ["agent does not answer: killed", "!agent"]);
}

#[test]
fn shutdown_goes_backwards_and_the_agent_last() {
    let (mut s, _) = with(&[
        ("db", service("1", Restart::Always, &[])),
        ("late", service("1", Restart::Always, &[("db", Condition::ServiceHealthy)])),
        ("web", service("1", Restart::Always, &[("db", Condition::ServiceStarted)])),
    ]);
    s.step(Event::Agent, Duration::ZERO);
    s.step(Event::Ready(id("db")), secs(1));
    assert_eq!(words(&s.step(Event::Shutdown, secs(2))), ["-service web", "service late stopped"]);
    let said = exit(&mut s, "web", Exit::Code(0), secs(3));
    assert_eq!(said, ["!service web", "service web stopped exit=0", "-service db"]);
    assert!(!s.is_down());
    let said = exit(&mut s, "db", Exit::Code(0), secs(4));
    assert_eq!(said[1..], ["service db stopped exit=0", "-agent"]);
    s.step(Event::Exited(Id::Agent, Exit::Code(0)), secs(5));
    s.step(Event::Empty(Id::Agent), secs(5));
    assert!(s.is_down());
}

#[test]
fn shutdown_does_not_wait_for_ever_for_what_cannot_be_killed() {
    let (mut s, _) = with(&[("web", service("1", Restart::Always, &[]))]);
    s.step(Event::Shutdown, secs(1));
    s.step(Event::Tick, secs(11));
    s.step(Event::Tick, secs(11) + KILL_LIMIT);
    assert!(s.is_down());
}

#[test]
fn a_circle_of_dependencies_can_be_stopped() {
    let (mut s, _) =
        with(&[("a", service("1", Restart::Always, &[])), ("b", service("1", Restart::Always, &[]))]);
    let circle = [
        ("a", service("1", Restart::Always, &[("b", Condition::ServiceStarted)])),
        ("b", service("1", Restart::Always, &[("a", Condition::ServiceStarted)])),
    ];
    s.step(Event::Plan(plan(2, &circle)), secs(1));
    assert_eq!(words(&s.step(Event::Shutdown, secs(2))), ["-service a", "-service b"]);
}

#[test]
fn the_gate_sees_running_services_and_finished_one_shots() {
    let (mut s, _) =
        with(&[("job", service("1", Restart::No, &[])), ("web", service("1", Restart::Always, &[]))]);
    assert_eq!(s.steady_since(), None);
    assert_eq!(s.not_steady(), "service job is starting, service web is starting");
    s.step(Event::Ready(id("web")), secs(3));
    exit(&mut s, "job", Exit::Code(0), secs(5));
    assert_eq!(s.steady_since(), Some(secs(3)));
    s.step(Event::Health(id("web"), false), secs(6));
    assert_eq!(s.steady_since(), None);
    assert_eq!(Supervisor::new(secs(1)).steady_since(), Some(Duration::ZERO), "no services are no failure");
}

/// What a random world does next.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Ready(usize),
    Health(usize, bool),
    Exit(usize, u8),
    Crash(usize),
    Empty(usize),
    Plan(Vec<(usize, u8, u8, u8)>),
    Refuse(usize),
    Network,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn step() -> impl Strategy<Value = Step> {
    let service = || (0..4usize, 0..3u8, 0..5u8, 0..4u8);
    prop_oneof![
        4 => (1..70_000u64).prop_map(Step::Wait),
        6 => (0..5usize).prop_map(Step::Ready),
        1 => (0..5usize, any::<bool>()).prop_map(|(u, h)| Step::Health(u, h)),
        4 => (0..5usize, 0..3u8).prop_map(|(u, c)| Step::Exit(u, c)),
        2 => (0..5usize).prop_map(Step::Crash),
        1 => (0..5usize).prop_map(Step::Refuse),
        8 => (0..5usize).prop_map(Step::Empty),
        2 => prop::collection::vec(service(), 0..4).prop_map(Step::Plan),
        1 => Just(Step::Network),
    ]
}

/// A plan of the generated numbers: digest, policy, and dependencies on services earlier in the alphabet.
fn random_plan(services: &[(usize, u8, u8, u8)]) -> Plan {
    let mut out = plan(1, &[]);
    for &(name, digest, policy, depends) in services {
        let restart = match policy {
            0 => Restart::No,
            1 => Restart::OnFailure { max: Some(2) },
            2 => Restart::OnFailure { max: None },
            3 => Restart::UnlessStopped,
            _ => Restart::Always,
        };
        let condition = match depends {
            1 => Some(Condition::ServiceStarted),
            2 => Some(Condition::ServiceHealthy),
            3 => Some(Condition::ServiceCompletedSuccessfully),
            _ => None,
        };
        let on: Vec<_> = condition.into_iter().filter(|_| name > 0).map(|c| (NAMES[name - 1], c)).collect();
        let mut new = service(&digest.to_string(), restart, &on);
        // Some take the place of the next one, should that have been there.
        new.replaces = condition
            .zip(NAMES.get(name + 1))
            .map(|(when, next)| plan::Replaced { service: ServiceName::new(*next).unwrap(), when });
        out.services.insert(ServiceName::new(NAMES[name]).unwrap(), new);
    }
    out
}

/// The world's side of a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Process {
    None,
    Alive,
    /// Reaped, and its cgroup not empty yet.
    Remains,
}

struct World {
    supervisor: Supervisor,
    processes: BTreeMap<Id, Process>,
    /// What was killed ends before time passes.
    killed: BTreeSet<Id>,
    now: Duration,
    stopping: bool,
}

impl World {
    fn new() -> Self {
        Self {
            supervisor: Supervisor::new(Duration::ZERO),
            processes: BTreeMap::new(),
            killed: BTreeSet::new(),
            now: Duration::ZERO,
            stopping: false,
        }
    }

    /// Lets time pass, with what it brings.
    fn wait(&mut self, time: Duration) -> Result<(), TestCaseError> {
        let until = self.now + time;
        loop {
            while let Some(id) = self.killed.pop_first() {
                self.exit(id.clone(), Exit::Signal(9))?;
                self.empty(id)?;
            }
            let Some(due) = self.supervisor.deadline().filter(|due| *due <= until) else { break };
            self.now = due;
            self.send(Event::Tick)?;
        }
        self.now = until;
        Ok(())
    }

    fn send(&mut self, event: Event) -> Result<(), TestCaseError> {
        for action in self.supervisor.step(event, self.now) {
            match action {
                Action::Start(id) => {
                    prop_assert!(!self.stopping, "{id} started while the machine shuts down");
                    let process = self.processes.insert(id.clone(), Process::Alive);
                    prop_assert!(matches!(process, None | Some(Process::None)), "{id} started twice");
                }
                Action::Terminate(id) => {
                    prop_assert_eq!(self.processes.get(&id), Some(&Process::Alive));
                    let services = self.processes.iter().filter(|(i, _)| **i != Id::Agent);
                    let running = services.filter(|(_, p)| **p != Process::None).count();
                    prop_assert!(id != Id::Agent || running == 0, "the agent goes last");
                }
                Action::Kill(id) => {
                    self.killed.insert(id);
                }
                Action::Say(..) => {}
            }
        }
        if let Some(deadline) = self.supervisor.deadline() {
            prop_assert!(deadline > self.now, "a deadline in the past is a busy loop");
        }
        Ok(())
    }

    fn unit(&self, number: usize) -> Id {
        NAMES.get(number).map_or(Id::Agent, |name| id(name))
    }

    fn exit(&mut self, unit: Id, exit: Exit) -> Result<(), TestCaseError> {
        if self.processes.get(&unit) != Some(&Process::Alive) {
            return Ok(());
        }
        self.processes.insert(unit.clone(), Process::Remains);
        self.send(Event::Exited(unit, exit))
    }

    fn empty(&mut self, unit: Id) -> Result<(), TestCaseError> {
        if self.processes.get(&unit) != Some(&Process::Remains) {
            return Ok(());
        }
        self.processes.insert(unit.clone(), Process::None);
        self.send(Event::Empty(unit))
    }
}

proptest! {
    #[test]
    fn in_any_world_nothing_runs_twice_and_everything_can_be_stopped(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        world.send(Event::Agent)?;
        for step in steps {
            match step {
                Step::Wait(time) => world.wait(ms(time))?,
                Step::Ready(unit) => world.send(Event::Ready(world.unit(unit)))?,
                Step::Health(unit, healthy) => world.send(Event::Health(world.unit(unit), healthy))?,
                Step::Exit(unit, code) => world.exit(world.unit(unit), Exit::Code(code.into()))?,
                Step::Crash(unit) => world.exit(world.unit(unit), Exit::Signal(9))?,
                Step::Empty(unit) => world.empty(world.unit(unit))?,
                Step::Plan(services) => world.send(Event::Plan(random_plan(&services)))?,
                Step::Network => world.send(Event::Network)?,
                Step::Refuse(unit) => {
                    let unit = world.unit(unit);
                    if world.processes.get(&unit) == Some(&Process::Alive) {
                        world.processes.insert(unit.clone(), Process::Remains);
                        world.send(Event::NotStarted(unit, "no memory".to_owned()))?;
                    }
                }
            }
        }
        world.stopping = true;
        world.send(Event::Shutdown)?;
        for _ in 0..20 {
            for unit in world.processes.keys().cloned().collect::<Vec<_>>() {
                world.exit(unit.clone(), Exit::Code(0))?;
                world.empty(unit)?;
            }
        }
        prop_assert!(world.supervisor.is_down());
    }

    /// A service that must come up does: nothing that happened before leaves it stuck.
    #[test]
    fn after_any_history_a_plan_of_one_service_starts_it(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Exit(unit, code) => world.exit(world.unit(unit), Exit::Code(code.into()))?,
                Step::Empty(unit) => world.empty(world.unit(unit))?,
                Step::Ready(unit) => world.send(Event::Ready(world.unit(unit)))?,
                Step::Plan(services) => world.send(Event::Plan(random_plan(&services)))?,
                _ => {}
            }
        }
        let last = plan(2, &[("a", service("new", Restart::Always, &[]))]);
        world.send(Event::Plan(last))?;
        for _ in 0..4 {
            for unit in world.processes.keys().cloned().collect::<Vec<_>>() {
                if state_of(&world.supervisor, &unit) != Some("starting") {
                    world.exit(unit.clone(), Exit::Code(0))?;
                }
                world.empty(unit)?;
            }
        }
        prop_assert_eq!(world.supervisor.view().count(), 1);
        prop_assert_eq!(state(&world.supervisor, "a").state, "starting");
    }
}

fn state_of(supervisor: &Supervisor, unit: &Id) -> Option<&'static str> {
    supervisor.view().find(|(id, _)| *id == unit).map(|(_, view)| view.state)
}
