//! The factory disk: slot a filled, slot b empty, no state partition yet.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use gpt::{Guid, Table, names, types};
use slots::UkiName;
use verity::RootHash;

use super::identity::{Identity, Role};
use crate::disk::{Disk, SECTOR};
use crate::esp::Esp;

const MIB: u64 = 1 << 20;
/// Room for two UKIs and a third one while it is being written, many times over.
const ESP_SIZE: u64 = 128 * MIB;
/// Two records of slot state and a ring of texts (`lib/slots`).
const RECORDER_SIZE: u64 = 4 * MIB;

/// What goes onto the disk.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    pub(crate) root: &'a Path,
    pub(crate) verity: &'a Path,
    pub(crate) root_hash: RootHash,
    pub(crate) uki: &'a [u8],
    pub(crate) loader: &'a [u8],
}

/// Bytes of the partition that holds the hash tree of a slot of this size: 1/127 of it, and a superblock.
fn verity_size(slot_size: u64) -> u64 {
    (slot_size / 100 + MIB).next_multiple_of(MIB)
}

/// Writes the factory disk.
pub(crate) fn write(path: &Path, identity: &Identity, slot_size: u64, content: &Content<'_>) -> Result<()> {
    let slot_size = slot_size.next_multiple_of(MIB);
    let (root, verity) = Guid::halves(content.root_hash.as_bytes());
    let partitions = [
        (names::ESP, types::ESP, identity.guid(Role::Esp), ESP_SIZE),
        (names::ROOT_A, types::ROOT, root, slot_size),
        (names::VERITY_A, types::ROOT_VERITY, verity, verity_size(slot_size)),
        (names::ROOT_B, types::ROOT, identity.guid(Role::UnusedRoot), slot_size),
        (names::VERITY_B, types::ROOT_VERITY, identity.guid(Role::UnusedVerity), verity_size(slot_size)),
        (names::RECORDER, types::RECORDER, identity.guid(Role::Recorder), RECORDER_SIZE),
    ];
    // One MiB before the first partition and one behind the last, for the two copies of the table.
    let size = partitions.iter().map(|(.., size)| size).sum::<u64>() + 2 * MIB;
    let mut table = Table::new(identity.guid(Role::Disk), size, SECTOR)?;
    for (name, kind, id, size) in partitions {
        table.append(kind, id, name, Some(size))?;
    }
    let mut disk = Disk::create(path, size, table)?;
    let volume_id = u32::from_le_bytes(*content.root_hash.as_bytes().first_chunk().unwrap_or(&[0; 4]));
    let mut esp = Esp::new(volume_id, content.loader);
    esp.add_image(&UkiName::new(&identity.version, None)?.to_string(), content.uki);
    disk.write(names::ESP, &esp.to_bytes(ESP_SIZE)?[..])?;
    let open = |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    disk.write(names::ROOT_A, open(content.root)?).context("use a larger --slot-size")?;
    disk.write(names::VERITY_A, open(content.verity)?)?;
    disk.sync()
}
