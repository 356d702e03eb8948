//! The thread that keeps the network as it shall be.
//!
//! * wait for the kernel, for a server, for another part of the agent, or for the time
//! * look at the network as it is, work out how it shall be, and do what makes the difference (`look`)
//! * say what came of it: to PID 1, to the console, to `/etc/resolv.conf`, to the other parts of the agent
//!
//! Whatever has happened, the whole is looked at again: a link that comes late, an address that somebody has deleted
//! and a configuration that has changed are the same thing. Nothing in here waits for anything else.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use netconfig::{CommandLine, State};
use netlink::{Event, Events, Kernel};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use sys::console;

use super::Shared;
use super::clients::Clients;
use super::fallback::Fallback;
use super::given::Given;
use super::report::Report;
use super::store::{self, Remembered, Running};
use super::tunnels::Tunnels;
use super::wake::Wake;

/// The least and the longest time between two looks. It doubles while each look finds something to do, so that a fight
/// with somebody who wants another network than we do costs little, and so that what cannot be done is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What another part of the agent asks for.
#[derive(Debug)]
pub(super) enum Command {
    Apply(Option<State>),
    ResolvConf(Option<String>),
}

/// Whom the network is described by.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// Nobody has said yet, so it stays as it is.
    Nothing,
    /// Nobody has described one.
    Fallback,
    /// A configuration.
    State(Arc<State>),
}

/// The thread's state.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) kernel: Kernel,
    events: Events,
    pub(super) wake: Wake,
    commands: Receiver<Command>,
    pub(super) shared: Shared,
    pub(super) want: Want,
    /// An agent before this one has left a network that a configuration described: it stays until one is given again.
    pub(super) inherited: bool,
    /// What the kernel command line says, in the place of the fallback.
    pub(super) at_boot: Option<CommandLine>,
    pub(super) fallback: Fallback,
    pub(super) running: Running,
    pub(super) remembered: Remembered,
    pub(super) clients: Clients,
    pub(super) given: Given,
    pub(super) tunnels: Tunnels,
    pub(super) resolv_conf: Option<String>,
    pub(super) report: Report,
    pub(super) drivers: BTreeSet<&'static str>,
    /// Something may have changed since the last look.
    dirty: bool,
    pause: Duration,
    not_before: Duration,
}

impl Engine {
    /// Begins with what an agent before this one has left.
    pub(super) fn new(
        commands: Receiver<Command>,
        wake: Wake,
        shared: Shared,
        at_boot: Option<CommandLine>,
    ) -> io::Result<Self> {
        let now = boot_time();
        let running = Running::read();
        let clients = Clients::adopt(&running, now);
        Ok(Self {
            kernel: Kernel::route()?,
            events: Events::listen()?,
            wake,
            commands,
            shared,
            want: Want::Nothing,
            inherited: running.configured,
            at_boot,
            fallback: Fallback::with(clients.first()),
            given: Given { routers: running.routers.clone(), ..Given::default() },
            running,
            remembered: store::remembered(),
            clients,
            tunnels: Tunnels::default(),
            resolv_conf: None,
            report: Report::new(now),
            drivers: BTreeSet::new(),
            dirty: true,
            pause: FIRST_PAUSE,
            not_before: now,
        })
    }

    /// Works for as long as the agent lives.
    pub(super) fn run(mut self) {
        let mut said = String::new();
        loop {
            if let Err(error) = self.turn() {
                let text = error.to_string();
                if text != said {
                    console::error(format_args!("network: {text}"));
                    said = text;
                }
                std::thread::sleep(LONGEST_PAUSE);
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        let now = boot_time();
        self.hear(now)?;
        if self.clients.turn(now) {
            self.hurry(now);
        }
        self.dirty |= self.deadline().is_some_and(|deadline| now >= deadline);
        if self.dirty && now >= self.not_before {
            let busy = self.look(now)?;
            self.pause = if busy { (self.pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
            self.dirty = busy;
            self.not_before = now + self.pause;
        }
        Ok(())
    }

    /// Looks as soon as possible.
    fn hurry(&mut self, now: Duration) {
        self.dirty = true;
        self.pause = FIRST_PAUSE;
        self.not_before = now;
    }

    /// When to look although nothing has happened.
    fn deadline(&self) -> Option<Duration> {
        let routers = self.given.routers.values().map(|(_, until)| *until).min();
        let own = [self.report.deadline(), self.fallback.deadline(), self.tunnels.deadline(), routers];
        own.into_iter().flatten().min()
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<()> {
        let look = self.dirty.then_some(self.not_before);
        // What is due but may not be done yet is waited for like a look.
        let deadline = self.deadline().map(|deadline| deadline.max(self.not_before));
        let until = [look, deadline, self.clients.deadline()].into_iter().flatten().min();
        let timeout = until.map(|until| {
            let left = until.saturating_sub(boot_time());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let watched = [self.events.as_fd(), self.wake.as_fd()].into_iter().chain(self.clients.sockets());
        let mut list: Vec<PollFd<'_>> =
            watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match poll(&mut list, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what the kernel and the other parts of the agent have said.
    fn hear(&mut self, now: Duration) -> io::Result<()> {
        for event in self.events.take()? {
            if let Event::NameServers(told) = event {
                self.given.routers.insert(told.link, (told.servers, now + told.lifetime));
            }
            self.dirty = true;
        }
        // It may also be a tunnel's peer that has got its address.
        self.dirty |= self.wake.clear();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Apply(Some(state)) => {
                    self.want = Want::State(Arc::new(state));
                    self.inherited = false;
                }
                // A source that looks for a configuration on the network does not take away the one that is there; when
                // this is said once more, there is none.
                Command::Apply(None) => {
                    self.inherited &= matches!(self.want, Want::Nothing);
                    self.want = Want::Fallback;
                }
                Command::ResolvConf(text) => self.resolv_conf = text,
            }
            self.hurry(now);
        }
        Ok(())
    }
}

/// Time since boot, which goes on while the machine sleeps, as leases do.
fn boot_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}
