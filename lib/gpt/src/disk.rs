//! The form of a table on a disk: protective MBR, header and entries at the start, entries and header at the end.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::table::{ENTRY_BYTES, NAME_UNITS};
use crate::{ChangeError, Extent, Guid, Partition, Table};

const SIGNATURE: &[u8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
/// Bytes of a header that mean something.
const HEADER_BYTES: usize = 92;
/// More entries than any tool makes: a bound on what a disk can make us read.
const MOST_ENTRIES: u32 = 1024;
/// The sector of the primary header.
const PRIMARY: u64 = 1;

/// Which of the two copies a table was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The one at the start of the disk.
    Primary,
    /// The one at its end: the primary is damaged and should be written anew.
    Backup,
}

/// Why no table could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk does not answer, or ends too early.
    #[error("cannot read sector {sector}")]
    Io {
        /// The first sector of what was read.
        sector: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no table.
    #[error("no partition table at sector {sector}")]
    Absent {
        /// Where it was sought.
        sector: u64,
    },
    /// There is one that cannot be trusted.
    #[error("the partition table at sector {sector} is damaged: {what}")]
    Damaged {
        /// Where its header lies.
        sector: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Its partitions contradict each other.
    #[error("the partition table at sector {sector} is damaged")]
    Partitions {
        /// Where its header lies.
        sector: u64,
        /// What is wrong.
        #[source]
        source: ChangeError,
    },
    /// Neither 512 nor 4096.
    #[error("sectors of {0} bytes are not supported: only 512 and 4096 are")]
    SectorSize(u64),
}

impl Table {
    /// Reads the table of a disk of `size` bytes: the primary, else the backup in the last sector.
    ///
    /// When neither can be read the error is the primary's.
    pub fn read(
        disk: &mut (impl Read + Seek),
        size: u64,
        sector_size: u64,
    ) -> Result<(Self, Origin), ReadError> {
        if !matches!(sector_size, 512 | 4096) {
            return Err(ReadError::SectorSize(sector_size));
        }
        let sectors = size / sector_size;
        read_copy(disk, sectors, sector_size, PRIMARY).map(|table| (table, Origin::Primary)).or_else(
            |error| {
                let backup = read_copy(disk, sectors, sector_size, sectors.saturating_sub(1));
                backup.map(|table| (table, Origin::Backup)).map_err(|_| error)
            },
        )
    }

    /// Writes the copy at the end of the disk. Sync, then write the primary.
    pub fn write_backup(&self, disk: &mut (impl Write + Seek)) -> io::Result<()> {
        let last = self.sectors.saturating_sub(1);
        let array = last.saturating_sub(self.array_sectors());
        write_at(disk, array.saturating_mul(self.sector_size), &self.encode_entries())?;
        write_at(disk, last.saturating_mul(self.sector_size), &self.encode_header(last, PRIMARY, array))
    }

    /// Writes the copy at the start of the disk with its protective MBR. Sync afterwards.
    pub fn write_primary(&self, disk: &mut (impl Write + Seek)) -> io::Result<()> {
        let last = self.sectors.saturating_sub(1);
        write_at(disk, PRIMARY.saturating_add(1).saturating_mul(self.sector_size), &self.encode_entries())?;
        write_at(disk, self.sector_size, &self.encode_header(PRIMARY, last, PRIMARY.saturating_add(1)))?;
        write_at(disk, 0, &protective_mbr(last))
    }

    fn encode_header(&self, own: u64, other: u64, array: u64) -> Vec<u8> {
        let entries = self.encode_entries();
        let count = u32::try_from(self.entries.len()).unwrap_or(MOST_ENTRIES);
        let with_crc = |crc: u32| {
            let mut header = Vec::from(SIGNATURE);
            header.extend(REVISION.to_le_bytes());
            header.extend(92_u32.to_le_bytes());
            header.extend(crc.to_le_bytes());
            header.extend([0; 4]);
            for number in [own, other, self.usable.first, self.usable.last] {
                header.extend(number.to_le_bytes());
            }
            header.extend(self.disk.to_disk());
            header.extend(array.to_le_bytes());
            header.extend(count.to_le_bytes());
            header.extend(128_u32.to_le_bytes());
            header.extend(crc32fast::hash(&entries).to_le_bytes());
            header
        };
        let mut header = with_crc(crc32fast::hash(&with_crc(0)));
        header.resize(usize::try_from(self.sector_size).unwrap_or(HEADER_BYTES), 0);
        header
    }

    fn encode_entries(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in &self.entries {
            let Some(Partition { kind, id, name, extent, attributes }) = entry else {
                bytes.extend([0; 128]);
                continue;
            };
            bytes.extend(kind.to_disk());
            bytes.extend(id.to_disk());
            for number in [extent.first, extent.last, *attributes] {
                bytes.extend(number.to_le_bytes());
            }
            let units = name.encode_utf16().chain(std::iter::repeat(0)).take(NAME_UNITS);
            bytes.extend(units.flat_map(u16::to_le_bytes));
        }
        bytes
    }
}

/// Reads the copy whose header is at `sector` of a disk of `sectors` sectors.
fn read_copy(
    disk: &mut (impl Read + Seek),
    sectors: u64,
    sector_size: u64,
    sector: u64,
) -> Result<Table, ReadError> {
    let damaged = |what| ReadError::Damaged { sector, what };
    let header = read_at(disk, sector, sector_size, sector_size)?;
    if !header.starts_with(SIGNATURE) {
        return Err(ReadError::Absent { sector });
    }
    let number = |offset| u64_at(&header, offset).ok_or_else(|| damaged("its header is cut off"));
    let small = |offset| u32_at(&header, offset).ok_or_else(|| damaged("its header is cut off"));
    let header_bytes = usize::try_from(small(12)?).unwrap_or(usize::MAX);
    let covered = header.get(..header_bytes).filter(|_| header_bytes >= HEADER_BYTES);
    let mut covered = covered.ok_or_else(|| damaged("its header has an impossible size"))?.to_vec();
    if let Some(crc) = covered.get_mut(16..20) {
        crc.fill(0);
    }
    if crc32fast::hash(&covered) != small(16)? {
        return Err(damaged("the checksum of its header is wrong"));
    }
    if small(8)? != REVISION || number(24)? != sector {
        return Err(damaged("its header belongs to another place or revision"));
    }
    let (count, entry_bytes) = (small(80)?, small(84)?);
    if count == 0 || count > MOST_ENTRIES || u64::from(entry_bytes) != ENTRY_BYTES {
        return Err(damaged("it has an unusual number or size of entries"));
    }
    let array = number(72)?;
    let bytes = u64::from(count).saturating_mul(ENTRY_BYTES);
    if array >= sectors {
        return Err(damaged("its entries lie behind the end of the disk"));
    }
    let entries = read_at(disk, array, sector_size, bytes)?;
    if crc32fast::hash(&entries) != small(88)? {
        return Err(damaged("the checksum of its entries is wrong"));
    }
    let disk = guid_at(&header, 56).ok_or_else(|| damaged("its header is cut off"))?;
    let known = if sector == PRIMARY { number(32)? } else { sector };
    let usable = Extent { first: number(40)?, last: number(48)? };
    let mut table =
        Table { disk, sector_size, sectors: known.saturating_add(1), usable, entries: Vec::new() };
    for entry in entries.chunks_exact(128) {
        let entry = decode_entry(entry).ok_or_else(|| damaged("an entry is cut off"))?;
        if let Some(partition) = &entry {
            let checked = table.check(partition, &table.entries);
            checked.map_err(|source| ReadError::Partitions { sector, source })?;
        }
        table.entries.push(entry);
    }
    // What we write later (entries from sector 2, and before the backup header) must not reach into a partition.
    let array_sectors = table.array_sectors();
    let tail = usable.last.saturating_add(array_sectors).saturating_add(1);
    if usable.first < array_sectors.saturating_add(2) || tail > known {
        return Err(damaged("its usable sectors leave no room for the table"));
    }
    Ok(table)
}

/// One entry; `None` inside when it is not in use, outside when it is too short.
fn decode_entry(entry: &[u8]) -> Option<Option<Partition>> {
    let kind = guid_at(entry, 0)?;
    if kind == Guid::ZERO {
        return Some(None);
    }
    let units = entry.get(56..128)?.chunks_exact(2).map(|unit| match unit {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Some(Some(Partition {
        kind,
        id: guid_at(entry, 16)?,
        name: String::from_utf16_lossy(&units),
        extent: Extent { first: u64_at(entry, 32)?, last: u64_at(entry, 40)? },
        attributes: u64_at(entry, 48)?,
    }))
}

/// The MBR that keeps old tools away: one partition of type 0xee from sector 1 to `last`.
fn protective_mbr(last: u64) -> Vec<u8> {
    let mut mbr = vec![0; 446];
    mbr.extend([0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    mbr.extend(1_u32.to_le_bytes());
    mbr.extend(u32::try_from(last).unwrap_or(u32::MAX).to_le_bytes());
    mbr.resize(510, 0);
    mbr.extend([0x55, 0xaa]);
    mbr
}

fn read_at(
    disk: &mut (impl Read + Seek),
    sector: u64,
    sector_size: u64,
    bytes: u64,
) -> Result<Vec<u8>, ReadError> {
    let io = |source| ReadError::Io { sector, source };
    disk.seek(SeekFrom::Start(sector.saturating_mul(sector_size))).map_err(io)?;
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or_default()];
    disk.read_exact(&mut buffer).map_err(io)?;
    Ok(buffer)
}

fn write_at(disk: &mut (impl Write + Seek), offset: u64, bytes: &[u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(offset))?;
    disk.write_all(bytes)
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

fn guid_at(bytes: &[u8], offset: usize) -> Option<Guid> {
    array_at(bytes, offset).map(Guid::from_disk)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::types;

    const SIZE: u64 = 8 << 20;

    fn table(sector_size: u64) -> Table {
        let mut table = Table::new(Guid::from_u128(1), SIZE, sector_size).unwrap();
        table.append(types::ESP, Guid::from_u128(2), "esp", Some(1 << 20)).unwrap();
        table.append(types::STATE, Guid::from_u128(3), "Zustand ü", None).unwrap();
        table
    }

    fn disk(table: &Table) -> Cursor<Vec<u8>> {
        let mut disk = Cursor::new(vec![0; usize::try_from(SIZE).unwrap()]);
        table.write_backup(&mut disk).unwrap();
        table.write_primary(&mut disk).unwrap();
        disk
    }

    #[test]
    fn what_was_written_is_read() {
        for sector_size in [512, 4096] {
            let table = table(sector_size);
            let mut disk = disk(&table);
            assert_eq!(Table::read(&mut disk, SIZE, sector_size).unwrap(), (table.clone(), Origin::Primary));
            let header = usize::try_from(sector_size).unwrap();
            disk.get_mut()[header + 40] ^= 1;
            assert_eq!(Table::read(&mut disk, SIZE, sector_size).unwrap(), (table, Origin::Backup));
        }
    }

    #[test]
    fn a_half_written_change_leaves_one_whole_copy() {
        let (old, mut new) = (table(512), table(512));
        new.set_id("esp", Guid::from_u128(9)).unwrap();
        let before = disk(&old);
        let after = disk(&new);
        // The backup is written first: whatever of it arrives, the primary is the old one. Then the reverse.
        let middle = usize::try_from(SIZE / 2).unwrap();
        let split = |from: &[u8], cut: usize, to: &[u8]| [&from[..cut], &to[cut..]].concat();
        for cut in (0..40 * 512).step_by(512) {
            let torn_backup = split(before.get_ref(), middle + (middle - cut), after.get_ref());
            assert_eq!(Table::read(&mut Cursor::new(torn_backup), SIZE, 512).unwrap().0, old);
            let whole_backup = split(before.get_ref(), middle, after.get_ref());
            let torn_primary = split(after.get_ref(), cut, &whole_backup);
            let read = Table::read(&mut Cursor::new(torn_primary), SIZE, 512).unwrap().0;
            assert!(read == old || read == new);
        }
    }

    #[test]
    fn a_grown_disk_is_read_and_its_backup_moved() {
        let mut grown = disk(&table(512));
        grown.get_mut().resize(usize::try_from(2 * SIZE).unwrap(), 0);
        let (mut read, _) = Table::read(&mut grown, 2 * SIZE, 512).unwrap();
        assert_eq!(read, table(512));
        read.relocate_to(2 * SIZE).unwrap();
        read.write_backup(&mut grown).unwrap();
        read.write_primary(&mut grown).unwrap();
        grown.get_mut()[512..1024].fill(0);
        assert_eq!(Table::read(&mut grown, 2 * SIZE, 512).unwrap(), (read, Origin::Backup));
    }

    #[test]
    fn a_disk_without_a_table_is_told_apart_from_a_damaged_one() {
        let mut empty = Cursor::new(vec![0; 1 << 20]);
        assert!(matches!(Table::read(&mut empty, 1 << 20, 512), Err(ReadError::Absent { sector: 1 })));
        assert!(matches!(Table::read(&mut Cursor::new([]), 0, 512), Err(ReadError::Io { .. })));
        let mut damaged = disk(&table(512));
        damaged.get_mut()[1024 + 8] ^= 1;
        let last = damaged.get_ref().len() - 1;
        damaged.get_mut()[last - 511] = 0;
        assert!(matches!(Table::read(&mut damaged, SIZE, 512), Err(ReadError::Damaged { sector: 1, .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Headers with right checksums and wild numbers: an answer, never a panic, and what is accepted can be changed.
        #[test]
        fn wild_numbers_do_no_harm(
            numbers in proptest::collection::vec(
                prop_oneof![Just(0), Just(u64::MAX), 0..20_000_u64, any::<u64>()], 8),
            changes in proptest::collection::vec(0..7_usize, 0..3),
        ) {
            let mut disk = disk(&table(512));
            let bytes = disk.get_mut();
            // Own and other header, usable sectors, array; then first and last sector of the first partition.
            for at in changes {
                let offset = [512 + 32, 512 + 40, 512 + 48, 512 + 72, 512 + 80, 1024 + 32, 1024 + 40][at];
                bytes[offset..offset + 8].copy_from_slice(&numbers[at].to_le_bytes());
            }
            let entries = crc32fast::hash(&bytes[1024..1024 + 128 * 128]);
            bytes[512 + 88..512 + 92].copy_from_slice(&entries.to_le_bytes());
            bytes[512 + 16..512 + 20].fill(0);
            let header = crc32fast::hash(&bytes[512..512 + 92]);
            bytes[512 + 16..512 + 20].copy_from_slice(&header.to_le_bytes());
            let last = bytes.len() - 512;
            bytes[last] = 0;
            if let Ok((mut table, _)) = Table::read(&mut disk, SIZE, 512) {
                let free = table.free_space_at_end();
                prop_assert!(free.is_none_or(|free| free.first <= free.last));
                if table.relocate_to(SIZE).is_ok() {
                    let _grown = table.grow_last("Zustand ü");
                    table.write_backup(&mut disk).unwrap();
                    table.write_primary(&mut disk).unwrap();
                    prop_assert_eq!(Table::read(&mut disk, SIZE, 512).unwrap().0, table);
                }
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 512..2048)) {
            let size = bytes.len() as u64;
            let mut bytes = bytes;
            bytes[512 - 8..].iter_mut().zip(b"garbage EFI PART").for_each(|(to, from)| *to = *from);
            prop_assert!(Table::read(&mut Cursor::new(bytes), size, 512).is_err());
        }
    }
}
