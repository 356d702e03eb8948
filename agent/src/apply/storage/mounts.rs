//! `mounts`: file systems below `/var`, `/mnt` and `/srv`, and swap devices.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use config::Mount;
use plan::paths;
use rustix::mount::{MountFlags, mount as mount_at};

use super::device::{self, DeviceError, Devices};
use super::probe::Content;
use crate::file::{FileError, cannot};
use crate::{console, drivers};

/// Why something is not mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum MountError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot mount {device}: it holds {content}, which is no file system that can be mounted")]
    Content { device: PathBuf, content: Content },
    #[error("{target} lies behind a link that leads elsewhere")]
    Elsewhere { target: String },
    #[error("{device} is damaged beyond what e2fsck -p repairs (exit code {code}) and is not mounted")]
    Damaged { device: PathBuf, code: i32 },
    #[error("cannot mount {device} on {target}")]
    Mount { device: PathBuf, target: PathBuf, source: io::Error },
}

/// Mounts one file system, unless it is mounted.
pub(super) fn mount(wanted: &Mount, devices: &Devices<'_>) -> Result<(), MountError> {
    let options = Options::read(&wanted.options);
    if options.noauto {
        return Ok(());
    }
    if wanted.kind == "swap" {
        return swap_to(&devices.find(&wanted.device)?);
    }
    let Some(target) = &wanted.target else { return Ok(()) };
    let (device, kind) = if wanted.kind == "tmpfs" {
        (PathBuf::from("tmpfs"), "tmpfs")
    } else {
        let device = match devices.find(&wanted.device) {
            Err(error) if options.nofail => {
                console::notice(format_args!("mounts: {error}: nothing is mounted on {target}"));
                return Ok(());
            }
            result => result?,
        };
        let content = device::content(&device).map_err(cannot("read", &device))?;
        let kind = kind(&wanted.kind, &content)
            .ok_or_else(|| MountError::Content { device: device.clone(), content })?;
        (device, kind)
    };
    let target = mount_point(target)?;
    if is_mounted(&device, &target) {
        return Ok(());
    }
    if kind == "ext4" && wanted.dump_pass.1 != "0" {
        check(&device)?;
    }
    load_driver(kind);
    let data = CString::new(options.data.join(",")).unwrap_or_default();
    let data = Some(data.as_c_str()).filter(|data| !data.is_empty());
    let mounted = mount_at(&device, &target, kind, options.flags, data);
    mounted.map_err(|error| MountError::Mount {
        device: device.clone(),
        target: target.clone(),
        source: error.into(),
    })?;
    console::notice(format_args!("mounts: {} is on {}", device.display(), target.display()));
    Ok(())
}

/// The driver for what a device holds. The one of ext4 reads its elders, too.
fn kind(wanted: &str, content: &Content) -> Option<&'static str> {
    let Content::FileSystem(found) = content else { return None };
    let driver = match found.kind {
        "ext2" | "ext3" | "ext4" => "ext4",
        kind @ ("vfat" | "iso9660") => kind,
        _ => return None,
    };
    let wanted = if matches!(wanted, "ext2" | "ext3") { "ext4" } else { wanted };
    matches!(wanted, "auto").then_some(driver).or((wanted == driver).then_some(driver))
}

fn load_driver(kind: &str) {
    match kind {
        "vfat" => drivers::load(&["vfat", "nls_cp437", "nls_ascii"]),
        "iso9660" => drivers::load(&["isofs"]),
        _ => {}
    }
}

/// The directory to mount on, made when it is missing. `/mnt` and `/srv` are links into the state; any other link must
/// not lead out of it.
fn mount_point(target: &str) -> Result<PathBuf, MountError> {
    let path = Path::new(target);
    fs::create_dir_all(path).map_err(cannot("make the directory", path))?;
    let real = fs::canonicalize(path).map_err(cannot("find", path))?;
    if real.starts_with(paths::STATE) && real != Path::new(paths::STATE) {
        Ok(real)
    } else {
        Err(MountError::Elsewhere { target: target.to_owned() })
    }
}

fn is_mounted(device: &Path, target: &Path) -> bool {
    let device = fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut words = line.split(' ');
        words.next().map(Path::new) == Some(&device) && words.next().map(Path::new) == Some(target)
    })
}

fn swap_to(device: &Path) -> Result<(), MountError> {
    let real = fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps.lines().any(|line| line.split_whitespace().next().map(Path::new) == Some(&real)) {
        return Ok(());
    }
    Ok(sys::swap::on(&real).map_err(cannot("swap to", device))?)
}

/// Mends what can be mended without a question. Exit codes: 0 clean, 1 mended (e2fsck(8)).
fn check(device: &Path) -> Result<(), MountError> {
    let program = Path::new(paths::E2FSCK);
    let output = Command::new(program).arg("-p").arg(device).output().map_err(cannot("run", program))?;
    match output.status.code() {
        Some(0 | 1) => Ok(()),
        code => Err(MountError::Damaged { device: device.to_owned(), code: code.unwrap_or(-1) }),
    }
}

/// Options of fstab, taken apart: flags for the kernel, words for the file system, and what is for neither.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    flags: MountFlags,
    data: Vec<String>,
    nofail: bool,
    noauto: bool,
}

impl Options {
    fn read(text: &str) -> Self {
        // Containers get what they may do from their own mounts.
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let mut options = Self { flags, data: Vec::new(), nofail: false, noauto: false };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "ro" => options.flags |= MountFlags::RDONLY,
                "rw" => options.flags -= MountFlags::RDONLY,
                "noexec" => options.flags |= MountFlags::NOEXEC,
                "exec" => options.flags -= MountFlags::NOEXEC,
                "noatime" => options.flags |= MountFlags::NOATIME,
                "nodiratime" => options.flags |= MountFlags::NODIRATIME,
                "relatime" => options.flags |= MountFlags::RELATIME,
                "strictatime" => options.flags |= MountFlags::STRICTATIME,
                "sync" => options.flags |= MountFlags::SYNCHRONOUS,
                "dirsync" => options.flags |= MountFlags::DIRSYNC,
                "lazytime" => options.flags |= MountFlags::LAZYTIME,
                "nofail" => options.nofail = true,
                "noauto" => options.noauto = true,
                // So anyway, or for programs that a node does not have.
                "defaults" | "auto" | "nosuid" | "nodev" | "suid" | "dev" | "async" | "user" | "users"
                | "nouser" | "owner" | "group" | "_netdev" => {}
                word if word.starts_with("x-") || word.starts_with("comment=") => {}
                word => options.data.push(word.to_owned()),
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::FileSystem;
    use super::*;

    #[test]
    fn options_are_taken_apart() {
        let options = Options::read("defaults,noatime,ro,nofail,x-systemd.requires=a,data=ordered,discard");
        assert_eq!(
            options,
            Options {
                flags: MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME | MountFlags::RDONLY,
                data: vec!["data=ordered".to_owned(), "discard".to_owned()],
                nofail: true,
                noauto: false,
            }
        );
    }

    #[test]
    fn the_driver_follows_from_what_is_there_and_what_is_wanted() {
        let content = |kind| Content::FileSystem(FileSystem { kind, ..FileSystem::default() });
        for (wanted, found, expected) in [
            ("auto", "ext3", Some("ext4")),
            ("ext2", "ext2", Some("ext4")),
            ("vfat", "vfat", Some("vfat")),
            ("ext4", "vfat", None),
            ("auto", "btrfs", None),
        ] {
            assert_eq!(kind(wanted, &content(found)), expected, "{wanted} {found}");
        }
        assert_eq!(kind("auto", &Content::Blank), None);
    }
}
