//! Disks and partitions that a configuration may be on, told by the label of their file system.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use plan::paths;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::label::{FileSystem, probe};
use crate::file::{FileError, cannot};
use crate::{console, drivers};

/// Devices that are never a seed: they are made by the node itself.
const OWN: [&str; 4] = ["dm-", "loop", "ram", "zram"];

/// The disks and partitions that were looked at.
#[derive(Debug, Default)]
pub(super) struct Disks {
    /// By name, with the size they had: a drive without a disk has none.
    seen: BTreeMap<String, String>,
}

/// A disk with a file system that may hold a configuration.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    /// The device's name.
    pub(super) name: String,
    pub(super) file_system: FileSystem,
}

impl Disks {
    /// The disks that are new since the last time.
    pub(super) fn new_ones(&mut self) -> Vec<Disk> {
        let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        let others = names.into_iter().filter(|name| OWN.iter().all(|own| !name.starts_with(own)));
        others
            .filter_map(|name| {
                let size = fs::read_to_string(format!("/sys/class/block/{name}/size")).unwrap_or_default();
                if self.seen.get(&name) == Some(&size) {
                    return None;
                }
                self.seen.insert(name.clone(), size);
                // A drive without a disk in it, or one that cannot be read, is no seed.
                let file_system = File::open(device(&name)).and_then(|mut file| probe(&mut file)).ok()??;
                Some(Disk { name, file_system })
            })
            .collect()
    }

    /// The names of the devices that were looked at.
    pub(super) fn names(&self) -> Vec<&str> {
        self.seen.keys().map(String::as_str).collect()
    }
}

impl Disk {
    /// Mounts it to read from it.
    pub(super) fn mount(&self) -> Result<Mounted, FileError> {
        let kind = self.file_system.kind;
        drivers::load(match kind {
            "vfat" => &["vfat", "nls_cp437", "nls_ascii"],
            "udf" => &["udf"],
            _ => &["isofs"],
        });
        let target = Path::new(paths::RUN).join("seed");
        fs::create_dir_all(&target).map_err(cannot("make the directory", &target))?;
        // An agent that was killed here left its mount behind.
        if unmount(&target, UnmountFlags::DETACH).is_ok() {
            console::notice("user-data: reading it again");
        }
        let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
        let device = device(&self.name);
        mount(&device, &target, kind, flags, None).map_err(|error| cannot("mount", &device)(error.into()))?;
        Ok(Mounted(target))
    }
}

fn device(name: &str) -> PathBuf {
    Path::new("/dev").join(name)
}

/// A mounted disk; unmounted when it is dropped.
#[derive(Debug)]
pub(super) struct Mounted(PathBuf);

impl Mounted {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            console::warning(format_args!("cannot unmount {}: {error}", self.0.display()));
        }
    }
}

/// The content of a file, `None` when there is none. At most one byte more than user-data may have is read, so that a
/// larger file is seen to be too large.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let limit = config::MAX_SIZE as u64 + 1;
    let read = || -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        File::open(path)?.take(limit).read_to_end(&mut content)?;
        Ok(content)
    };
    match read() {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("read", path)(error)),
    }
}
