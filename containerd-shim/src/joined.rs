//! The container of another service that this one is made in: with its processes, its memory, and its users.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use plan::container::Joined;
use plan::{ServiceName, paths};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use task::{Call, Client, Running};

use crate::cgroup::Cgroup;
use crate::ids::attach;

/// Why a container cannot be made in another one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("the service '{service}', whose processes or memory it shares, does not run")]
    NotRunning { service: ServiceName },
    #[error("cannot {what} of the service '{service}'")]
    Step { what: &'static str, service: ServiceName, source: io::Error },
}

/// What is open of the other container.
#[derive(Debug)]
pub(crate) struct Neighbour {
    /// Its first process: when that one ends, so do its namespaces.
    process: OwnedFd,
    number: i32,
    users: Option<OwnedFd>,
    /// Names of links, and what they lead to.
    links: Vec<(&'static str, File)>,
}

impl Neighbour {
    /// Opens what is to be shared. `users`: its users, too.
    pub(crate) fn open(joined: &Joined, users: bool) -> Result<Self, JoinError> {
        let service = &joined.of.service;
        let not_running = || JoinError::NotRunning { service: service.clone() };
        let (number, process) = first_process(service).ok_or_else(not_running)?;
        let open = |kind: &str| {
            let opened = File::open(format!("/proc/{number}/ns/{kind}"));
            opened.map_err(|source| JoinError::Step {
                what: "open a namespace",
                service: service.clone(),
                source,
            })
        };
        let users = users.then(|| open("user").map(OwnedFd::from)).transpose()?;
        let mut links = Vec::new();
        for (name, kind, wanted) in [("pidns", "pid", joined.pid), ("ipcns", "ipc", joined.ipc)] {
            if wanted {
                links.push((name, open(kind)?));
            }
        }
        // It has not ended meanwhile, so the number was its own.
        let still = is_of(number, service);
        still.then_some(Self { process, number, users, links }).ok_or_else(not_running)
    }

    /// Its user namespace, when that was asked for.
    pub(crate) fn take_users(&mut self) -> Option<OwnedFd> {
        self.users.take()
    }

    /// Puts what `config.json` joins and mounts below the shim's own `directory`.
    pub(crate) fn prepare(&self, directory: &Path, joined: &Joined) -> Result<(), JoinError> {
        let step = |what: &'static str| {
            let service = joined.of.service.clone();
            move |source| JoinError::Step { what, service, source }
        };
        for (name, namespace) in &self.links {
            symlink(format!("/proc/self/fd/{}", namespace.as_raw_fd()), directory.join(name))
                .map_err(step("name a namespace"))?;
        }
        if joined.ipc {
            let target = directory.join("shm");
            let mounted = self.shared_memory().and_then(|tree| {
                fs::create_dir(&target)?;
                Ok(attach(&tree, &target)?)
            });
            mounted.map_err(step("mount /dev/shm"))?;
        }
        Ok(())
    }

    /// The other container's `/dev/shm`. Only among its own mounts the kernel lets it be taken, so this process is there for
    /// a moment. A link that the container may have put in its place is not followed.
    fn shared_memory(&self) -> io::Result<OwnedFd> {
        let own = File::open("/proc/self/ns/mnt")?;
        setns(File::open(format!("/proc/{}/ns/mnt", self.number))?, CloneFlags::CLONE_NEWNS)?;
        let safe = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tree = openat2(CWD, "/dev/shm", flags, Mode::empty(), safe).and_then(|directory| {
            let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(&directory, c"", clone | OpenTreeFlags::AT_EMPTY_PATH)
        });
        setns(own, CloneFlags::CLONE_NEWNS)?;
        Ok(tree?)
    }

    /// The handle of its first process, to be watched.
    pub(crate) fn into_process(self) -> OwnedFd {
        self.process
    }
}

/// The first process of another service's container, once its program runs: while it is made, what is its own is not there
/// yet. Its shim knows.
fn first_process(service: &ServiceName) -> Option<(i32, OwnedFd)> {
    let mut shim = Client::connect(&paths::task_socket(service.as_str()), service.as_str()).ok()?;
    let running = Running::read_connect(&shim.call(&Call::Connect).ok()?).ok()?;
    let number = i32::try_from(running.pid).ok()?;
    let handle = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    // Still there, so the handle is that of the process and not of one that came after it.
    is_of(number, service).then_some((number, handle))
}

fn is_of(process: i32, service: &ServiceName) -> bool {
    let all = Cgroup::of(service).processes().unwrap_or_default();
    all.into_iter().any(|number| i32::try_from(number) == Ok(process))
}

#[cfg(test)]
mod tests {
    use plan::Shared;

    use super::*;

    #[test]
    fn a_service_that_does_not_run_is_an_error_that_names_it() {
        let of = Shared { service: ServiceName::new("nowhere").unwrap(), digest: String::new() };
        let error = Neighbour::open(&Joined { of, pid: true, ipc: false }, true).unwrap_err();
        assert!(error.to_string().contains("'nowhere'"), "{error}");
    }
}
