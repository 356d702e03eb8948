//! A partition table in memory and the changes it allows.

use crate::Guid;

/// Partitions begin and end at multiples of this many bytes.
pub(crate) const ALIGNMENT: u64 = 1 << 20;
/// Entries of a new table: the specification's minimum of 16 KiB.
const ENTRIES: usize = 128;
/// Bytes of one entry.
pub(crate) const ENTRY_BYTES: u64 = 128;
/// UTF-16 units that a name may have.
pub(crate) const NAME_UNITS: usize = 36;

/// A run of sectors, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first sector.
    pub first: u64,
    /// The last sector.
    pub last: u64,
}

impl Extent {
    /// Number of sectors.
    pub fn sectors(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it is for (see [`crate::types`]).
    pub kind: Guid,
    /// Its PARTUUID.
    pub id: Guid,
    /// Its name, at most 36 UTF-16 units.
    pub name: String,
    /// Where it lies.
    pub extent: Extent,
    /// The attribute bits, as they are on the disk.
    pub attributes: u64,
}

/// Why a change was refused. The table is as it was before.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Neither 512 nor 4096.
    #[error("sectors of {0} bytes are not supported: only 512 and 4096 are")]
    SectorSize(u64),
    /// The disk cannot hold what the table says.
    #[error("the partition table needs at least {needed} sectors, the disk has {sectors}")]
    DiskTooSmall {
        /// Sectors that it takes.
        needed: u64,
        /// Sectors that there are.
        sectors: u64,
    },
    /// Not between the first and last usable sector, or backwards.
    #[error("partition '{name}' (sectors {} to {}) is not within the usable sectors {} to {}",
        .extent.first, .extent.last, .usable.first, .usable.last)]
    Outside {
        /// The partition.
        name: String,
        /// Where it would lie.
        extent: Extent,
        /// Where partitions may lie.
        usable: Extent,
    },
    /// Two partitions want the same sectors.
    #[error("partition '{name}' overlaps partition '{other}'")]
    Overlap {
        /// The partition.
        name: String,
        /// The one that is there already.
        other: String,
    },
    /// Every entry is taken.
    #[error("no entry is free for partition '{name}'")]
    Full {
        /// The partition.
        name: String,
    },
    /// A name that does not fit, or a type that means 'not in use'.
    #[error("partition '{name}' has a name of more than 36 UTF-16 units or no type")]
    Invalid {
        /// The partition.
        name: String,
    },
    /// No partition has this name.
    #[error("no partition is named '{name}'")]
    NotFound {
        /// The name.
        name: String,
    },
    /// Too little room behind the last partition.
    #[error("partition '{name}' needs {needed} bytes, {free} are free behind the last partition")]
    NoRoom {
        /// The partition.
        name: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Another partition lies behind it.
    #[error("partition '{name}' cannot grow: it is not the last one on the disk")]
    NotLast {
        /// The partition.
        name: String,
    },
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub(crate) disk: Guid,
    pub(crate) sector_size: u64,
    /// Sectors of the disk as the table knows it: the backup header is in the last one.
    pub(crate) sectors: u64,
    pub(crate) usable: Extent,
    pub(crate) entries: Vec<Option<Partition>>,
}

impl Table {
    /// An empty table for a disk of `size` bytes with logical sectors of `sector_size` bytes.
    pub fn new(disk: Guid, size: u64, sector_size: u64) -> Result<Self, ChangeError> {
        if !matches!(sector_size, 512 | 4096) {
            return Err(ChangeError::SectorSize(sector_size));
        }
        let entries = vec![None; ENTRIES];
        let mut table = Self {
            disk,
            sector_size,
            sectors: 0,
            usable: Extent { first: ALIGNMENT / sector_size, last: 0 },
            entries,
        };
        table.relocate_to(size)?;
        Ok(table)
    }

    /// The disk's own GUID.
    pub fn disk(&self) -> Guid {
        self.disk
    }

    /// Bytes of a logical sector.
    pub fn sector_size(&self) -> u64 {
        self.sector_size
    }

    /// The partitions with their numbers (from 1, as the kernel counts them).
    pub fn partitions(&self) -> impl Iterator<Item = (usize, &Partition)> {
        self.entries.iter().zip(1..).filter_map(|(entry, number)| entry.as_ref().map(|p| (number, p)))
    }

    /// The first partition named `name`.
    pub fn find(&self, name: &str) -> Option<&Partition> {
        self.partitions().map(|(_, p)| p).find(|p| p.name == name)
    }

    /// Where a partition begins, in bytes from the start of the disk.
    pub fn start_of(&self, partition: &Partition) -> u64 {
        partition.extent.first.saturating_mul(self.sector_size)
    }

    /// Bytes of a partition.
    pub fn size_of(&self, partition: &Partition) -> u64 {
        partition.extent.sectors().saturating_mul(self.sector_size)
    }

    /// Gives the partition named `name` another PARTUUID.
    pub fn set_id(&mut self, name: &str, id: Guid) -> Result<(), ChangeError> {
        self.find_mut(name)?.id = id;
        Ok(())
    }

    /// Whether the disk of `size` bytes has room that the table does not know of.
    pub fn is_behind(&self, size: u64) -> bool {
        size / self.sector_size > self.sectors
    }

    /// Moves the backup to the end of a disk of `size` bytes: call it when the disk has grown.
    pub fn relocate_to(&mut self, size: u64) -> Result<(), ChangeError> {
        let sectors = size / self.sector_size;
        // Behind the last usable sector: the backup's entries and its header.
        let tail = self.array_sectors().saturating_add(1);
        let highest = self.partitions().map(|(_, p)| p.extent.last).max().unwrap_or(self.usable.first);
        let needed = highest.saturating_add(tail).saturating_add(1);
        if sectors < needed {
            return Err(ChangeError::DiskTooSmall { needed, sectors });
        }
        self.sectors = sectors;
        self.usable.last = sectors.saturating_sub(tail).saturating_sub(1);
        Ok(())
    }

    /// The room behind the last partition, aligned at both ends; `None` when that is less than 1 MiB.
    pub fn free_space_at_end(&self) -> Option<Extent> {
        let alignment = ALIGNMENT / self.sector_size;
        let used = self.partitions().map(|(_, p)| p.extent.last.saturating_add(1)).max();
        let first = used.unwrap_or(self.usable.first).checked_next_multiple_of(alignment)?;
        let end = self.usable.last.saturating_add(1) / alignment * alignment;
        (first < end).then(|| Extent { first, last: end.saturating_sub(1) })
    }

    /// Adds a partition of `size` bytes (rounded up to whole MiB; all that is free when `None`) behind the last one.
    pub fn append(
        &mut self,
        kind: Guid,
        id: Guid,
        name: &str,
        size: Option<u64>,
    ) -> Result<Extent, ChangeError> {
        let free = self.free_space_at_end();
        let room = free.map_or(0, |free| free.sectors().saturating_mul(self.sector_size));
        let needed = size
            .map_or(ALIGNMENT, |size| size.max(1))
            .checked_next_multiple_of(ALIGNMENT)
            .unwrap_or(u64::MAX);
        let Some(free) = free.filter(|_| needed <= room) else {
            return Err(ChangeError::NoRoom { name: name.to_owned(), needed, free: room });
        };
        let last = match size {
            Some(_) => free.first.saturating_add(needed / self.sector_size).saturating_sub(1),
            None => free.last,
        };
        let extent = Extent { first: free.first, last };
        self.add_partition(Partition { kind, id, name: name.to_owned(), extent, attributes: 0 })?;
        Ok(extent)
    }

    /// Adds a partition where it says.
    pub fn add_partition(&mut self, partition: Partition) -> Result<(), ChangeError> {
        self.check(&partition, &self.entries)?;
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.is_none()) else {
            return Err(ChangeError::Full { name: partition.name });
        };
        *entry = Some(partition);
        Ok(())
    }

    /// Lets the partition named `name`, which must be the last one, take the room behind it. Gives its new extent.
    pub fn grow_last(&mut self, name: &str) -> Result<Extent, ChangeError> {
        let free = self.free_space_at_end();
        let highest = self.partitions().map(|(_, p)| p.extent.last).max();
        let partition = self.find_mut(name)?;
        if Some(partition.extent.last) != highest {
            return Err(ChangeError::NotLast { name: name.to_owned() });
        }
        if let Some(free) = free {
            partition.extent.last = free.last;
        }
        Ok(partition.extent)
    }

    fn find_mut(&mut self, name: &str) -> Result<&mut Partition, ChangeError> {
        let mut partitions = self.entries.iter_mut().flatten();
        partitions.find(|p| p.name == name).ok_or_else(|| ChangeError::NotFound { name: name.to_owned() })
    }

    /// Whether `partition` may stand beside `entries`.
    pub(crate) fn check(
        &self,
        partition: &Partition,
        entries: &[Option<Partition>],
    ) -> Result<(), ChangeError> {
        let name = || partition.name.clone();
        let Partition { extent, kind, .. } = partition;
        if *kind == Guid::ZERO || partition.name.encode_utf16().count() > NAME_UNITS {
            return Err(ChangeError::Invalid { name: name() });
        }
        if extent.first > extent.last || extent.first < self.usable.first || extent.last > self.usable.last {
            return Err(ChangeError::Outside { name: name(), extent: *extent, usable: self.usable });
        }
        match entries.iter().flatten().find(|other| other.extent.overlaps(extent)) {
            Some(other) => Err(ChangeError::Overlap { name: name(), other: other.name.clone() }),
            None => Ok(()),
        }
    }

    /// Sectors that the array of entries takes.
    pub(crate) fn array_sectors(&self) -> u64 {
        (self.entries.len() as u64).saturating_mul(ENTRY_BYTES).div_ceil(self.sector_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types;

    const MIB: u64 = 1 << 20;

    fn table() -> Table {
        let mut table = Table::new(Guid::from_u128(1), 64 * MIB, 512).unwrap();
        table.append(types::ESP, Guid::from_u128(2), "esp", Some(8 * MIB)).unwrap();
        table.append(types::STATE, Guid::from_u128(3), "state", Some(9 * MIB - 1)).unwrap();
        table
    }

    #[test]
    fn partitions_are_appended_at_whole_mebibytes() {
        let table = table();
        let found: Vec<_> =
            table.partitions().map(|(n, p)| (n, table.start_of(p) / MIB, table.size_of(p) / MIB)).collect();
        assert_eq!(found, [(1, 1, 8), (2, 9, 9)]);
        assert_eq!(table.free_space_at_end(), Some(Extent { first: 18 * 2048, last: 63 * 2048 - 1 }));
    }

    #[test]
    fn the_last_partition_takes_what_a_grown_disk_adds() {
        let mut table = table();
        assert!(table.is_behind(128 * MIB));
        table.relocate_to(128 * MIB).unwrap();
        let extent = table.grow_last("state").unwrap();
        assert_eq!(extent, Extent { first: 9 * 2048, last: 127 * 2048 - 1 });
        assert_eq!(table.grow_last("state"), Ok(extent));
        assert_eq!(table.grow_last("esp"), Err(ChangeError::NotLast { name: "esp".into() }));
        assert_eq!(table.free_space_at_end(), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut table = table();
        let before = table.clone();
        assert!(matches!(table.relocate_to(10 * MIB), Err(ChangeError::DiskTooSmall { .. })));
        let more = table.append(types::STATE, Guid::from_u128(4), "more", Some(64 * MIB));
        assert!(matches!(more, Err(ChangeError::NoRoom { .. })));
        let long = table.append(types::STATE, Guid::from_u128(4), &"x".repeat(37), None);
        assert!(matches!(long, Err(ChangeError::Invalid { .. })));
        let mut twice = before.find("esp").unwrap().clone();
        twice.extent.first += 1;
        assert!(matches!(table.add_partition(twice.clone()), Err(ChangeError::Overlap { .. })));
        twice.extent = Extent { first: 0, last: 1 };
        assert!(matches!(table.add_partition(twice), Err(ChangeError::Outside { .. })));
        assert_eq!(table, before);
    }

    #[test]
    fn all_that_is_free_is_taken_without_a_size() {
        let mut table = table();
        table.append(types::STATE, Guid::from_u128(4), "rest", None).unwrap();
        assert_eq!(table.size_of(table.find("rest").unwrap()), 45 * MIB);
    }
}
