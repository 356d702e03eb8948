//! The host that services run on: file systems in memory, control groups, kernel settings, identity.
//!
//! Every step stands alone: one that fails is said on the console and the others are done.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use plan::paths;
use rustix::mount::{MountFlags, mount};

use crate::{clock, console, random, sysctl};

/// Where the control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The controllers that services may be given limits of.
const CONTROLLERS: &str = "+cpuset +cpu +io +memory +pids";

/// The branches of the tree: name, bytes of memory that the kernel leaves to it however much the others want (about
/// twice what it was measured to take), and its share of the processors while they are scarce. PID 1 answers whatever
/// happens, containers come before the node's own work.
const BRANCHES: [(&str, u64, u32); 3] =
    [("init.scope", 4 << 20, 10_000), ("system.slice", 24 << 20, 100), (paths::SERVICES_SLICE, 0, 1000)];

/// What links in the root lead to, so that people can write below `/opt` and mount below `/srv` (rootfs/root.toml).
const LINKED: [(&str, u32); 5] = [
    ("/var/home", 0o755),
    ("/var/mnt", 0o755),
    ("/var/opt", 0o755),
    ("/var/root", 0o700),
    ("/var/srv", 0o755),
];

/// Does all that needs no state.
pub(crate) fn prepare() {
    attempt("set the clock", clock::raise());
    attempt("mount /etc, /tmp and the rest", memory_file_systems());
    attempt("fill /etc", copy_tree(Path::new(paths::ETC_SKELETON), Path::new("/etc")));
    attempt("make the control groups", control_groups());
    sysctl::apply();
    attempt("bring up the loopback device", sys::net::loopback_up());
    attempt("set the host name", rustix::system::sethostname(b"holdfast").map_err(io::Error::from));
}

/// Does what needs `/var`.
pub(crate) fn after_state() {
    // Before anything is written there, so that no file is older than it is.
    attempt("set the clock", clock::raise());
    attempt("make the directories on /var", state_directories());
    attempt("load the random seed", random::load_seed());
    attempt("set the machine's id", machine_id());
}

fn attempt(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        console::warning(format_args!("cannot {what}: {error}"));
    }
}

/// Points standard input, output and error to nothing: a console that nobody reads must not block PID 1.
pub(crate) fn no_standard_streams() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

fn memory_file_systems() -> io::Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for directory in ["/dev/pts", "/dev/shm"] {
        fs::create_dir_all(directory)?;
    }
    mount("tmpfs", "/etc", "tmpfs", quiet, Some(c"mode=0755,size=4m"))?;
    mount("tmpfs", "/tmp", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=1777,size=10%"))?;
    mount("tmpfs", "/dev/shm", "tmpfs", quiet, Some(c"mode=1777,size=10%"))?;
    let terminals = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "/dev/pts", "devpts", terminals, Some(c"mode=0620,ptmxmode=0666"))?;
    Ok(())
}

/// Copies directories, files and links with their permissions; the skeleton of `/etc` is small.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else if kind.is_dir() {
            fs::create_dir(&target)?;
            fs::set_permissions(&target, entry.metadata()?.permissions())?;
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Who is ended last when memory is short, as far as the kernel may choose (proc_pid_oom_score_adj(5)): the node's own programs
/// have this from PID 1, and containers get what the configuration says. Not the least that there is: an agent that takes all
/// memory is to be ended, too.
const OOM_SCORE_ADJ: &str = "-900";

/// Limits hold for whoever is given a group, memory that is kept for a group is kept for those in it, and moving a process
/// does not wait until all processors have taken notice: a third of starting a container would be that wait
/// (admin-guide/cgroup-v2.rst, "Mounting").
const CGROUP_OPTIONS: &CStr = c"nsdelegate,memory_recursiveprot,favordynmods";

/// The tree that everything runs in: PID 1, the node's own programs, and the services, each on its own branch.
fn control_groups() -> io::Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("cgroup2", CGROUPS, "cgroup2", quiet, Some(CGROUP_OPTIONS))?;
    let root = Path::new(CGROUPS);
    for (branch, ..) in BRANCHES {
        fs::create_dir_all(root.join(branch))?;
    }
    fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ)?;
    fs::write(root.join("init.scope/cgroup.procs"), "1")?;
    for parent in ["", "system.slice", paths::SERVICES_SLICE] {
        fs::write(root.join(parent).join("cgroup.subtree_control"), CONTROLLERS)?;
    }
    for (branch, memory, weight) in BRANCHES {
        fs::write(root.join(branch).join("memory.min"), memory.to_string())?;
        fs::write(root.join(branch).join("cpu.weight"), weight.to_string())?;
    }
    Ok(())
}

/// The control group of one of the node's own programs, made if need be.
pub(crate) fn system_group(name: &str) -> io::Result<File> {
    let group = Path::new(CGROUPS).join("system.slice").join(name);
    fs::create_dir_all(&group)?;
    File::open(group)
}

/// Whether a process runs in the branches of the node's programs and of the services.
pub(crate) fn is_populated() -> bool {
    branches().any(|branch| {
        let events = fs::read_to_string(branch.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "populated 1")
    })
}

/// Kills every process in those branches.
pub(crate) fn kill_all() {
    for branch in branches() {
        attempt("kill what still runs", fs::write(branch.join("cgroup.kill"), "1"));
    }
}

fn branches() -> impl Iterator<Item = PathBuf> {
    ["system.slice", paths::SERVICES_SLICE].iter().map(|branch| Path::new(CGROUPS).join(branch))
}

fn state_directories() -> io::Result<()> {
    for directory in [paths::GENERATIONS, paths::CONTAINERS, paths::LOGS] {
        fs::create_dir_all(directory)?;
    }
    fs::set_permissions("/var/lib/holdfast", fs::Permissions::from_mode(0o700))?;
    for (directory, mode) in LINKED {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// `/etc/machine-id`: drawn once for each state (machine-id(5)).
fn machine_id() -> io::Result<()> {
    let kept = Path::new("/var/lib/holdfast/machine-id");
    let id = match fs::read_to_string(kept) {
        Ok(id) if id.trim_end().len() == 32 => id,
        _ => {
            let mut id: String = random::bytes::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect();
            id.push('\n');
            let mut file = File::create(kept)?;
            file.write_all(id.as_bytes())?;
            id
        }
    };
    fs::write("/etc/machine-id", id)
}
