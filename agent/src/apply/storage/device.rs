//! The devices that a configuration names: by path, kernel name, label, UUID or an alias of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::probe::{Content, FileSystem, probe};

/// How long a device is waited for: drivers of other than virtio disks are loaded when services run.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeviceError {
    #[error("there is no device '{name}'")]
    Absent { name: String },
    #[error("'{name}' is a name that only a cloud has: give the device")]
    Ephemeral { name: String },
    #[error("'{name}' is not a block device")]
    Kind { name: String },
}

/// Finds devices, with the configuration's own names for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Devices<'a> {
    pub(super) aliases: &'a BTreeMap<String, String>,
}

impl Devices<'_> {
    /// The device, waited for when it is not there yet.
    pub(super) fn find(&self, name: &str) -> Result<PathBuf, DeviceError> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        if name.starts_with("ephemeral") {
            return Err(DeviceError::Ephemeral { name: name.to_owned() });
        }
        let begun = Instant::now();
        loop {
            if let Some(path) = look(name) {
                return if is_block(&path) {
                    Ok(path)
                } else {
                    Err(DeviceError::Kind { name: name.to_owned() })
                };
            }
            if begun.elapsed() >= PATIENCE {
                return Err(DeviceError::Absent { name: name.to_owned() });
            }
            thread::sleep(POLL);
        }
    }
}

fn look(name: &str) -> Option<PathBuf> {
    if let Some((tag, value)) = name.split_once('=') {
        let value = value.trim_matches('"');
        return all().into_iter().find(|device| has_tag(device, tag, value));
    }
    let path = if name.starts_with('/') { PathBuf::from(name) } else { Path::new("/dev").join(name) };
    path.exists().then_some(path)
}

/// Every disk and partition, by name.
fn all() -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let mut names: Vec<PathBuf> = entries.map(|entry| Path::new("/dev").join(entry.file_name())).collect();
    names.sort();
    names
}

/// fstab(5)'s tags.
fn has_tag(device: &Path, tag: &str, value: &str) -> bool {
    let file_system = || match content(device) {
        Ok(Content::FileSystem(found)) => found,
        _ => FileSystem::default(),
    };
    let event = |key: &str| {
        let name = device.file_name().unwrap_or_default();
        let text = fs::read_to_string(Path::new("/sys/class/block").join(name).join("uevent")).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned()))
    };
    match tag {
        "LABEL" => file_system().label == value,
        "UUID" => file_system().uuid.eq_ignore_ascii_case(value),
        "PARTLABEL" => event("PARTNAME").is_some_and(|name| name == value),
        "PARTUUID" => event("PARTUUID").is_some_and(|id| id.eq_ignore_ascii_case(value)),
        _ => false,
    }
}

/// What a device holds.
pub(super) fn content(device: &Path) -> io::Result<Content> {
    let mut file = File::open(device)?;
    let size = sys::block::size(&file)?;
    probe(&mut file, size)
}

fn is_block(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|data| data.file_type().is_block_device())
}

/// The partitions of a disk, by number.
pub(super) fn partitions(disk: &Path) -> Vec<(u32, PathBuf)> {
    let name = fs::canonicalize(disk).unwrap_or_else(|_| disk.to_owned());
    let name = name.file_name().unwrap_or_default();
    let entries = fs::read_dir(Path::new("/sys/class/block").join(name)).into_iter().flatten().flatten();
    let number = |entry: &fs::DirEntry| -> Option<u32> {
        fs::read_to_string(entry.path().join("partition")).ok()?.trim().parse().ok()
    };
    let mut partitions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((number(&entry)?, Path::new("/dev").join(entry.file_name()))))
        .collect();
    partitions.sort();
    partitions
}
