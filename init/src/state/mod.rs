//! `/var`: the only thing of the host that outlives a boot.
//!
//! On disk it is the partition `state`, ext4 with project quotas and fs-verity; at the first boot it is made in the
//! room behind the last partition. Without one that can be used it is the same file system in memory, said aloud.
//! Never: format, repair by force or delete anything that somebody may still want.

mod check;
mod make;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gpt::names;
use plan::paths;
use rustix::mount::{MountFlags, mount};

use crate::boot::{self, BootDisk, Drivers};
use crate::console;
use crate::watchdog::Watchdog;

pub(crate) use check::{blocks, take_identity};
pub(crate) use make::{byte_range, write_table};

/// Where `/var` lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// On the state partition.
    Disk,
    /// In memory: everything is lost at the next boot.
    Ram {
        /// Why.
        reason: String,
    },
}

/// Why the state is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no disk has a partition named {}", names::STATE)]
    NoPartition,
    #[error("cannot read the partition table of {device}")]
    NoTable { device: PathBuf },
    #[error("cannot make the state partition on {device}: {what}")]
    Make { device: PathBuf, what: &'static str, source: io::Error },
    #[error("cannot make the state partition on {device}")]
    Table { device: PathBuf, source: gpt::ChangeError },
    #[error(
        "cannot make the state partition on {device}: {free} bytes are free behind the last partition and {needed} are needed; make the disk larger"
    )]
    NoRoom { device: PathBuf, free: u64, needed: u64 },
    #[error("cannot use the empty file system {}", paths::STATE_TEMPLATE)]
    Template(#[source] template::Error),
    #[error("cannot read {partition}")]
    Read { partition: PathBuf, source: io::Error },
    #[error(
        "{partition} holds something that is not a state of ours, and it is left as it is; to start with an empty state, delete that partition"
    )]
    NotOurs { partition: PathBuf },
    #[error(
        "the file system on {partition} is damaged beyond what e2fsck -p repairs ({result}), and it is left as it is; repair it from another system, or delete that partition to start with an empty state"
    )]
    Damaged { partition: PathBuf, result: String },
    #[error("cannot mount {device} on {}", paths::STATE)]
    Mount { device: PathBuf, source: io::Error },
    #[error("cannot make a file system in memory: {what}")]
    Memory { what: &'static str, source: io::Error },
}

/// Mounts `/var`, from disk if that is possible at all.
pub(crate) fn open(disk: Option<&BootDisk>, watchdog: Option<&Watchdog>) -> State {
    match find_or_make(disk).and_then(|partition| check::mount(&partition, watchdog)) {
        Ok(()) => State::Disk,
        Err(error) => {
            let reason = console::chain(&error);
            console::warning(format_args!("state is in memory and lost at the next boot: {reason}"));
            Drivers::open().load(&["loop"]);
            if let Err(error) = in_memory() {
                console::warning(format_args!("no quotas on {}: {}", paths::STATE, console::chain(&error)));
                plain_memory();
            }
            State::Ram { reason }
        }
    }
}

/// The state partition: on the boot disk, else (a boot from the network) on any disk.
fn find_or_make(disk: Option<&BootDisk>) -> Result<PathBuf, Error> {
    let Some(disk) = disk else {
        return boot::disks().find_map(|device| find(&device)).ok_or(Error::NoPartition);
    };
    find(&disk.device).map_or_else(|| make::partition(&disk.device), Ok)
}

fn find(device: &Path) -> Option<PathBuf> {
    let table = boot::read_table(device)?;
    let mut partitions = table.partitions();
    let (number, _) = partitions.find(|(_, p)| p.kind == gpt::types::STATE && p.name == names::STATE)?;
    Some(boot::partition_node(device, number))
}

/// The flags of `/var`: containers get what they may do from their own mounts.
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOATIME);

/// The same file system as on a disk, in a file that is only in memory and grows with what is written. Its journal
/// is not used: it protects from nothing here and would stay in memory once written.
fn in_memory() -> Result<(), Error> {
    let failed = |what| move |source| Error::Memory { what, source };
    let device = make::in_memory()?;
    mount(&device, paths::STATE, "ext4", FLAGS, Some(c"noload,prjquota,discard"))
        .map_err(io::Error::from)
        .map_err(failed("mounting it"))
}

/// The last resort: a directory in memory.
fn plain_memory() {
    if let Err(error) = mount("tmpfs", paths::STATE, "tmpfs", FLAGS, Some(c"mode=0755")) {
        console::error(format_args!("nothing can be written to {}: {error}", paths::STATE));
    }
}

/// Flushes and detaches `/var` and what is mounted below it; what still uses it keeps it until it ends.
pub(crate) fn close() -> io::Result<()> {
    rustix::fs::sync();
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    for file in swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()) {
        // A file that stays in use only keeps the file system it is on from being unmounted, which is said below.
        sys::swap::off(Path::new(file)).ok();
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for target in below_state(&mounts) {
        if let Err(error) = rustix::mount::unmount(&target, rustix::mount::UnmountFlags::empty()) {
            console::warning(format_args!("cannot unmount {target}: {error}"));
        }
    }
    match rustix::mount::unmount(paths::STATE, rustix::mount::UnmountFlags::empty()) {
        Ok(()) => Ok(()),
        // Busy: read-only is as good for the data, and needs no journal replay at the next boot.
        Err(_) => Ok(rustix::mount::mount_remount(paths::STATE, MountFlags::RDONLY | FLAGS, "")?),
    }
}

/// The mount points below `/var` in a mountinfo file (proc_pid_mountinfo(5)), the last one mounted first.
fn below_state(mountinfo: &str) -> Vec<String> {
    let below = |target: &&str| target.strip_prefix(paths::STATE).is_some_and(|rest| rest.starts_with('/'));
    let targets = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).filter(below);
    targets.rev().map(|target| target.replace("\\040", " ")).collect()
}

/// The name of the block device that `/var` is on, such as `vda8`; none when it is not on one.
pub(crate) fn device_name() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let number = fs::metadata(paths::STATE).ok()?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    link.file_name()?.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_below_the_state_comes_off_in_reverse_order() {
        let mountinfo = "24 1 254:8 / /var rw,nosuid - ext4 /dev/vda8 rw\n\
                         30 24 254:16 / /var/mnt/a rw - ext4 /dev/vdb rw\n\
                         31 30 254:32 / /var/mnt/a/b\\040c rw - ext4 /dev/vdc rw\n\
                         32 1 0:9 / /various rw - tmpfs tmpfs rw\n";
        assert_eq!(below_state(mountinfo), ["/var/mnt/a/b c", "/var/mnt/a"]);
    }
}
