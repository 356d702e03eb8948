//! The task service of a running container, on a socket of its own: `/run/holdfast/tasks/NAME.sock`, root's alone.
//!
//! Nothing of it runs before somebody connects. Whoever does may go away at any moment; what he has begun goes on, and the
//! next one finds it. No client is waited for: what it does not read is kept up to a limit, then it is cut off.
//!
//! * `connection`: bytes to requests and back
//! * `attach`: clients that hear the container itself; `exec`: processes that clients add; `terminal`: those with a terminal; `stats`: what the container uses
//!
//! The container itself is PID 1's and the shim's: it can be neither created, started nor deleted here, and the shim is
//! not ended.

mod attach;
mod connection;
mod exec;
mod stats;
mod terminal;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plan::ServiceName;
use rustix::event::{PollFd, PollFlags};
use rustix::time::{ClockId, clock_gettime};
use task::{Call, Code, Process, Refusal, Running, State, Status};

use crate::cgroup::Cgroup;
use crate::exec::Container;
use crate::log_file::Stream;
use attach::Attached;
use connection::Connection;
use exec::Exec;
use terminal::Terminal;

/// Clients at the same time, at most: people and the agent.
const CLIENTS: usize = 32;
/// Processes that clients have added and not deleted, at most.
const EXECS: usize = 64;

/// The service of one container.
#[derive(Debug)]
pub(crate) struct Service {
    listener: UnixListener,
    path: PathBuf,
    connections: Vec<Connection>,
    execs: BTreeMap<String, Exec>,
    terminals: Vec<Terminal>,
    waiting: Vec<Waiting>,
    next: u64,
    container: Rc<Container>,
    cgroup: Cgroup,
    name: ServiceName,
    bundle: PathBuf,
    own: Own,
    attached: Vec<Attached>,
    paused: bool,
}

/// The container's first process.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) pid: Pid,
    /// What is written to for it to read, when its input stays open.
    pub(crate) input: Option<File>,
    /// The master of its terminal.
    pub(crate) terminal: Option<File>,
}

/// A client that waits for the end of a process.
#[derive(Debug)]
struct Waiting {
    connection: u64,
    stream: u32,
    exec: String,
}

/// What becomes of a call.
enum Answer {
    Now(Vec<u8>),
    /// When the process has ended.
    AtTheEnd(String),
}

impl Service {
    /// Listens at `path` for clients of the container.
    pub(crate) fn listen(
        path: PathBuf,
        container: Rc<Container>,
        cgroup: Cgroup,
        name: &ServiceName,
        bundle: &Path,
        own: Own,
    ) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        // That of a shim that was killed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path,
            connections: Vec::new(),
            execs: BTreeMap::new(),
            terminals: Vec::new(),
            waiting: Vec::new(),
            next: 0,
            container,
            cgroup,
            name: name.clone(),
            bundle: bundle.to_owned(),
            own,
            attached: Vec::new(),
            paused: false,
        })
    }

    /// What to poll. When any of it is ready, [`Self::turn`] is due.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = PollFd<'_>> {
        let listener = PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN);
        let connections = self.connections.iter().map(Connection::wanted);
        let terminals = self.terminals.iter().flat_map(Terminal::wanted);
        let attached = self.attached.iter().filter_map(|attached| attached.wanted(self.own.input.as_ref()));
        std::iter::once(listener).chain(connections).chain(terminals).chain(attached)
    }

    /// Whether the container is frozen, on a client's wish.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Takes what clients have sent, and passes on what terminals have.
    pub(crate) fn turn(&mut self) {
        // One that cannot be accepted now is there at the next turn.
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connections.len() < CLIENTS {
                self.next += 1;
                self.connections.extend(Connection::new(self.next, stream).ok());
            }
        }
        let requests = self.connections.iter_mut().flat_map(|connection| {
            let number = connection.number;
            connection.requests().into_iter().map(move |request| (number, request))
        });
        for (number, request) in requests.collect::<Vec<_>>() {
            let called = Call::read(&request.method, &request.payload);
            match called.and_then(|(id, call)| self.call(&id, call)) {
                Ok(Answer::Now(payload)) => self.answer(number, request.stream, Ok(payload)),
                Err(refusal) => self.answer(number, request.stream, Err(refusal)),
                Ok(Answer::AtTheEnd(exec)) => {
                    self.waiting.push(Waiting { connection: number, stream: request.stream, exec });
                }
            }
        }
        self.connections.retain(Connection::is_open);
        self.waiting.retain(|waiting| self.connections.iter().any(|c| c.number == waiting.connection));
        self.terminals.retain_mut(Terminal::pass_on);
        for attached in &mut self.attached {
            attached.pass_on(self.own.input.as_mut());
        }
    }

    /// Output of the container.
    pub(crate) fn hear(&mut self, stream: Stream, bytes: &[u8]) {
        let gone: Vec<String> = self
            .attached
            .iter_mut()
            .filter_map(|attached| (!attached.hear(stream, bytes)).then(|| attached.exec.clone()))
            .collect();
        for exec in gone {
            self.detach(&exec);
        }
    }

    /// A client hears the container no longer.
    fn detach(&mut self, id: &str) {
        self.attached.retain(|attached| attached.exec != id);
        let exit = now(sys::process::Exit::Code(0));
        if let Some(exec) = self.execs.get_mut(id) {
            exec.ended(exit);
        }
        self.tell(|exec| exec == id, exit);
    }

    /// A process was reaped: maybe one that a client has added.
    pub(crate) fn reaped(&mut self, pid: i32, exit: sys::process::Exit) {
        let ended = self.execs.iter_mut().find(|(_, exec)| exec.is(pid));
        let Some((id, exec)) = ended else { return };
        let exit = now(exit);
        exec.ended(exit);
        let id = id.clone();
        self.tell(|exec| exec == id, exit);
    }

    /// The container has ended, and with it everything in it.
    pub(crate) fn finish(&mut self, exit: sys::process::Exit) {
        self.tell(str::is_empty, now(exit));
        self.tell(|_| true, now(sys::process::Exit::Signal(sys::signals::SIGKILL)));
        // Whoever finds it dead learns the same.
        fs::remove_file(&self.path).unwrap_or(());
    }

    /// Lets a frozen container go on, so that it can be asked to end.
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        self.cgroup.write("cgroup.freeze", "0")?;
        self.paused = false;
        Ok(())
    }

    /// Answers those who wait for the end of these processes.
    fn tell(&mut self, which: impl Fn(&str) -> bool, exit: task::Exit) {
        let (told, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|w| which(&w.exec));
        self.waiting = waiting;
        for waiting in Vec::<Waiting>::from_iter(told) {
            self.answer(waiting.connection, waiting.stream, Ok(exit.write()));
        }
    }

    /// Answers a client that may have gone.
    fn answer(&mut self, connection: u64, stream: u32, result: Result<Vec<u8>, Refusal>) {
        if let Some(connection) = self.connections.iter_mut().find(|found| found.number == connection) {
            connection.answer(stream, result);
        }
    }

    fn call(&mut self, id: &str, call: Call) -> Result<Answer, Refusal> {
        if id != self.name.as_str() {
            return Err(Refusal::new(Code::NotFound, format!("this is the shim of '{}'", self.name)));
        }
        let done = || Ok(Answer::Now(Vec::new()));
        match call {
            Call::Create | Call::Shutdown => Err(not_here("a service's container is made and ended by init")),
            Call::Start { exec } if exec.is_empty() => Err(not_here("the container runs already")),
            Call::Delete { exec } if exec.is_empty() => {
                Err(not_here("a service's container is ended by init"))
            }
            Call::Connect => Ok(Answer::Now(self.running().write_connect())),
            Call::State { exec } => Ok(Answer::Now(self.state(&exec)?.write())),
            Call::Pids => {
                let pids = self.cgroup.processes().map_err(failed("list the processes"))?;
                Ok(Answer::Now(task::write_pids(&pids)))
            }
            Call::Stats => {
                let metrics = stats::metrics(&self.cgroup);
                let any = task::wire::Writer::new().text(1, task::METRICS_TYPE).bytes(2, &metrics);
                Ok(Answer::Now(task::wire::Writer::new().message(1, &any).finish()))
            }
            Call::Pause => {
                self.cgroup.write("cgroup.freeze", "1").map_err(failed("freeze the container"))?;
                self.paused = true;
                done()
            }
            Call::Resume => {
                self.resume().map_err(failed("let the container go on"))?;
                done()
            }
            Call::Kill { exec, signal, all } => {
                self.kill(&exec, signal, all)?;
                done()
            }
            Call::Exec(request) => {
                if self.execs.contains_key(&request.exec) || request.exec.is_empty() {
                    return Err(Refusal::new(Code::AlreadyExists, "there is such a process already"));
                }
                if self.execs.len() >= EXECS {
                    let message = format!("there are {EXECS} execs already: delete those that have ended");
                    return Err(Refusal::new(Code::FailedPrecondition, message));
                }
                self.execs.insert(request.exec.clone(), Exec::new(request)?);
                done()
            }
            Call::Start { exec } => {
                if self.paused {
                    return Err(not_here("the container is frozen"));
                }
                let pid = self.own.pid;
                if self.exec(&exec)?.is_attached() {
                    let attached = self.exec(&exec)?.attach(pid)?;
                    self.attached.push(attached);
                    return Ok(Answer::Now(self.running().write_start()));
                }
                let container = Rc::clone(&self.container);
                let (pid, terminal) = self.exec(&exec)?.start(&container)?;
                self.terminals.extend(terminal);
                Ok(Answer::Now(Running { shim: 0, pid }.write_start()))
            }
            Call::Delete { exec } => {
                let (pid, exit) = self.exec(&exec)?.leave()?;
                self.execs.remove(&exec);
                Ok(Answer::Now(Running { shim: 0, pid }.write_delete(&exit)))
            }
            Call::Resize { exec, width, height } => {
                let own = exec.is_empty() || self.exec(&exec)?.is_attached();
                let resized = match (own, &self.own.terminal) {
                    (true, Some(terminal)) => terminal::resize(terminal, width, height),
                    _ => self.terminal(&exec)?.resize(width, height),
                };
                resized.map_err(failed("set the terminal's size"))?;
                done()
            }
            Call::CloseIo { exec } => {
                self.exec(&exec)?.close_input();
                if let Ok(terminal) = self.terminal(&exec) {
                    terminal.close_input();
                }
                if let Some(attached) = self.attached.iter_mut().find(|attached| attached.exec == exec) {
                    attached.hold = None;
                }
                done()
            }
            Call::Wait { exec } => match self.state(&exec)?.process.exit {
                Some(exit) => Ok(Answer::Now(exit.write())),
                None => Ok(Answer::AtTheEnd(exec)),
            },
        }
    }

    fn running(&self) -> Running {
        Running { shim: std::process::id(), pid: self.own.pid.as_raw().cast_unsigned() }
    }

    fn exec(&mut self, id: &str) -> Result<&mut Exec, Refusal> {
        self.execs.get_mut(id).ok_or_else(|| no_such(id))
    }

    fn terminal(&mut self, id: &str) -> Result<&mut Terminal, Refusal> {
        let terminal = self.terminals.iter_mut().find(|terminal| terminal.exec == id);
        terminal.ok_or_else(|| Refusal::new(Code::FailedPrecondition, "the process has no terminal"))
    }

    fn state(&self, id: &str) -> Result<State, Refusal> {
        let process = if id.is_empty() {
            let status = if self.paused { Status::Paused } else { Status::Running };
            let terminal = self.own.terminal.is_some();
            Process { pid: self.running().pid, status, terminal, ..Process::default() }
        } else {
            self.execs.get(id).ok_or_else(|| no_such(id))?.process(id)
        };
        Ok(State { id: self.name.to_string(), bundle: self.bundle.display().to_string(), process })
    }

    fn kill(&mut self, exec: &str, signal: u32, all: bool) -> Result<(), Refusal> {
        let number = i32::try_from(signal).ok().and_then(|number| Signal::try_from(number).ok());
        let signal = number.ok_or_else(|| {
            Refusal::new(Code::InvalidArgument, format!("{signal} is not the number of a signal"))
        })?;
        let pids = match (all, exec) {
            (true, _) => {
                let pids = self.cgroup.processes().map_err(failed("list the processes"))?;
                pids.into_iter().filter_map(|pid| i32::try_from(pid).ok()).map(Pid::from_raw).collect()
            }
            (false, "") => vec![self.own.pid],
            (false, exec) if self.exec(exec)?.is_attached() => {
                self.detach(exec);
                return Ok(());
            }
            (false, exec) => vec![self.exec(exec)?.running()?],
        };
        for pid in pids {
            match kill(pid, signal) {
                // One of all that has ended meanwhile.
                Err(nix::errno::Errno::ESRCH) if all => {}
                result => result.map_err(|error| failed("send the signal")(error.into()))?,
            }
        }
        Ok(())
    }
}

fn not_here(message: &str) -> Refusal {
    Refusal::new(Code::FailedPrecondition, message)
}

fn no_such(exec: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no process '{exec}'"))
}

fn failed(what: &str) -> impl Fn(io::Error) -> Refusal + '_ {
    move |error| Refusal::new(Code::Internal, format!("cannot {what}: {error}"))
}

/// A process that has ended this moment.
fn now(exit: sys::process::Exit) -> task::Exit {
    let now = clock_gettime(ClockId::Realtime);
    let at = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
    task::Exit { code: u32::try_from(exit.code()).unwrap_or(u32::MAX), at }
}

#[cfg(test)]
mod tests;
