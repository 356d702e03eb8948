//! `disk_setup`: partition tables.
//!
//! A disk that holds anything is left alone, unless `overwrite` says otherwise, and then only once per instance; the
//! kernel lets nobody write a disk of which something is in use.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use config::{DiskSetup, Layout};
use gpt::{Guid, Table};

use super::device::{self, DeviceError, Devices};
use super::probe::Content;
use super::{open_alone, uuid};
use crate::apply::Instance;
use crate::console;
use crate::file::FileError;

/// Partitions begin at multiples of this many bytes.
const ALIGNMENT: u64 = 1 << 20;

/// Linux file systems (Discoverable Partitions Specification: generic Linux data).
const LINUX: Guid = Guid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);
const SWAP: Guid = Guid::from_u128(0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f);

/// Why a disk has no table.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{disk} holds {content} and is left as it is: 'overwrite: true' replaces it")]
    Taken { disk: PathBuf, content: Content },
    #[error("'{kind}' is not a type of partition that is known here: give 83, 82, or with gpt a GUID")]
    Kind { kind: String },
    #[error("an MBR has at most 4 partitions")]
    TooMany,
    #[error("an MBR reaches 2 TiB, and {disk} is larger: use 'table_type: gpt'")]
    TooLarge { disk: PathBuf },
    #[error("cannot lay out {disk}")]
    Layout { disk: PathBuf, source: gpt::ChangeError },
    #[error("cannot write the partition table of {disk}")]
    Write { disk: PathBuf, source: io::Error },
}

/// Makes the table of one disk, unless it is there.
pub(super) fn make(setup: &DiskSetup, devices: &Devices<'_>, instance: &Instance) -> Result<(), TableError> {
    let parts: Vec<(u32, Option<&str>)> = match &setup.layout {
        Layout::Nothing => return Ok(()),
        Layout::Whole => vec![(100, None)],
        Layout::Parts(parts) => parts.iter().map(|(percent, kind)| (*percent, kind.as_deref())).collect(),
    };
    let disk = devices.find(&setup.device)?;
    let failed = |source| TableError::Write { disk: disk.clone(), source };
    let content = device::content(&disk).map_err(failed)?;
    let mark = format!("disk-setup-{}", setup.device.replace('/', "-"));
    let overwrite = setup.overwrite && instance.has_yet_to(&mark);
    let kind = if setup.gpt { "gpt" } else { "mbr" };
    let is_as_wanted = content == Content::Table(kind) && device::partitions(&disk).len() == parts.len();
    if is_as_wanted && !overwrite {
        return Ok(());
    }
    if content != Content::Blank && !overwrite {
        return Err(TableError::Taken { disk, content });
    }
    let mut file = open_alone(&disk)?;
    let size = sys::block::size(&file).map_err(failed)?;
    if overwrite {
        instance.done(&mark)?;
    }
    if setup.gpt {
        let table = gpt_table(&disk, &file, size, &parts)?;
        table
            .write_backup(&mut file)
            .and_then(|()| file.sync_all())
            .and_then(|()| table.write_primary(&mut file))
            .map_err(failed)?;
    } else {
        let sector = mbr(&disk, size, &parts)?;
        let first = size.min(ALIGNMENT);
        // What is left of another table would count as well, at the end of the disk as at its beginning.
        sys::block::zero(&file, 0..first)
            .and_then(|()| sys::block::zero(&file, (size - first) & !4095..size))
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(&sector))
            .map_err(failed)?;
    }
    file.sync_all().and_then(|()| sys::block::reread_partitions(&file)).map_err(failed)?;
    console::notice(format_args!("disk_setup: {} has {} partitions ({kind})", disk.display(), parts.len()));
    Ok(())
}

/// Where the partitions lie: first byte and length of each, in whole MiB.
fn lay_out(size: u64, parts: &[(u32, Option<&str>)]) -> Vec<(u64, u64)> {
    // A MiB at the beginning for the table, one at the end for the backup of a GPT.
    let room = (size / ALIGNMENT).saturating_sub(2);
    let mut start = 1;
    let mut places = Vec::new();
    for (percent, _) in parts {
        let length = room * u64::from(*percent) / 100;
        places.push((start * ALIGNMENT, length * ALIGNMENT));
        start += length;
    }
    places
}

fn gpt_table(
    disk: &Path,
    file: &File,
    size: u64,
    parts: &[(u32, Option<&str>)],
) -> Result<Table, TableError> {
    let failed = |source| TableError::Write { disk: disk.to_owned(), source };
    let changed = |source| TableError::Layout { disk: disk.to_owned(), source };
    let sector = rustix::fs::ioctl_blksszget(file).map_err(|error| failed(error.into()))?;
    let id = || uuid().map(Guid::from_u128).map_err(failed);
    let mut table = Table::new(id()?, size, sector.into()).map_err(changed)?;
    for ((_, length), (_, kind)) in lay_out(size, parts).into_iter().zip(parts) {
        let kind = match kind {
            None | Some("83" | "8300") => LINUX,
            Some("82" | "8200") => SWAP,
            Some(other) => other.parse().map_err(|_| TableError::Kind { kind: (*other).to_owned() })?,
        };
        table.append(kind, id()?, "", Some(length)).map_err(changed)?;
    }
    Ok(table)
}

/// A master boot record: four entries of 16 bytes at 446, in sectors of 512 bytes, and a mark at its end.
fn mbr(disk: &Path, size: u64, parts: &[(u32, Option<&str>)]) -> Result<[u8; 512], TableError> {
    let mut sector = [0; 512];
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    if parts.len() > 4 {
        return Err(TableError::TooMany);
    }
    let (entries, _) = sector[446..510].as_chunks_mut::<16>();
    for ((entry, (start, length)), (_, kind)) in entries.iter_mut().zip(lay_out(size, parts)).zip(parts) {
        let kind = kind.unwrap_or("83");
        let number = |bytes: u64| {
            u32::try_from(bytes / 512).map_err(|_| TableError::TooLarge { disk: disk.to_owned() })
        };
        let end = u32::try_from((start + length) / 512).map(|_| length);
        let length = end.map_err(|_| TableError::TooLarge { disk: disk.to_owned() })?;
        let kind = u8::from_str_radix(kind, 16).ok().filter(|number| *number != 0);
        entry[4] = kind.ok_or_else(|| TableError::Kind {
            kind: parts.iter().find_map(|(_, kind)| *kind).unwrap_or_default().to_owned(),
        })?;
        // Cylinders, heads and sectors as they are written when the number of the sector counts.
        entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&number(start)?.to_le_bytes());
        entry[12..].copy_from_slice(&number(length)?.to_le_bytes());
    }
    Ok(sector)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn parts_of_a_hundred_become_whole_mebibytes() {
        assert_eq!(lay_out(102 * MIB, &[(50, None), (25, None)]), [(MIB, 50 * MIB), (51 * MIB, 25 * MIB)]);
        assert_eq!(lay_out(102 * MIB + 5000, &[(100, None)]), [(MIB, 100 * MIB)]);
    }

    #[test]
    fn an_mbr_has_its_entries_and_its_mark() {
        let sector = mbr(Path::new("d"), 102 * MIB, &[(50, None), (50, Some("82"))]).unwrap();
        assert_eq!(
            sector[446..462],
            [0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 0x90, 1, 0]
        );
        assert_eq!((sector[462 + 4], sector[478 + 4], &sector[510..]), (0x82, 0, &[0x55, 0xaa][..]));
    }

    #[test]
    fn what_an_mbr_cannot_hold_is_refused() {
        let disk = Path::new("d");
        assert!(matches!(mbr(disk, 102 * MIB, &[(20, None); 5]), Err(TableError::TooMany)));
        assert!(matches!(mbr(disk, 3 << 40, &[(100, None)]), Err(TableError::TooLarge { .. })));
        let error = mbr(disk, 102 * MIB, &[(100, Some("ext4"))]).unwrap_err();
        assert!(error.to_string().starts_with("'ext4' is not a type of partition"), "{error}");
    }
}
