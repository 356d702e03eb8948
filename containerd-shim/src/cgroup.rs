//! The container's cgroup as far as the shim touches it: whoever is in it is killed, then it is removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plan::ServiceName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long killed processes may take to be gone. A process that sits in the kernel longer than this waits for a
/// device that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the cgroup is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("cannot empty the cgroup {path}")]
    Kill { path: PathBuf, source: io::Error },
    #[error("processes in the cgroup {path} do not end although they were killed")]
    Stuck { path: PathBuf },
    #[error("cannot remove the cgroup {path}")]
    Remove { path: PathBuf, source: io::Error },
}

/// The cgroup of one service's container.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

/// The cgroup's name as `config.json` has it, from the root of the cgroup file system.
pub(crate) fn path_in_config(name: &ServiceName) -> PathBuf {
    Path::new("/").join(plan::paths::SERVICES_SLICE).join(name.as_str()).join("container")
}

impl Cgroup {
    /// That of the service `name`; it need not exist.
    pub(crate) fn of(name: &ServiceName) -> Self {
        Self {
            path: Path::new("/sys/fs/cgroup")
                .join(path_in_config(name).strip_prefix("/").unwrap_or(Path::new(""))),
        }
    }

    /// Makes it, where its service has one.
    pub(crate) fn make(&self) -> io::Result<()> {
        fs::create_dir(&self.path)
    }

    /// One of its files, for reading.
    pub(crate) fn open(&self, file: &str) -> io::Result<File> {
        File::open(self.path.join(file))
    }

    /// What one of its files says.
    pub(crate) fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path.join(file))
    }

    /// Writes to one of its files.
    pub(crate) fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.path.join(file), text)
    }

    /// All processes in it and below it.
    pub(crate) fn processes(&self) -> io::Result<Vec<u32>> {
        let mut processes = Vec::new();
        add_processes(&self.path, &mut processes)?;
        Ok(processes)
    }

    /// That in this directory.
    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Kills whoever is in it and removes it with the cgroups below it. One that does not exist is fine.
    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        let path = || self.path.clone();
        match fs::write(self.path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            killed => killed.map_err(|source| CgroupError::Kill { path: path(), source })?,
        }
        if !wait_until_empty(&self.path).map_err(|source| CgroupError::Kill { path: path(), source })? {
            return Err(CgroupError::Stuck { path: path() });
        }
        remove_tree(&self.path).map_err(|source| CgroupError::Remove { path: path(), source })
    }
}

/// Waits for `populated 0` in cgroup.events, which the kernel announces as a priority event
/// (Documentation/admin-guide/cgroup-v2.rst, "Un-populated Notification"). False: not in time.
fn wait_until_empty(path: &Path) -> io::Result<bool> {
    let end = Instant::now() + PATIENCE;
    let path = path.join("cgroup.events");
    let events = File::open(&path)?;
    loop {
        // Read anew through the same file: a poll reports changes since its last read.
        let mut text = [0; 128];
        let length = rustix::io::pread(&events, &mut text, 0)?;
        if text[..length].split(|&b| b == b'\n').any(|line| line == b"populated 0") {
            return Ok(true);
        }
        let Some(left) = end.checked_duration_since(Instant::now()) else { return Ok(false) };
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn add_processes(path: &Path, processes: &mut Vec<u32>) -> io::Result<()> {
    let text = fs::read_to_string(path.join("cgroup.procs"))?;
    processes.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // The container may remove its own meanwhile.
        if entry.file_type()?.is_dir() {
            add_processes(&entry.path(), processes).unwrap_or(());
        }
    }
    Ok(())
}

/// Removes a cgroup and those below it: the files in them go by themselves.
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
