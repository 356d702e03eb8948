//! Disk images: a raw file (or a disk) with our partitions on it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gpt::{Partition, Table};

/// Sector size of the images that we make. A disk with sectors of 4 KiB needs one made for it.
pub(crate) const SECTOR: u64 = 512;
/// What is looked at when zeros are skipped: ext4's and EROFS's block.
const BLOCK: usize = 4096;

/// A disk that is open, with its partition table.
#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    path: PathBuf,
    pub(crate) table: Table,
}

impl Disk {
    /// Makes a sparse image of `size` bytes with this table, in place of what was at `path`.
    pub(crate) fn create(path: &Path, size: u64, table: Table) -> Result<Self> {
        let make = || -> io::Result<File> {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
            file.set_len(size)?;
            Ok(file)
        };
        let file = make().with_context(|| format!("cannot make {}", path.display()))?;
        let mut disk = Self { file, path: path.to_owned(), table };
        disk.write_table()?;
        Ok(disk)
    }

    /// Opens a disk, for changing it when `writable`.
    pub(crate) fn open(path: &Path, writable: bool) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(writable).open(path);
        let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let size = file.seek(SeekFrom::End(0))?;
        let table = Table::read(&mut file, size, SECTOR);
        let (table, _) = table.with_context(|| format!("{} holds no disk of ours", path.display()))?;
        Ok(Self { file, path: path.to_owned(), table })
    }

    /// Writes the partition table, the backup first.
    pub(crate) fn write_table(&mut self) -> Result<()> {
        let mut write = || -> io::Result<()> {
            self.table.write_backup(&mut self.file)?;
            self.file.sync_data()?;
            self.table.write_primary(&mut self.file)?;
            self.file.sync_data()
        };
        write().with_context(|| format!("cannot write the partition table of {}", self.path.display()))
    }

    /// The partition named `name`.
    pub(crate) fn partition(&self, name: &str) -> Result<&Partition> {
        self.table.find(name).with_context(|| format!("{} has no partition '{name}'", self.path.display()))
    }

    /// The first `length` bytes of a partition, or all of it.
    pub(crate) fn read(&mut self, name: &str, length: Option<u64>) -> Result<Vec<u8>> {
        let (start, size) = self.place(name)?;
        let length = length.map_or(size, |length| length.min(size));
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(start))?;
        (&self.file).take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes `content` to the start of a partition. Blocks that hold it already are not touched, so that a sparse
    /// image stays sparse.
    pub(crate) fn write(&mut self, name: &str, mut content: impl Read) -> Result<()> {
        let (start, size) = self.place(name)?;
        let mut at = 0;
        let (mut new, mut old) = ([0; BLOCK], [0; BLOCK]);
        loop {
            let count = fill(&mut content, &mut new)?;
            let (new, old) = (&new[..count], &mut old[..count]);
            if count == 0 {
                return Ok(());
            }
            anyhow::ensure!(
                at + count as u64 <= size,
                "partition '{name}' of {size} bytes is too small for it"
            );
            self.file.seek(SeekFrom::Start(start + at))?;
            self.file.read_exact(old)?;
            if old != new {
                self.file.seek(SeekFrom::Start(start + at))?;
                self.file.write_all(new)?;
            }
            at += count as u64;
        }
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn place(&self, name: &str) -> Result<(u64, u64)> {
        let partition = self.partition(name)?;
        Ok((self.table.start_of(partition), self.table.size_of(partition)))
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use gpt::{Guid, types};

    use super::*;

    #[test]
    fn a_sparse_image_stays_sparse() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut table = Table::new(Guid::from_u128(1), 64 << 20, SECTOR).unwrap();
        table.append(types::ROOT, Guid::from_u128(2), "root-a", Some(16 << 20)).unwrap();
        let mut disk = Disk::create(&path, 64 << 20, table).unwrap();
        let mut content = vec![0; 8 << 20];
        content[5_000_000] = 1;
        disk.write("root-a", &content[..]).unwrap();
        disk.sync().unwrap();
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
        let mut again = Disk::open(&path, true).unwrap();
        assert!(again.read("root-a", Some(8 << 20)).unwrap() == content);
        // What is written over is really replaced, by zeros, too.
        again.write("root-a", &vec![0; 8 << 20][..]).unwrap();
        assert!(again.read("root-a", Some(8 << 20)).unwrap().iter().all(|b| *b == 0));
        let too_much = again.write("root-a", &vec![1; 17 << 20][..]).unwrap_err();
        assert!(too_much.to_string().contains("too small"), "{too_much}");
    }
}
