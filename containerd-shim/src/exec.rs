//! Executing one more program in the running container, with exactly the isolation that its first process has: namespaces,
//! control group, user, limits, capabilities, the bit against new privileges, and the filter on system calls.
//!
//! libcontainer's own way loads no filter and forgets a user namespace, so it is not used. Two forks of the shim do the
//! work. The first joins the namespaces, tells the id of the second, and ends; it never enters the container's control
//! group, so that a frozen container does not hold the shim up. The second is born in the container's process namespace,
//! becomes what the container's processes are, and executes the program. As the first has ended, it is the shim's to reap.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use libcontainer::syscall::syscall::create_syscall;
use libcontainer::{capabilities, seccomp};
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgroups, setresgid, setresuid, setsid};
use oci_spec::runtime::{LinuxNamespaceType, PosixRlimitType, Process, Spec};
use plan::ServiceName;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::cgroup::path_in_config;

/// The exit code of a fork that could not become what the container is, as Docker's for a program that cannot be run.
const CANNOT_EXECUTE: i32 = 126;

/// A container that programs can be executed in.
#[derive(Debug)]
pub(crate) struct Container {
    pid: Pid,
    name: ServiceName,
    /// What it was made from: kept open, as its generation may be removed while it runs.
    config: File,
}

impl Container {
    /// The container `name` whose first process is `pid`, made from the `config.json` at `config`.
    pub(crate) fn new(pid: Pid, name: &ServiceName, config: &Path) -> io::Result<Self> {
        Ok(Self { pid, name: name.clone(), config: File::open(config)? })
    }

    /// Starts `args` in the container, with nothing as its input and output, in a session and process group of its own.
    /// Returns the process, which is the caller's to reap.
    pub(crate) fn exec(&self, args: &[String]) -> io::Result<Pid> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: the shim has one thread, so the child may do whatever the parent might.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(reader);
                let told = self.join(args, &mut File::from(writer));
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
    fn join(&self, args: &[String], report: &mut File) -> io::Result<()> {
        // What the shim itself has given up for as long as it only waits.
        let permitted = caps::read(None, caps::CapSet::Permitted).map_err(io::Error::other)?;
        caps::set(None, caps::CapSet::Effective, &permitted).map_err(io::Error::other)?;
        SigSet::empty().thread_set_mask()?;
        let spec = self.spec()?;
        let cgroup = Path::new("/sys/fs/cgroup")
            .join(path_in_config(&self.name).strip_prefix("/").unwrap_or(Path::new("")));
        let cgroup = OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;

        limit_as(&spec)?;
        let first = rustix::process::Pid::from_raw(self.pid.as_raw()).ok_or(io::ErrorKind::NotFound)?;
        let pidfd = pidfd_open(first, PidfdFlags::empty())?;
        setns(pidfd.as_fd(), namespaces(&spec))?;
        // SAFETY: as for the first fork.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let failed = become_contained(&spec, args, &cgroup, &null);
                drop(failed);
                std::process::exit(CANNOT_EXECUTE);
            }
            ForkResult::Parent { child } => writeln!(report, "{child}"),
        }
    }

    fn spec(&self) -> io::Result<Spec> {
        let mut text = vec![0; usize::try_from(self.config.metadata()?.len()).map_err(io::Error::other)?];
        self.config.read_exact_at(&mut text, 0)?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }
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
fn become_contained(spec: &Spec, args: &[String], mut cgroup: &File, null: &File) -> io::Result<()> {
    let other = |error: &dyn std::error::Error| io::Error::other(error.to_string());
    let process = spec.process().as_ref().ok_or(io::ErrorKind::InvalidData)?;
    cgroup.write_all(b"0")?;
    setsid()?;
    for target in 0..3 {
        dup_to(null, target)?;
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
    std::env::set_current_dir(process.cwd())?;
    let user = process.user();
    let syscall = create_syscall();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups)?;
    nix::sys::prctl::set_keepcaps(true)?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    capabilities::reset_effective(syscall.as_ref()).map_err(|error| other(&error))?;
    nix::sys::prctl::set_keepcaps(false)?;

    let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let load = || match filter {
        Some(filter) => seccomp::initialize_seccomp(filter).map(drop).map_err(|error| other(&error)),
        None => Ok(()),
    };
    // Without the bit against new privileges, loading a filter takes a privilege.
    if process.no_new_privileges().is_none() {
        load()?;
    }
    if let Some(held) = process.capabilities() {
        capabilities::drop_privileges(held, syscall.as_ref()).map_err(|error| other(&error))?;
    }
    if process.no_new_privileges().is_some() {
        load()?;
    }
    Err(execute(process, args))
}

fn execute(process: &Process, args: &[String]) -> io::Error {
    let [program, args @ ..] = args else { return io::ErrorKind::InvalidInput.into() };
    let env = process.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    Command::new(program).args(args).env_clear().envs(env).exec()
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
