//! NoCloud: a disk or partition with the label `CIDATA` that has `user-data` and `meta-data` as files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use plan::paths;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::label::{FileSystem, probe};
use super::{Datasource, Found, read_limited};
use crate::file::{FileError, cannot};
use crate::{console, drivers};

/// Devices that are never a seed: they are made by the node itself.
const OWN: [&str; 4] = ["dm-", "loop", "ram", "zram"];

/// The disks and partitions that were looked at.
#[derive(Debug, Default)]
pub(super) struct Seeds {
    /// By name, with the size they had: a drive without a disk has none.
    seen: BTreeMap<String, String>,
}

impl Seeds {
    /// Looks at the devices that are new, and reads the first one with the label.
    pub(super) fn look(&mut self) -> Option<Found> {
        let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names.into_iter().filter(|name| OWN.iter().all(|own| !name.starts_with(own))).find_map(|name| {
            let size = fs::read_to_string(format!("/sys/class/block/{name}/size")).unwrap_or_default();
            if self.seen.get(&name) == Some(&size) {
                return None;
            }
            self.seen.insert(name.clone(), size);
            let device = Path::new("/dev").join(&name);
            // A drive without a disk in it, or one that cannot be read, is no seed.
            let file_system = File::open(&device).and_then(|mut file| probe(&mut file)).ok()??;
            file_system.label.eq_ignore_ascii_case("cidata").then(|| read(&device, &file_system))
        })
    }

    /// The names of the devices that were looked at.
    pub(super) fn names(&self) -> Vec<&str> {
        self.seen.keys().map(String::as_str).collect()
    }
}

fn read(device: &Path, file_system: &FileSystem) -> Found {
    console::notice(format_args!(
        "user-data: from the {} disk {} with the label {}",
        file_system.kind,
        device.display(),
        file_system.label
    ));
    let name = device.file_name().unwrap_or_else(|| OsStr::new("disk")).to_string_lossy().into_owned();
    let source = format!("{name}/user-data");
    mounted(device, file_system.kind)
        .and_then(|seed| collect(&seed.0, &name))
        .unwrap_or_else(|error| Found::unreadable(Datasource::NoCloud, &source, console::chain(&error)))
}

/// Reads the files of a mounted seed.
fn collect(seed: &Path, name: &str) -> Result<Found, FileError> {
    let path = seed.join("user-data");
    let user_data = read_limited(&path).map_err(cannot("read", &path))?;
    let other = |file: &str| match read_limited(&seed.join(file)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some).map_err(cannot("read", &seed.join(file))),
    };
    let named = |file: &str| {
        let content = other(file)?.filter(|content| !content.trim_ascii().is_empty());
        Ok(content.map(|content| (format!("{name}/{file}"), content)))
    };
    let meta_data = other("meta-data")?.unwrap_or_default();
    let (meta, problems) = config::meta_data(&format!("{name}/meta-data"), &meta_data);
    Ok(Found {
        vendor_data: named("vendor-data")?,
        network_config: named("network-config")?,
        meta,
        problems,
        ..Found::new(Datasource::NoCloud, &format!("{name}/user-data"), user_data)
    })
}

/// A mounted seed; unmounted when it is dropped.
#[derive(Debug)]
struct Mounted(PathBuf);

fn mounted(device: &Path, kind: &'static str) -> Result<Mounted, FileError> {
    drivers::load(match kind {
        "vfat" => &["vfat", "nls_cp437", "nls_ascii"],
        _ => &["isofs"],
    });
    let target = Path::new(paths::RUN).join("seed");
    fs::create_dir_all(&target).map_err(cannot("make the directory", &target))?;
    // An agent that was killed here left its mount behind.
    if unmount(&target, UnmountFlags::DETACH).is_ok() {
        console::notice("user-data: reading it again");
    }
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
    mount(device, &target, kind, flags, None).map_err(|error| cannot("mount", device)(error.into()))?;
    Ok(Mounted(target))
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            console::warning(format_args!("cannot unmount {}: {error}", self.0.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_with_all_that_belongs_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("user-data", "#cloud-config\n");
        write("meta-data", "instance-id: i-1\nlocal-hostname: web\n");
        write("network-config", "version: 2\n");
        write("vendor-data", "");
        let found = collect(directory.path(), "vdb").unwrap();
        assert_eq!(
            (found.name.as_str(), found.user_data.as_slice()),
            ("vdb/user-data", &b"#cloud-config\n"[..])
        );
        assert_eq!(found.meta.local_hostname.as_deref(), Some("web"));
        assert_eq!(found.network_config, Some(("vdb/network-config".to_owned(), b"version: 2\n".to_vec())));
        assert_eq!((found.vendor_data, found.problems), (None, Vec::new()));
    }

    #[test]
    fn a_seed_without_user_data_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(collect(directory.path(), "vdb").unwrap_err().to_string().starts_with("cannot read "));
    }
}
