//! Creating a container: the only place that calls libcontainer.
//!
//! It runs in a fork of the shim that ends when the container's program has been started. The shim has one thread,
//! so the fork is sound and needs no exec; what libcontainer allocates, leaks or changes of its process (file
//! descriptors, `oom_score_adj`, being dumpable) ends with it.
//!
//! How it goes is told through a pipe: [`crate::report`].

use std::convert::Infallible;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, Pid, fork};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use plan::{ServiceName, ShimConfig};
use seccomp::Filter;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::cgroup::{Cgroup, path_in_config};
use crate::devices;
use crate::filter;
use crate::ids::{self, Ids};
use crate::init;
use crate::log::Ends;
use crate::network;
use crate::report::{self, Report};
use crate::run::directory;
use crate::spec;

/// Why the container does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    #[error("cannot start the process that creates the container")]
    Fork(#[source] io::Error),
    #[error("{reason}")]
    Refused { code: u8, reason: String },
    #[error("{reason}: its layer has changed on the disk, and is pulled again")]
    Damaged { reason: String },
    #[error("the process that creates the container ended without a word")]
    Silent,
    #[error("one of the processes that create the container was killed")]
    Killed,
}

/// What the container's program reads and writes.
#[derive(Debug)]
pub(crate) struct Stdio<'a> {
    pub(crate) stdin: File,
    pub(crate) output: Ends,
    /// In their place a terminal, whose master is sent to this socket.
    pub(crate) console: Option<&'a Path>,
}

/// Creates the container of `bundle` on `rootfs`, with `stdio`, and starts its program. Returns the container's first process.
pub(crate) fn create(
    bundle: &Path,
    config: &ShimConfig,
    rootfs: &Path,
    ids: Option<&Ids>,
    stdio: Stdio<'_>,
) -> Result<Pid, CreateError> {
    let (hearer, report) = report::pipe().map_err(CreateError::Fork)?;
    // SAFETY: the shim has one thread, so the child may do whatever the parent might.
    match unsafe { fork() }.map_err(|error| CreateError::Fork(error.into()))? {
        ForkResult::Child => {
            drop(hearer);
            let Err(reason) = create_here(bundle, config, rootfs, ids, stdio, &report);
            report.refused(crate::CANNOT_RUN, &reason);
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            drop((report, stdio));
            hearer.hear(child)
        }
    }
}

/// The child's part of [`create`]. Ends the process when the container's program has been started: giving memory back first
/// would copy the pages that are shared with the shim.
fn create_here(
    bundle: &Path,
    config: &ShimConfig,
    rootfs: &Path,
    ids: Option<&Ids>,
    stdio: Stdio<'_>,
    report: &Report,
) -> Result<Infallible, String> {
    let said = |what: &'static str| move |error: &dyn std::error::Error| format!("cannot {what}: {error}");
    report::end_with_the_killed().map_err(|error| said("watch its processes")(&error))?;
    SigSet::empty().thread_set_mask().map_err(|error| said("unblock signals")(&error))?;
    // The shim's own is for the shim. libcontainer overwrites it when config.json has one.
    fs::write("/proc/self/oom_score_adj", "0").map_err(|error| said("set oom_score_adj")(&error))?;

    tracing::subscriber::set_global_default(FirstError(report.clone()))
        .map_err(|error| said("listen to libcontainer")(&error))?;

    let init = config.init.then(init::handle).transpose().map_err(|error| said("open its init")(&error))?;
    let init = init.map(Arc::new);
    let path = bundle.join("config.json");
    // libcontainer's way, from a reader, takes four times the work.
    let spec = fs::read(&path).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
    let mut spec: Spec = spec.map_err(|error| format!("cannot understand {}: {error}", path.display()))?;
    check(&spec, config, rootfs).map_err(|error| format!("{}: {error}", path.display()))?;
    if ids.is_some() {
        network::enter_shared(&mut spec)
            .map_err(|error| said("join the other container's network")(&error))?;
    }
    spec::complete(&mut spec, config, rootfs, ids).map_err(|error| chain(&error))?;
    let filter = filter::take(&mut spec).map_err(|error| said("make its filter on system calls")(&error))?;
    let completed = Completed::of(&config.name);
    completed.keep(&spec, filter.as_ref()).map_err(|error| said("keep the completed config.json")(&error))?;
    let cgroup = Cgroup::of(&config.name);
    cgroup.make().map_err(|error| said("make its control group")(&error))?;
    devices::restrict(&cgroup, &spec).map_err(|error| chain(&error))?;
    if let Some(process) = spec.process() {
        // Programs open /dev/stdout as the user they run as.
        let user = process.user();
        let on_node = |id| config.ids.map_or(Some(id), |ids| ids.on_node(id));
        let owner = (on_node(user.uid()), on_node(user.gid()));
        if owner.0 != Some(0) {
            for end in [&stdio.stdin, &stdio.output.stdout, &stdio.output.stderr] {
                // What is no pipe is the node's /dev/null.
                if !end.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
                    continue;
                }
                fchown(end, owner.0, owner.1).map_err(|error| said("give away the log's pipe")(&error))?;
            }
        }
        if ids.is_some() {
            ids::raise_limits(process).map_err(|error| said("raise limits")(&error))?;
        }
    }

    let mut container = ContainerBuilder::new(config.name.to_string(), SyscallType::default())
        .with_executor(Exec { report: report.clone(), init, filter })
        .with_root_path(directory(&config.name).join("state"))
        .map_err(|error| error.to_string())?
        .with_console_socket(stdio.console)
        .with_stdin(stdio.stdin)
        .with_stdout(stdio.output.stdout)
        .with_stderr(stdio.output.stderr)
        .as_init(completed.bundle())
        .with_systemd(false)
        .build()
        .map_err(|error| error.to_string())?;
    let pid = container.pid().ok_or("libcontainer made no process")?;
    report.pid(pid.as_raw());

    without_swap(&spec, &config.name).map_err(|error| said("set memory.swap.max")(&error))?;
    if has_own_network(&spec) {
        let interfaces = config.network.as_ref().map_or(&[][..], |network| &network.interfaces);
        network::connect(pid.as_raw(), interfaces).map_err(|error| sys::console::chain(&error))?;
    }
    container.start().map_err(|error| error.to_string())?;
    std::process::exit(0)
}

/// What a container was made from: the bundle with what only the image and the node can tell, and without the filter,
/// which lies beside it as the kernel takes it.
#[derive(Debug)]
pub(crate) struct Completed(PathBuf);

impl Completed {
    /// That of the service `name`.
    pub(crate) fn of(name: &ServiceName) -> Self {
        Self(directory(name).join("bundle"))
    }

    /// That in this directory.
    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn bundle(&self) -> &Path {
        &self.0
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// There is none when the container has no filter.
    pub(crate) fn filter(&self) -> PathBuf {
        self.0.join("filter")
    }

    fn keep(&self, spec: &Spec, filter: Option<&Filter>) -> io::Result<()> {
        fs::create_dir(&self.0)?;
        if let Some(filter) = filter {
            fs::write(self.filter(), filter.to_bytes())?;
        }
        spec.save(self.config()).map_err(io::Error::other)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What the shim takes for granted of `config.json`.
fn check(spec: &Spec, config: &ShimConfig, rootfs: &Path) -> Result<(), String> {
    let same = |key: &str, wanted: &Path, found: Option<&PathBuf>| match found {
        Some(found) if found == wanted => Ok(()),
        found => Err(format!("{key} is {found:?}, must be {wanted:?}")),
    };
    same("root.path", rootfs, spec.root().as_ref().map(|root| root.path()))?;
    let cgroup = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    same("linux.cgroupsPath", &path_in_config(&config.name), cgroup)?;
    match spec.process().as_ref().and_then(|process| process.args().as_ref()) {
        Some(args) if !args.is_empty() => Ok(()),
        _ => Err("process.args is empty: neither the service nor its image names a program".into()),
    }
}

/// A limit of memory and swap together that equals the one of memory means no swap; libcontainer leaves it unlimited.
fn without_swap(spec: &Spec, name: &ServiceName) -> io::Result<()> {
    let memory = spec.linux().as_ref().and_then(|l| l.resources().as_ref()).and_then(|r| r.memory().as_ref());
    match memory {
        Some(memory) if memory.limit().is_some() && memory.limit() == memory.swap() => {
            let cgroup = path_in_config(name);
            fs::write(format!("/sys/fs/cgroup{}/memory.swap.max", cgroup.display()), "0")
        }
        _ => Ok(()),
    }
}

fn has_own_network(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|all| {
        all.iter().any(|ns| ns.typ() == LinuxNamespaceType::Network && ns.path().is_none())
    })
}

/// Executes the container's program, as its first process or as that one's child.
#[derive(Clone)]
struct Exec {
    report: Report,
    /// This program, for a container that has an init.
    init: Option<Arc<File>>,
    filter: Option<Filter>,
}

impl Executor for Exec {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = spec.process().as_ref().and_then(|process| process.args().as_deref()).unwrap_or_default();
        let [program, args @ ..] = args else { return Err(ExecutorError::InvalidArg) };
        if let Some(Err(error)) = self.filter.as_ref().map(Filter::load) {
            let reason = format!("cannot load the filter on system calls: {error}");
            self.report.refused(crate::CANNOT_RUN, &reason);
            return Err(ExecutorError::Other(reason));
        }
        if let Some(own) = &self.init {
            let error = init::become_init(own, &self.report, program, args);
            let reason = format!("cannot execute the container's init: {error}");
            self.report.refused(crate::CANNOT_RUN, &reason);
            return Err(ExecutorError::Other(reason));
        }
        let error = Command::new(program).args(args).exec();
        Err(ExecutorError::Other(self.report.not_executed(program, &error)))
    }

    /// What libcontainer would look for is found out by executing it.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}

/// Passes libcontainer's first error on: the texts it returns leave out the cause.
#[derive(Debug)]
struct FirstError(Report);

impl Subscriber for FirstError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    /// What is below it is then not even looked at.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &Field, value: &dyn Debug| match field.name() {
            "message" => text.insert_str(0, &format!("{value:?} ")),
            name => text.push_str(&format!("{name}={value:?} ")),
        });
        self.0.line(&format!("cause {}\n", text.trim_end().replace('\n', " ")));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_for_another_root_or_cgroup_or_without_a_program_is_refused() {
        let config = ShimConfig {
            name: ServiceName::new("web").unwrap(),
            layers: Vec::new(),
            sealed: Default::default(),
            writable: "/var".into(),
            layer_size: None,
            stop_signal: 15,
            log: plan::Log::None,
            certificates: None,
            user: plan::container::User::default(),
            directories: Vec::new(),
            files: Vec::new(),
            ids: None,
            joined: None,
            binds: Vec::new(),
            devices: Vec::new(),
            terminal: false,
            init: false,
            stdin_open: false,
            health: None,
            notify: None,
            network: None,
        };
        let check = |root: &str, cgroup: &str, args: &[&str]| {
            let process = serde_json::json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": args});
            let spec = serde_json::json!({
                "ociVersion": "1.0.2", "process": process, "root": {"path": root}, "linux": {"cgroupsPath": cgroup}
            });
            check(&serde_json::from_value(spec).unwrap(), &config, Path::new("/r"))
        };
        let cgroup = "/services.slice/web/container";
        assert_eq!(check("/r", cgroup, &["nginx"]), Ok(()));
        assert!(check("/other", cgroup, &["nginx"]).unwrap_err().contains("root.path"));
        assert!(check("/r", "web", &["nginx"]).unwrap_err().contains("linux.cgroupsPath"));
        assert!(check("/r", cgroup, &[]).unwrap_err().contains("process.args"));
    }
}
