//! Disks and what their partition tables say.
//!
//! The kernel tells no PARTUUIDs to programs, so the tables are read here. Nothing on a disk is trusted: a table
//! only says where to look, dm-verity says whether it is the root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use gpt::{Guid, Partition, Table, names, types};
use slots::{RootHash, Slot};

use super::BootDisk;

/// The root's two partitions, and the disk they are on.
#[derive(Debug)]
pub(crate) struct RootOnDisk {
    pub(crate) data: PathBuf,
    pub(crate) hashes: PathBuf,
    pub(crate) disk: BootDisk,
}

/// Looks for the slot that holds `root_hash` on every disk there is.
pub(crate) fn find_root(root_hash: &RootHash) -> Option<RootOnDisk> {
    let (data_id, hash_id) = Guid::halves(&root_hash.0);
    disks().find_map(|device| {
        let table = read_table(&device)?;
        let data = node(&device, &table, |p| p.kind == types::ROOT && p.id == data_id)?;
        let hashes = node(&device, &table, |p| p.kind == types::ROOT_VERITY && p.id == hash_id)?;
        let slot = if table.find(names::ROOT_B).is_some_and(|p| p.id == data_id) { Slot::B } else { Slot::A };
        Some(RootOnDisk { data, hashes, disk: boot_disk(device, &table, slot) })
    })
}

/// A disk with a recorder: where a boot can be counted whose root is missing. Its slot is not known.
pub(crate) fn find_recorder() -> Option<BootDisk> {
    let mut found =
        disks().filter_map(|device| Some(boot_disk(device.clone(), &read_table(&device)?, Slot::A)));
    found.find(|disk| disk.recorder.is_some())
}

fn boot_disk(device: PathBuf, table: &Table, slot: Slot) -> BootDisk {
    let recorder = node(&device, table, |p| p.kind == types::RECORDER);
    let esp = node(&device, table, |p| p.kind == types::ESP);
    BootDisk { device, slot, recorder, esp }
}

/// The node of the first partition like this, once the kernel has made it.
fn node(device: &Path, table: &Table, wanted: impl Fn(&Partition) -> bool) -> Option<PathBuf> {
    let (number, _) = table.partitions().find(|(_, partition)| wanted(partition))?;
    Some(partition_node(device, number)).filter(|node| node.exists())
}

/// The disk's partition table, `None` when it has none that can be read.
pub(crate) fn read_table(device: &Path) -> Option<Table> {
    let mut disk = File::open(device).ok()?;
    let size = sys::block::size(&disk).ok()?;
    let sector = rustix::fs::ioctl_blksszget(&disk).ok()?;
    Table::read(&mut disk, size, sector.into()).ok().map(|(table, _)| table)
}

/// The node of a disk's partition: `/dev/vda1`, `/dev/nvme0n1p1`.
pub(crate) fn partition_node(device: &Path, number: usize) -> PathBuf {
    let device = device.display().to_string();
    let separator = if device.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    PathBuf::from(format!("{device}{separator}{number}"))
}

/// The disks that the kernel knows, without those that it makes out of others.
pub(crate) fn disks() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let made = ["loop", "ram", "zram", "dm-", "sr", "fd", "nbd"].iter().any(|p| name.starts_with(p));
        (!made).then(|| Path::new("/dev").join(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_named_as_the_kernel_does() {
        for (disk, node) in [("/dev/vda", "/dev/vda3"), ("/dev/nvme0n1", "/dev/nvme0n1p3")] {
            assert_eq!(partition_node(Path::new(disk), 3), Path::new(node));
        }
    }
}
