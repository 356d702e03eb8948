//! The cgroups of what PID 1 starts: `system.slice/NAME` for our own, `services.slice/NAME/shim` for a service's
//! shim, which makes `services.slice/NAME/container` for its container.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use plan::paths;

use crate::supervise::Id;

const ROOT: &str = "/sys/fs/cgroup";
/// Where what belongs to the node itself lives, below [`ROOT`].
const SYSTEM_SLICE: &str = "system.slice";

/// The cgroup of a unit and of everything below it.
pub(super) fn unit(id: &Id) -> PathBuf {
    match id {
        Id::Agent => system("holdfastd"),
        Id::Service(name) => Path::new(ROOT).join(paths::SERVICES_SLICE).join(name.as_str()),
    }
}

/// The cgroup of a program of the node itself.
pub(super) fn system(name: &str) -> PathBuf {
    Path::new(ROOT).join(SYSTEM_SLICE).join(name)
}

/// Makes the cgroup that a unit's process starts in, and opens it.
pub(super) fn prepare(id: &Id) -> io::Result<File> {
    let directory = unit(id);
    match id {
        Id::Agent => open(&directory),
        Id::Service(_) => {
            fs::create_dir_all(&directory)?;
            delegate(&directory)?;
            open(&directory.join("shim"))
        }
    }
}

/// Makes a cgroup and opens it.
pub(super) fn open(directory: &Path) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    File::open(directory)
}

/// Passes on to children every controller that the cgroup itself has.
fn delegate(directory: &Path) -> io::Result<()> {
    let controllers = fs::read_to_string(directory.join("cgroup.controllers"))?;
    let enable: String = controllers.split_whitespace().map(|c| format!("+{c} ")).collect();
    fs::write(directory.join("cgroup.subtree_control"), enable.trim_end())
}

/// Kills what is in a cgroup and below it. Returns the file that tells when nothing is left: readable with
/// `POLLPRI` at each change.
pub(super) fn kill(directory: &Path) -> io::Result<File> {
    let events = File::open(directory.join("cgroup.events"))?;
    fs::write(directory.join("cgroup.kill"), "1")?;
    Ok(events)
}

/// Whether nothing is left, by a `cgroup.events` file. An unreadable one is that of a cgroup that is gone.
pub(super) fn is_empty(events: &File) -> bool {
    let mut text = [0; 256];
    let read = events.read_at(&mut text, 0).unwrap_or(0);
    !text.get(..read).unwrap_or_default().split(|b| *b == b'\n').any(|line| line == b"populated 1")
}

/// Removes an empty cgroup with those below it, and with them limits and device rules that the next start would
/// inherit. What cannot be removed yet is used again.
pub(super) fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    drop(fs::remove_dir(directory));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_empty_when_the_kernel_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let events = directory.path().join("cgroup.events");
        for (text, empty) in
            [("populated 1\nfrozen 0\n", false), ("populated 0\nfrozen 0\n", true), ("", true)]
        {
            fs::write(&events, text).unwrap();
            assert_eq!(is_empty(&kill(directory.path()).unwrap()), empty, "{text:?}");
        }
        assert_eq!(fs::read(directory.path().join("cgroup.kill")).unwrap(), b"1");
    }

    #[test]
    fn controllers_are_passed_on_and_old_cgroups_go() {
        let directory = tempfile::tempdir().unwrap();
        let group = directory.path().join("web");
        fs::create_dir_all(group.join("container/init")).unwrap();
        fs::create_dir(group.join("shim")).unwrap();
        remove(&group);
        assert!(!group.exists());
        fs::create_dir(&group).unwrap();
        fs::write(group.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        delegate(&group).unwrap();
        assert_eq!(fs::read(group.join("cgroup.subtree_control")).unwrap(), b"+cpu +memory +pids");
    }
}
