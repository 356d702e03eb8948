//! One container from its mounts to its exit code.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plan::{ServiceName, ShimConfig};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::Advice;
use sys::kmsg::{self, Level};
use sys::process::Exit;
use sys::signals::{SIGCHLD, SIGINT, SIGKILL, SIGTERM, SignalFd};

use crate::binds::{BindError, Peers};
use crate::cgroup::{Cgroup, CgroupError};
use crate::console::{self, ConsoleSocket};
use crate::create::{self, Completed, CreateError, Stdio};
use crate::exec::{Container, give_up_capabilities};
use crate::files::{self, FileError};
use crate::ids::{IdError, Ids};
use crate::joined::{JoinError, Neighbour};
use crate::log::Output;
use crate::log_file::Stream;
use crate::network::{self, NetworkError};
use crate::notify::Listener;
use crate::oom::Oom;
use crate::probe::{Probe, Verdict};
use crate::rootfs::{self, RootfsError};
use crate::service::{Own, Service};
use crate::volumes::{self, VolumeError};

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot {what}")]
    Setup { what: &'static str, source: io::Error },
    #[error("cannot open the log")]
    Log { source: io::Error },
    #[error("{number} is not the number of a signal")]
    StopSignal { number: i32 },
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Ids(#[from] IdError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Create(#[from] CreateError),
}

impl RunError {
    /// The shim's exit code for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Create(CreateError::Refused { code, .. }) => *code,
            _ => crate::CANNOT_RUN,
        }
    }
}

impl RunError {
    /// Whether the image's files are not what was pulled. The agent pulls them again, so another attempt is worth it
    /// whatever the restart policy is.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Rootfs(error) => error.is_damage(),
            Self::Create(error) => matches!(error, CreateError::Damaged { .. }),
            _ => false,
        }
    }
}

/// Where the shim mounts what the container of `name` needs, and libcontainer keeps its state.
pub(crate) fn directory(name: &ServiceName) -> PathBuf {
    Path::new(plan::paths::RUN).join("shim").join(name.as_str())
}

/// Runs the container of `bundle` and returns how its first process ended.
pub(crate) fn run(bundle: &Path, config: &ShimConfig) -> Result<Exit, RunError> {
    let setup = |what| move |source: io::Error| RunError::Setup { what, source };
    let stop_signal = Signal::try_from(config.stop_signal)
        .map_err(|_| RunError::StopSignal { number: config.stop_signal })?;
    // From here on signals wait in this queue until the container runs.
    let signals = SignalFd::new(&[SIGCHLD, SIGINT, SIGTERM]).map_err(setup("take over signals"))?;
    // The container's first process is a grandchild: when the child that made it has ended, it becomes ours.
    nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from).map_err(setup("adopt processes"))?;

    let cgroup = Cgroup::of(&config.name);
    cgroup.remove()?;
    let neighbour = config.joined.as_ref().map(|joined| Neighbour::open(joined, config.ids.is_some()));
    let mut neighbour = neighbour.transpose()?;
    let ids = config.ids.map(|range| match neighbour.as_mut().and_then(Neighbour::take_users) {
        Some(users) => Ok(Ids::of(users, range)),
        None => Ids::new(range),
    });
    let ids = ids.transpose()?;
    let peers = Peers::open(config)?;
    let rootfs = rootfs::mount(&directory(&config.name), config, ids.as_ref())?;
    volumes::make(&config.directories, &rootfs, config.name.as_str(), config.ids)?;
    files::write(config.name.as_str(), &config.files)?;
    let mut sharers = Vec::new();
    if let Some(network) = &config.network {
        sharers.extend(network::prepare(&directory(&config.name), network)?);
    }
    if let (Some(neighbour), Some(joined)) = (&neighbour, &config.joined) {
        neighbour.prepare(&directory(&config.name), joined)?;
    }
    let listener = config.notify.as_ref().map(|notify| {
        let path = plan::paths::given_file(config.name.as_str(), plan::paths::NOTIFY_FILE);
        Listener::listen(&path, &config.name, notify)
    });
    let listener = listener.transpose().map_err(setup("listen for its program"))?;
    if let Some(ids) = &ids {
        ids.prepare(&directory(&config.name))?;
    }
    peers.mount(config, ids.as_ref())?;
    let (mut output, ends) = Output::open(config).map_err(|source| RunError::Log { source })?;

    let (stdin, mut input) = console::input(config).map_err(setup("open its input"))?;
    let socket = config.terminal.then(|| ConsoleSocket::listen(&directory(&config.name))).transpose();
    let socket = socket.map_err(setup("listen for its terminal"))?;
    let stdio = Stdio { stdin, output: ends, console: socket.as_ref().map(ConsoleSocket::path) };
    let started = create::create(bundle, config, &rootfs, ids.as_ref(), stdio);
    drop(ids);
    sharers.extend(neighbour.map(Neighbour::into_process));
    let container = started.inspect_err(|_| clean_up(&cgroup, &config.name))?;
    let terminal = socket.map(|socket| socket.receive()).transpose().map_err(setup("take its terminal"))?;
    if let Some(terminal) = &terminal {
        output.add(terminal.try_clone().map_err(setup("take its terminal"))?);
        input = config
            .stdin_open
            .then(|| terminal.try_clone())
            .transpose()
            .map_err(setup("take its terminal"))?;
    }
    let entry = Container::new(container, &config.name, &Completed::of(&config.name));
    let entry = Rc::new(entry.map_err(setup("keep what the container was made from"))?);
    let mut held = Held {
        pid: container,
        stop_signal,
        listener,
        probe: config.health.as_ref().map(|check| Probe::new(Rc::clone(&entry), check, &config.name)),
        service: None,
        // A kernel without control of memory has no such file, and ends nothing for it.
        oom: Oom::watch(&cgroup, &config.name).ok(),
        ends: None,
        sharers,
    };
    give_up_capabilities().map_err(setup("drop capabilities"))?;
    notify(&config.name, &[sd_notify::NotifyState::Ready]);
    // A container without it is better than none.
    let own = Own { pid: container, input, terminal };
    let path = plan::paths::task_socket(config.name.as_str());
    match Service::listen(path, entry, Cgroup::of(&config.name), &config.name, bundle, own) {
        Ok(service) => held.service = Some(service),
        Err(error) => {
            let text = format!("holdfast: {}: cannot listen for clients: {error}", config.name);
            kmsg::write(Level::Warning, &text);
        }
    }
    forget_program();
    let exit = held.hold(&signals, &mut output).map_err(setup("wait"));
    clean_up(&cgroup, &config.name);
    output.finish(|stream, bytes| held.hear(stream, bytes));
    if let (Some(mut service), Ok(exit)) = (held.service, &exit) {
        service.finish(*exit);
    }
    exit
}

/// How long a container that is ended for its health may take to stop by itself.
const UNHEALTHY_GRACE: Duration = Duration::from_secs(10);

/// The running container, and what is watched of it.
#[derive(Debug)]
struct Held {
    pid: Pid,
    stop_signal: Signal,
    listener: Option<Listener>,
    probe: Option<Probe>,
    service: Option<Service>,
    oom: Option<Oom>,
    /// When it is killed, once it has been asked to end because it is unhealthy.
    ends: Option<Instant>,
    /// The first processes of the containers that this one shares something with: when one has ended, this container ends,
    /// too, so that it is started again with what the next one has.
    sharers: Vec<OwnedFd>,
}

impl Held {
    /// Waits until the container ends; the event loop.
    fn hold(&mut self, signals: &SignalFd, output: &mut Output) -> io::Result<Exit> {
        loop {
            // First the signals, then the children: one that ends in between has its signal for the next turn.
            while let Some(signal) = signals.read()? {
                if signal.number != SIGCHLD {
                    if let Some(service) = self.service.as_mut().filter(|service| service.is_paused()) {
                        service.resume()?;
                    }
                    // It has not been reaped, so the id is still the container's.
                    kill(self.pid, self.stop_signal)?;
                }
            }
            // Besides the container these are the child that made it, health checks and, when the container shares the
            // host's process ids, the orphans of its processes.
            while let Some((pid, exit)) = sys::process::reap()? {
                if pid == self.pid.as_raw() {
                    self.say_oom();
                    // Ended for its health, it has failed, however well it took the signal.
                    return Ok(self.ends.map_or(exit, |_| Exit::Signal(SIGKILL)));
                }
                if let Some(service) = &mut self.service {
                    service.reaped(pid, exit);
                }
                let verdict = self.probe.as_mut().map(|probe| probe.reaped(pid, exit));
                self.judge(verdict)?;
            }
            if self.sharers.iter().any(has_ended) {
                kill(self.pid, Signal::SIGKILL)?;
                self.sharers.clear();
            }
            let timeout = self.turn()?.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
            output.pump(|stream, bytes| self.hear(stream, bytes));
            self.say_oom();
            let mut wanted = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
            wanted.extend(output.pipes().map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)));
            wanted.extend(self.oom.as_ref().map(|oom| PollFd::from_borrowed_fd(oom.file(), PollFlags::PRI)));
            wanted.extend(self.sharers.iter().map(|sharer| PollFd::new(sharer, PollFlags::IN)));
            wanted.extend(
                self.listener
                    .as_ref()
                    .map(|listener| PollFd::from_borrowed_fd(listener.socket(), PollFlags::IN)),
            );
            let clients = wanted.len();
            wanted.extend(self.service.iter().flat_map(Service::wanted));
            match poll(&mut wanted, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let asked = wanted[clients..].iter().any(|client| !client.revents().is_empty());
            if let Some(service) = self.service.as_mut().filter(|_| asked) {
                service.turn();
            }
        }
    }

    /// Does what is due, and gives the time until something is due again.
    fn turn(&mut self) -> io::Result<Option<Duration>> {
        if let Some(ends) = self.ends {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                kill(self.pid, Signal::SIGKILL)?;
                return Ok(None);
            }
            return Ok(Some(left));
        }
        let paused = self.service.as_ref().is_some_and(Service::is_paused);
        let (said, verdict) = self.listener.as_mut().map(|listener| listener.turn(paused)).unzip();
        self.judge(verdict)?;
        if paused {
            // A check would wait for the container, and tell nothing of it.
            return Ok(None);
        }
        let (checked, verdict) = self.probe.as_mut().map(Probe::turn).unzip();
        self.judge(verdict)?;
        if self.ends.is_some() {
            return self.turn();
        }
        let next = said.flatten().into_iter().chain(checked).min();
        // Whole milliseconds: with less, the loop would turn in vain.
        Ok(next.map(|next| next.min(LONGEST_WAIT) + Duration::from_millis(1)))
    }

    fn judge(&mut self, verdict: Option<Verdict>) -> io::Result<()> {
        if verdict == Some(Verdict::Ends) && self.ends.is_none() {
            self.ends = Some(Instant::now() + UNHEALTHY_GRACE);
            kill(self.pid, self.stop_signal)?;
        }
        Ok(())
    }

    fn hear(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(service) = &mut self.service {
            service.hear(stream, bytes);
        }
    }

    fn say_oom(&mut self) {
        if let Some(oom) = &mut self.oom {
            oom.turn();
        }
    }
}

/// Whether the process of a handle has ended.
fn has_ended(process: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// The kernel takes longer times; nothing depends on them.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Unmaps the program's code and constants from this process: what the event loop needs comes back at its next use,
/// what setting up needed does not, which is most of a shim's memory.
fn forget_program() {
    unsafe extern "C" {
        // The linker's names for where the program begins and where its code ends.
        static __executable_start: u8;
        static etext: u8;
    }
    let (start, end) = (&raw const __executable_start, &raw const etext);
    let page = rustix::param::page_size();
    let length = (end.addr() - start.addr()).next_multiple_of(page);
    // SAFETY: a private mapping of a file that is never written, so its pages read the same after they were dropped.
    let dropped = unsafe { rustix::mm::madvise(start.cast_mut().cast(), length, Advice::LinuxDontNeed) };
    // Nothing depends on it but the memory.
    dropped.unwrap_or(());
}

/// Ends what is left of the container. The mounts end with the shim.
fn clean_up(cgroup: &Cgroup, name: &ServiceName) {
    if let Err(error) = cgroup.remove() {
        kmsg::write(Level::Warning, &format!("holdfast: {name}: {error}"));
    }
}

pub(crate) fn notify(name: &ServiceName, state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        kmsg::write(Level::Warning, &format!("holdfast: {name}: cannot tell PID 1: {error}"));
    }
}
