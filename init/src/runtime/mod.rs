//! The event loop: the one place where PID 1 waits, and where what it decided is done.
//!
//! What happens becomes an event for the [`Supervisor`], what it answers is carried out here. Each turn of the loop
//! waits, then asks every source without blocking. Architecture invariants:
//!
//! - nothing here returns an error: what fails is said on the console, or is an event;
//! - there is one reaper, [`Runtime::reap`], and nobody else waits for a child;
//! - what may not answer (disks beyond a small read, firmware, the ESP) is done by a child.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plan::paths;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::system::{RebootCommand, reboot};
use rustix::time::{ClockId, clock_gettime};
use sys::kmsg::Level;
use sys::process::{Child, Exit, Spawn, spawn};
use sys::signals::{SIGCHLD, SIGINT, SIGPWR, SIGTERM, SignalFd};

use crate::boot::Booted;
use crate::gate::{self, Gate, esp};
use crate::recorder::FlightRecorder;
use crate::shutdown::Kind;
use crate::supervise::{Action, Event, Id, Supervisor, WATCHDOG_LIMIT};
use crate::{console, late};
use notify::Message;

mod cgroup;
mod generations;
mod notify;
mod power;
mod status;
mod trial;

/// How long what can wait waits for a plan whose services could be started before it.
const LATE_LIMIT: Duration = Duration::from_secs(3);
/// How long the agent waits for the services of the last plan to start.
const AGENT_LIMIT: Duration = Duration::from_secs(1);
/// How long after that it starts: a container's program comes up in the meantime.
const AGENT_PAUSE: Duration = Duration::from_millis(100);
/// The longest wait when a source of events could not be made and has to be asked instead.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// Datagrams that are read in one turn, so that a flood of them holds up nothing else.
const DATAGRAMS: usize = 64;
/// Panics in a row that are survived: more are no accident, and a reboot is better than a loop that does nothing.
const PANICS: u32 = 10;

/// Runs the node until somebody asks for its end.
pub(crate) fn run(booted: Booted) -> Kind {
    let mut runtime = Runtime::new(booted);
    runtime.begin();
    repeat(|| runtime.turn())
}

/// Takes turns until one has a result, and goes on after one that panics.
fn repeat<T>(mut turn: impl FnMut() -> Option<T>) -> T {
    let mut panics = 0;
    loop {
        match catch_unwind(AssertUnwindSafe(&mut turn)) {
            Ok(Some(result)) => return result,
            Ok(None) => panics = 0,
            Err(_) if panics < PANICS => panics += 1,
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// A child that is not supervised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Helper {
    Late,
    Trial,
    Bless,
    GiveUp,
}

impl Helper {
    /// The cgroup that it has for itself.
    fn cgroup(self) -> Option<PathBuf> {
        let name = match self {
            Self::Late => return None,
            Self::Trial => esp::TRIAL,
            Self::Bless => esp::BLESS,
            Self::GiveUp => esp::GIVE_UP,
        };
        Some(cgroup::system(name))
    }
}

/// Everything that PID 1 holds while services run.
#[derive(Debug)]
struct Runtime {
    booted: Booted,
    begun: Duration,
    supervisor: Supervisor,
    gate: Gate,
    recorder: FlightRecorder,
    signals: Option<SignalFd>,
    socket: Option<notify::Socket>,
    /// Where programs complain; PID 1's own standard streams lead nowhere.
    complaints: Option<File>,
    buttons: power::Buttons,
    running: BTreeMap<Id, Child>,
    helpers: BTreeMap<i32, Helper>,
    /// Cgroups that were killed and are not empty yet, by their `cgroup.events`.
    ending: BTreeMap<Id, File>,
    status: status::Publisher,
    next_pet: Duration,
    /// When the agent starts at the latest.
    agent_due: Duration,
    late: bool,
    reboot_at: Option<Duration>,
    shutdown: Option<Kind>,
}

impl Runtime {
    fn new(booted: Booted) -> Self {
        let now = now();
        let report = |what, error: std::io::Error| console::error(format_args!("cannot {what}: {error}"));
        let signals = SignalFd::new(&[SIGCHLD, SIGTERM, SIGINT, SIGPWR]);
        let socket = notify::Socket::bind(Path::new(paths::NOTIFY));
        if let Err(error) = reboot(RebootCommand::CadOff) {
            report("take over ctrl-alt-del", error.into());
        }
        let disk = booted.disk.as_ref();
        let counted = if disk.is_some() && esp::is_possible() { None } else { Some(false) };
        Self {
            begun: now,
            supervisor: Supervisor::new(now),
            gate: Gate::new(now, counted),
            recorder: FlightRecorder::open(disk.and_then(|disk| disk.recorder.as_deref())),
            signals: signals.map_err(|error| report("listen to signals", error)).ok(),
            socket: socket.map_err(|error| report("make the notify socket", error)).ok(),
            complaints: File::options().write(true).open("/dev/kmsg").ok(),
            buttons: power::Buttons::default(),
            running: BTreeMap::new(),
            helpers: BTreeMap::new(),
            ending: BTreeMap::new(),
            status: status::Publisher::default(),
            next_pet: Duration::ZERO,
            agent_due: now,
            late: false,
            reboot_at: None,
            shutdown: None,
            booted,
        }
    }

    /// Starts the last committed plan, then the agent: what ran before runs again even when the agent does not.
    fn begin(&mut self) {
        let complain = |error: &generations::Error| {
            console::error(format_args!("the last plan cannot be used: {}", console::chain(error)));
        };
        let plan =
            generations::last_committed(Path::new(paths::GENERATIONS), self.booted.root_hash, complain);
        if let Some(plan) = plan {
            self.dispatch(Event::Plan(plan));
            self.agent_due = now() + AGENT_LIMIT;
        }
        self.start_agent();
    }

    /// Starts the agent a moment after nothing of the last plan is starting any more, so that it takes nothing from
    /// that.
    fn start_agent(&mut self) {
        if !self.lacks_agent() {
            return;
        }
        let soon = now() + AGENT_PAUSE;
        if soon < self.agent_due && !self.supervisor.is_starting() {
            self.agent_due = soon;
        }
        if self.agent_due <= now() {
            self.dispatch(Event::Agent);
        }
    }

    fn lacks_agent(&self) -> bool {
        self.shutdown.is_none() && !self.supervisor.has_agent()
    }

    /// Waits for something to happen and deals with it. Returns when a shutdown has come to its end.
    fn turn(&mut self) -> Option<Kind> {
        self.wait();
        self.pet();
        self.read_signals();
        // What a process said before it ended is heard before its end.
        let ended = self.reap();
        self.read_messages();
        for (pid, exit) in ended {
            self.ended(pid, exit);
        }
        self.look_at_ending();
        self.look_at_buttons();
        if self.supervisor.deadline().is_some_and(|due| due <= now()) {
            self.dispatch(Event::Tick);
        }
        self.look_at_gate();
        self.start_agent();
        self.start_late();
        self.publish();
        if self.supervisor.is_down() { self.shutdown.inspect(|_| self.close()) } else { None }
    }

    fn wait(&self) {
        let sources = [self.signals.as_ref().map(AsFd::as_fd), self.socket.as_ref().map(AsFd::as_fd)];
        let complete = sources.iter().all(Option::is_some);
        let now = now();
        let due = [
            self.supervisor.deadline(),
            self.status.due(),
            self.gate.due(&self.facts(now)),
            self.booted.watchdog.as_ref().map(|_| self.next_pet),
            (!self.late).then_some(self.begun + LATE_LIMIT),
            self.lacks_agent().then_some(self.agent_due),
            self.reboot_at,
            (!complete).then_some(now + ASK_INTERVAL),
        ];
        let wait = due.into_iter().flatten().min().map(|due| due.saturating_sub(now));
        let limit = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let readable = sources.into_iter().flatten().chain(self.buttons.fds());
        let mut fds: Vec<PollFd<'_>> =
            readable.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        fds.extend(self.ending.values().map(|events| PollFd::new(events, PollFlags::PRI)));
        // Interrupted or failed: the sources are asked all the same.
        poll(&mut fds, limit.as_ref()).ok();
    }

    fn pet(&mut self) {
        let now = now();
        if let Some(watchdog) = self.booted.watchdog.as_ref().filter(|_| self.next_pet <= now) {
            watchdog.pet();
            self.next_pet = now + watchdog.interval();
        }
    }

    fn read_signals(&mut self) {
        while let Some(Ok(Some(signal))) = self.signals.as_ref().map(SignalFd::read) {
            match signal.number {
                SIGINT => self.request(Kind::Reboot, "ctrl-alt-del"),
                SIGTERM | SIGPWR => self.request(Kind::PowerOff, "a signal"),
                _ => {}
            }
        }
    }

    fn read_messages(&mut self) {
        for _ in 0..DATAGRAMS {
            let Some((sender, datagram)) = self.socket.as_ref().and_then(notify::Socket::receive) else {
                return;
            };
            let unit = self.running.iter().find(|(_, child)| child.pid == sender).map(|(id, _)| id.clone());
            let Some(id) = unit else { continue };
            for message in notify::parse(&datagram) {
                self.heard(&id, message);
            }
        }
    }

    fn heard(&mut self, id: &Id, message: Message) {
        match message {
            Message::Ready => self.dispatch(Event::Ready(id.clone())),
            Message::Alive => self.dispatch(Event::Alive(id.clone())),
            Message::Status(text) => self.dispatch(Event::Status(id.clone(), text)),
            Message::Health(healthy) => self.dispatch(Event::Health(id.clone(), healthy)),
            Message::Apply(_) | Message::Network | Message::Shutdown(_) if *id != Id::Agent => {
                console::warning(format_args!("{id} asks for what only the agent may ask for: ignored"));
            }
            Message::Apply(number) => match generations::read(Path::new(paths::GENERATIONS), number) {
                Ok(plan) => {
                    // The agent hands a plan over when everything that its services look for is there.
                    self.dispatch(Event::Machine);
                    self.dispatch(Event::Plan(plan));
                }
                Err(error) => {
                    let why = console::chain(&error);
                    self.say(Level::Error, &format!("generation {number} cannot be applied: {why}"));
                }
            },
            Message::Network => self.dispatch(Event::Network),
            Message::Shutdown(kind) => self.request(kind, "the agent"),
        }
    }

    /// The reaper.
    fn reap(&self) -> Vec<(i32, Exit)> {
        std::iter::from_fn(|| sys::process::reap().ok().flatten()).collect()
    }

    fn ended(&mut self, pid: i32, exit: Exit) {
        let unit = self.running.iter().find(|(_, child)| child.pid == pid).map(|(id, _)| id.clone());
        if let Some(id) = unit {
            self.running.remove(&id);
            self.dispatch(Event::Exited(id, exit));
        } else if let Some(helper) = self.helpers.remove(&pid) {
            self.helper_ended(helper, exit);
        }
    }

    fn look_at_ending(&mut self) {
        let empty: Vec<Id> = self
            .ending
            .iter()
            .filter(|(_, events)| cgroup::is_empty(events))
            .map(|(id, _)| id.clone())
            .collect();
        for id in empty {
            self.ending.remove(&id);
            cgroup::remove(&cgroup::unit(&id));
            self.dispatch(Event::Empty(id));
        }
    }

    fn look_at_buttons(&mut self) {
        if self.buttons.were_pressed() {
            self.request(Kind::PowerOff, "the power button");
        }
    }

    /// Hands an event to the supervisor and does what it answers, and what follows from that.
    fn dispatch(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.supervisor.step(event, now()) {
                events.extend(self.act(action));
            }
        }
        self.status.changed();
    }

    /// Carries out one action; what comes of it at once is the next event.
    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Say(level, text) => self.say(level, &text),
            Action::Start(id) => {
                let started = self.start(&id);
                return started.err().map(|error| Event::NotStarted(id, error.to_string()));
            }
            Action::Terminate(id) => self.signal(&id, Signal::TERM),
            Action::Kill(id) => match cgroup::kill(&cgroup::unit(&id)) {
                Ok(events) if !cgroup::is_empty(&events) => {
                    self.ending.insert(id, events);
                }
                Ok(_) => {
                    cgroup::remove(&cgroup::unit(&id));
                    return Some(Event::Empty(id));
                }
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::NotFound {
                        self.say(Level::Warning, &format!("cannot kill the cgroup of {id}: {error}"));
                    }
                    self.signal(&id, Signal::KILL);
                    return Some(Event::Empty(id));
                }
            },
        }
        None
    }

    fn start(&mut self, id: &Id) -> std::io::Result<()> {
        let cgroup = cgroup::prepare(id)?;
        let bundle = self.supervisor.bundle(id).map(Path::to_owned).unwrap_or_default();
        let watchdog = WATCHDOG_LIMIT.as_micros().to_string();
        let mut env = vec![("NOTIFY_SOCKET", paths::NOTIFY), ("PATH", "/usr/sbin:/usr/bin")];
        let (program, args) = match id {
            Id::Agent => {
                env.push(("WATCHDOG_USEC", &watchdog));
                (paths::AGENT, vec![])
            }
            Id::Service(_) => (paths::SHIM, vec![OsStr::new("run"), bundle.as_os_str()]),
        };
        let complaints = self.complaints.as_ref().map(AsFd::as_fd);
        let child = spawn(&Spawn {
            program: Path::new(program),
            args: &args,
            env: &env,
            cgroup: Some(cgroup.as_fd()),
            stdio: [None, complaints, complaints],
        })?;
        self.running.insert(id.clone(), child);
        Ok(())
    }

    fn signal(&self, id: &Id, signal: Signal) {
        if let Some(child) = self.running.get(id) {
            // It may have ended a moment ago.
            pidfd_send_signal(&child.pidfd, signal).ok();
        }
    }

    /// Starts this program as a child for work that may block.
    fn help(&mut self, helper: Helper, name: &str, args: &[&OsStr]) -> bool {
        let cgroup = cgroup::open(&cgroup::system(name)).ok();
        let args: Vec<&OsStr> = [OsStr::new(name)].into_iter().chain(args.iter().copied()).collect();
        let child = spawn(&Spawn {
            program: Path::new(paths::INIT),
            args: &args,
            env: &[],
            cgroup: cgroup.as_ref().map(AsFd::as_fd),
            stdio: [None; 3],
        });
        match child {
            Ok(child) => self.helpers.insert(child.pid, helper).is_none(),
            Err(error) => {
                self.say(Level::Error, &format!("cannot start init {name}: {error}"));
                false
            }
        }
    }

    /// Starts what can wait as soon as the plan's first services run, or there is nothing to wait for.
    fn start_late(&mut self) {
        let (_, agent_ready) = self.supervisor.agent_since();
        let configured = agent_ready || self.supervisor.generation().is_some();
        let settled = configured && !self.lacks_agent() && !self.supervisor.is_starting();
        if !self.late && (settled || self.begun + LATE_LIMIT <= now()) {
            self.late = true;
            let children = late::start(&self.booted);
            self.helpers.extend(children.into_iter().map(|child| (child.pid, Helper::Late)));
        }
    }

    fn helper_ended(&mut self, helper: Helper, exit: Exit) {
        if let Some(cgroup) = helper.cgroup() {
            cgroup::remove(&cgroup);
        }
        match helper {
            Helper::Late => {
                self.buttons.look();
                // The variables' driver comes with one of them; a look before it is there would find nothing.
                let last = !self.helpers.values().any(|helper| *helper == Helper::Late);
                if last && self.gate.counted().is_none() {
                    self.help(Helper::Trial, esp::TRIAL, &[]);
                }
            }
            Helper::Trial => match exit {
                Exit::Code(0) => {
                    self.gate.set_counted(true);
                    self.milestone("trial");
                }
                Exit::Code(code) if code == i32::from(esp::UNCOUNTED) => self.gate.set_counted(false),
                // Nobody knows: the gate takes a version that is not proven for one on trial.
                _ => {}
            },
            Helper::Bless => match exit {
                Exit::Code(0) => self.milestone("blessed"),
                Exit::Code(code) if code == i32::from(esp::UNCOUNTED) => self.milestone("proven"),
                _ => self.say(Level::Error, "this version works, but that could not be written down"),
            },
            Helper::GiveUp => self.reboot_at = Some(now()),
        }
    }

    /// Somebody asks for the end of this boot.
    fn request(&mut self, kind: Kind, who: &str) {
        if self.shutdown.is_none() {
            let what = match kind {
                Kind::Reboot => "reboot",
                Kind::PowerOff => "power off",
                Kind::Halt => "halt",
            };
            self.say(Level::Notice, &format!("asked to {what} by {who}"));
            self.recorder.note(&format!("asked to {what} by {who}"));
            if self.gate.state() != gate::State::FallingBack {
                self.recorder.forgive();
            }
            self.begin_shutdown(kind);
        }
    }

    fn begin_shutdown(&mut self, kind: Kind) {
        if self.shutdown.is_none() {
            self.shutdown = Some(kind);
            self.dispatch(Event::Shutdown);
        }
    }

    /// The last thing before the machine is left to `shutdown::finish`.
    fn close(&self) {
        if let Some(watchdog) = &self.booted.watchdog {
            watchdog.pet();
        }
        self.recorder.sync();
    }

    fn publish(&mut self) {
        let now = now();
        if self.status.due().is_some_and(|due| due <= now) {
            let pid = |id: &Id| self.running.get(id).map(|child| child.pid);
            if let Err(error) = status::write(&self.supervisor, self.gate.state().name(), pid) {
                console::warning(format_args!("cannot write {}: {error}", paths::STATUS));
            }
            self.status.published(now);
        }
    }

    /// A stage of the boot that comes after its end.
    fn milestone(&mut self, name: &str) {
        self.booted.trace.reached(name);
        self.recorder.note(&format!("boot {name}"));
        if let Err(error) = self.booted.trace.save() {
            console::warning(format_args!("cannot write {}: {error}", paths::BOOT_TRACE));
        }
        self.status.changed();
    }

    /// Says something on the console, and what somebody may look for after a crash in the recorder.
    fn say(&mut self, level: Level, text: &str) {
        match level {
            Level::Error => console::error(text),
            Level::Warning => console::warning(text),
            Level::Notice | Level::Info => console::notice(text),
        }
        if level <= Level::Warning {
            self.recorder.note(text);
        }
    }
}

/// Time since the kernel started.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_turn_is_survived_but_not_for_ever() {
        let mut turns = 0;
        let result = repeat(|| {
            turns += 1;
            assert!(turns % 3 == 0, "a turn that panics");
            (turns > 60).then_some(turns)
        });
        assert_eq!(result, 63);
        let mut turns = 0;
        let all = catch_unwind(AssertUnwindSafe(|| {
            repeat(|| -> Option<()> {
                turns += 1;
                panic!("every turn panics")
            });
        }));
        assert!(all.is_err());
        assert_eq!(turns, PANICS + 1);
    }
}
