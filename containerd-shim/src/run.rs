//! One container from its mounts to its exit code.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plan::{ServiceName, ShimConfig};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mm::Advice;
use sys::kmsg::{self, Level};
use sys::process::Exit;
use sys::signals::{SIGCHLD, SIGINT, SIGTERM, SignalFd};

use crate::cgroup::{Cgroup, CgroupError};
use crate::create::{self, CreateError};
use crate::log::Output;
use crate::rootfs::{self, RootfsError};

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
    let rootfs = rootfs::mount(&directory(&config.name), config)?;
    let (mut output, file) = Output::open(config).map_err(|source| RunError::Log { source })?;

    let started = create::create(bundle, config, &rootfs, file);
    let container = started.inspect_err(|_| clean_up(&cgroup, &config.name))?;
    drop_capabilities().map_err(setup("drop capabilities"))?;
    notify(&config.name, &[sd_notify::NotifyState::Ready]);
    forget_program();
    let exit = hold(container, stop_signal, &signals, &mut output).map_err(setup("wait"));
    clean_up(&cgroup, &config.name);
    output.finish();
    exit
}

/// Waits until `container` ends; the event loop.
fn hold(container: Pid, stop_signal: Signal, signals: &SignalFd, output: &mut Output) -> io::Result<Exit> {
    loop {
        // Besides the container these are the child that made it and, when the container shares the host's process
        // ids, the orphans of its processes.
        while let Some((pid, exit)) = sys::process::reap()? {
            if pid == container.as_raw() {
                return Ok(exit);
            }
        }
        while let Some(signal) = signals.read()? {
            if signal.number != SIGCHLD {
                // It has not been reaped, so the id is still the container's.
                kill(container, stop_signal)?;
            }
        }
        output.pump();
        let mut wanted = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        if let Some(pipe) = output.pipe() {
            wanted.push(PollFd::from_borrowed_fd(pipe, PollFlags::IN));
        }
        match poll(&mut wanted, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Keeps what the event loop takes: killing processes of other users. Files it still touches are root's.
fn drop_capabilities() -> io::Result<()> {
    let kept = [caps::Capability::CAP_KILL].into_iter().collect();
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(io::Error::other)?;
    }
    Ok(())
}

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

fn notify(name: &ServiceName, state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        kmsg::write(Level::Warning, &format!("holdfast: {name}: cannot tell PID 1: {error}"));
    }
}
