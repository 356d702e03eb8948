//! Executing one more program in the running container, with exactly the isolation that its first process has: namespaces,
//! control group, user, limits, capabilities, the bit against new privileges, and the filter on system calls.
//!
//! libcontainer's own way loads no filter and forgets a user namespace, so it is not used. Two forks of the shim do the
//! work. The first joins the namespaces, tells the id of the second, and ends; it never enters the container's control
//! group, so that a frozen container does not hold the shim up. The second is born in the container's process namespace,
//! becomes what the container's processes are, and executes the program. As the first has ended, it is the shim's to reap.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use libcontainer::capabilities;
use libcontainer::syscall::syscall::create_syscall;
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgroups, setresgid, setresuid, setsid};
use oci_spec::runtime::{LinuxNamespaceType, PosixRlimitType, Process, Spec};
use plan::ServiceName;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, makedev, openat, openat2};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, ioctl_tiocsctty, pidfd_open};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use seccomp::Filter;

use crate::cgroup::path_in_config;
use crate::create::Completed;

/// The exit code of a fork that could not become what the container is, as Docker's for a program that cannot be run.
const CANNOT_EXECUTE: i32 = 126;

/// And for one that is not there.
const NOT_FOUND: i32 = 127;

/// What is executed.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) args: Vec<String>,
    /// In place of the container's variables.
    pub(crate) env: Option<Vec<String>>,
    /// In place of the container's directory.
    pub(crate) cwd: Option<PathBuf>,
}

/// What a program reads and writes.
#[derive(Debug)]
pub(crate) struct Stdio {
    pub(crate) files: [File; 3],
    /// They are a terminal, which becomes the program's own.
    pub(crate) terminal: bool,
}

impl Stdio {
    /// Nothing.
    pub(crate) fn null() -> io::Result<Self> {
        let null = || OpenOptions::new().read(true).write(true).open("/dev/null");
        Ok(Self { files: [null()?, null()?, null()?], terminal: false })
    }

    /// A terminal, by its slave.
    pub(crate) fn terminal(slave: File) -> io::Result<Self> {
        Ok(Self { files: [slave.try_clone()?, slave.try_clone()?, slave], terminal: true })
    }
}

/// A container that programs can be executed in.
#[derive(Debug)]
pub(crate) struct Container {
    pid: Pid,
    name: ServiceName,
    /// What it was made from.
    config: File,
    filter: Option<File>,
}

impl Container {
    /// The container `name` whose first process is `pid`.
    pub(crate) fn new(pid: Pid, name: &ServiceName, from: &Completed) -> io::Result<Self> {
        let filter = match File::open(from.filter()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened?),
        };
        Ok(Self { pid, name: name.clone(), config: File::open(from.config())?, filter })
    }

    /// Starts `program` in the container, in a session and process group of its own. Returns the process, which is the
    /// caller's to reap.
    pub(crate) fn exec(&self, program: &Program, stdio: &Stdio) -> io::Result<Pid> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: the shim has one thread, so the child may do whatever the parent might.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(reader);
                let told = self.join(program, stdio, &mut File::from(writer));
                std::process::exit(if told.is_ok() { 0 } else { CANNOT_EXECUTE });
            }
            ForkResult::Parent { .. } => {
                drop(writer);
                // One line, not all: the second fork holds the pipe, too, and may be frozen with its container.
                let mut pid = String::new();
                BufReader::new(File::from(reader)).read_line(&mut pid)?;
                let pid = pid.trim().parse().map_err(|_| io::Error::other("cannot enter the container"))?;
                Ok(Pid::from_raw(pid))
            }
        }
    }

    /// The first fork's part of [`Self::exec`].
    fn join(&self, program: &Program, stdio: &Stdio, report: &mut File) -> io::Result<()> {
        take_up_capabilities()?;
        SigSet::empty().thread_set_mask()?;
        let spec = serde_json::from_slice(&content(&self.config)?)?;
        let filter = self.filter.as_ref().map(|file| {
            let filter = Filter::from_bytes(&content(file)?);
            filter.ok_or_else(|| io::Error::other("the filter on system calls is not whole"))
        });
        let filter = filter.transpose()?;
        let cgroup = Path::new("/sys/fs/cgroup")
            .join(path_in_config(&self.name).strip_prefix("/").unwrap_or(Path::new("")));
        let cgroup = OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?;

        limit_as(&spec)?;
        let first = rustix::process::Pid::from_raw(self.pid.as_raw()).ok_or(io::ErrorKind::NotFound)?;
        let pidfd = pidfd_open(first, PidfdFlags::empty())?;
        setns(pidfd.as_fd(), namespaces(&spec))?;
        // SAFETY: as for the first fork.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let failed = become_contained(&spec, filter.as_ref(), program, &cgroup, stdio);
                let code = match failed {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => NOT_FOUND,
                    Ok(()) | Err(_) => CANNOT_EXECUTE,
                };
                std::process::exit(code);
            }
            ForkResult::Parent { child } => writeln!(report, "{child}"),
        }
    }

    /// Opens a terminal of the container's own: master and slave. The container cannot lead it to anything else.
    pub(crate) fn open_terminal(&self) -> io::Result<(File, File)> {
        take_up_capabilities()?;
        let opened = self.open_own_terminal();
        give_up_capabilities()?;
        opened
    }

    fn open_own_terminal(&self) -> io::Result<(File, File)> {
        let root = File::open(format!("/proc/{}/root", self.pid))?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let safe = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // What it is decides; opening anything but a multiplexer would have effects.
        let named = openat2(&root, "dev/pts/ptmx", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), safe)?;
        let found = fstat(&named)?;
        if !FileType::from_raw_mode(found.st_mode).is_char_device() || found.st_rdev != makedev(5, 2) {
            return Err(io::Error::other("the container has no /dev/pts/ptmx"));
        }
        let master = openat(CWD, format!("/proc/self/fd/{}", named.as_raw_fd()), flags, Mode::empty())?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        Ok((master.into(), slave.into()))
    }
}

/// All of a file, from its beginning.
fn content(file: &File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// Takes up what the shim has given up for as long as it only waits.
fn take_up_capabilities() -> io::Result<()> {
    let permitted = caps::read(None, caps::CapSet::Permitted).map_err(io::Error::other)?;
    caps::set(None, caps::CapSet::Effective, &permitted).map_err(io::Error::other)
}

/// Keeps what the event loop takes: killing processes of other users. Files it still touches are root's. The rest stays
/// within reach, as entering the container takes most of it.
pub(crate) fn give_up_capabilities() -> io::Result<()> {
    let kept = [caps::Capability::CAP_KILL].into_iter().collect();
    caps::set(None, caps::CapSet::Effective, &kept).map_err(io::Error::other)
}

/// The namespaces to join: all, as those that are the node's are there already. A process cannot join its own user namespace,
/// though, and none has one of time: libcontainer makes containers without.
fn namespaces(spec: &Spec) -> CloneFlags {
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET;
    if has_own_ids(spec) { all | CloneFlags::CLONE_NEWUSER } else { all }
}

fn has_own_ids(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|all| all.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User))
}

/// Takes on the container's limits, which only the node's root may raise.
fn limit_as(spec: &Spec) -> io::Result<()> {
    let process = spec.process().as_ref().ok_or(io::ErrorKind::InvalidData)?;
    let adj = process.oom_score_adj().unwrap_or(0).to_string();
    fs::write("/proc/self/oom_score_adj", adj)?;
    for limit in process.rlimits().iter().flatten() {
        setrlimit(resource(limit.typ()), limit.soft(), limit.hard())?;
    }
    Ok(())
}

/// Makes this process one of the container's and executes the program. Returns why that failed. The order is
/// libcontainer's for the first process.
fn become_contained(
    spec: &Spec,
    filter: Option<&Filter>,
    program: &Program,
    mut cgroup: &File,
    stdio: &Stdio,
) -> io::Result<()> {
    let other = |error: &dyn std::error::Error| io::Error::other(error.to_string());
    let process = spec.process().as_ref().ok_or(io::ErrorKind::InvalidData)?;
    cgroup.write_all(b"0")?;
    setsid()?;
    for (target, file) in (0..).zip(&stdio.files) {
        dup_to(file, target)?;
    }
    if has_own_ids(spec) {
        // Whoever has joined a user namespace is nobody in it, if with all rights.
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
    }
    if process.no_new_privileges() == Some(true) {
        nix::sys::prctl::set_no_new_privs()?;
    }
    std::env::set_current_dir(program.cwd.as_ref().unwrap_or(process.cwd()))?;
    let user = process.user();
    if stdio.terminal {
        ioctl_tiocsctty(&stdio.files[0])?;
        // Programs open their terminal by name. A user namespace may not know the one who has made it.
        fchown(&stdio.files[0], Some(user.uid()), None).unwrap_or(());
    }
    let syscall = create_syscall();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups)?;
    nix::sys::prctl::set_keepcaps(true)?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    capabilities::reset_effective(syscall.as_ref()).map_err(|error| other(&error))?;
    nix::sys::prctl::set_keepcaps(false)?;

    if let Some(held) = process.capabilities() {
        capabilities::drop_privileges(held, syscall.as_ref()).map_err(|error| other(&error))?;
    }
    filter.map_or(Ok(()), Filter::load)?;
    Err(execute(process, program))
}

fn execute(process: &Process, what: &Program) -> io::Error {
    let [program, args @ ..] = &what.args[..] else { return io::ErrorKind::InvalidInput.into() };
    let env = what.env.as_ref().or(process.env().as_ref());
    let env = env.into_iter().flatten().filter_map(|variable| variable.split_once('='));
    let mut command = Command::new(program);
    command.args(args).env_clear().env("HOME", home(process.user().uid())).envs(env);
    let error = command.exec();
    // To whoever has asked for it, as a shell would.
    eprintln!("cannot execute {program}: {error}");
    error
}

/// The home of a user by the container's own files, for a container that names none: libcontainer looks there, too.
fn home(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|fields| fields.get(2).is_some_and(|found| found.parse() == Ok(uid)));
    let home = user.and_then(|fields| fields.get(5).map(|home| (*home).to_owned()));
    home.filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned())
}

fn dup_to(file: &File, target: i32) -> io::Result<()> {
    match target {
        0 => rustix::stdio::dup2_stdin(file)?,
        1 => rustix::stdio::dup2_stdout(file)?,
        _ => rustix::stdio::dup2_stderr(file)?,
    }
    Ok(())
}

pub(crate) fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}
