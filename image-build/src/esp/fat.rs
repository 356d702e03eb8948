//! Writes a FAT32 file system with long names (Microsoft's "FAT: General Overview of On-Disk Format", 1.03), every file
//! in one piece.
//!
//! Firmware renames files here when it counts boots, and is strict: times must be valid, `.` and `..` plain entries.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

const SECTOR: usize = 512;
/// Small, because FAT32 has 65525 clusters at least: the smallest ESP is 66 MiB.
const CLUSTER: usize = 1024;
const LEAST_CLUSTERS: usize = 65_525;
const RESERVED_SECTORS: usize = 32;
const ENTRY: usize = 32;
/// The first cluster that there is; the root directory begins in it.
const FIRST_CLUSTER: usize = 2;
const LAST_IN_CHAIN: u32 = 0x0fff_ffff;
/// 1980-01-01: the first day that there is.
const DATE: u16 = 1 << 5 | 1;
const LABEL: &[u8; 11] = b"HOLDFASTESP";

const READ_ONLY_TO_LABEL: u8 = 0x0f;
const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_ARCHIVE: u8 = 0x20;

type ShortName = [u8; 11];

/// A directory with its names.
#[derive(Debug, Default)]
struct Folder<'a> {
    folders: BTreeMap<&'a str, Folder<'a>>,
    files: BTreeMap<&'a str, &'a [u8]>,
}

/// The file system while it is filled.
#[derive(Debug)]
struct Fat {
    image: Vec<u8>,
    /// Sectors of one table.
    table_sectors: usize,
    clusters: usize,
    /// The chain: for each cluster the next one.
    table: Vec<u32>,
}

/// A file system of `size` bytes that holds `files` by their paths.
pub(super) fn write(files: &BTreeMap<String, Vec<u8>>, size: u64, volume_id: u32) -> Result<Vec<u8>> {
    let mut root = Folder::default();
    for (path, content) in files {
        let mut folder = &mut root;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            match parts.peek() {
                Some(_) => folder = folder.folders.entry(part).or_default(),
                None => drop(folder.files.insert(part, content)),
            }
        }
    }
    let mut fat = Fat::new(usize::try_from(size)?)?;
    fat.add_folder(&root, None).context("cannot fill the ESP")?;
    fat.finish(volume_id)
}

impl Fat {
    fn new(size: usize) -> Result<Self> {
        let sectors = size / SECTOR;
        let usable = sectors.saturating_sub(RESERVED_SECTORS);
        // Each cluster takes its own sectors and four bytes in each of the two tables.
        let most = usable * SECTOR / (CLUSTER + 8);
        let table_sectors = ((most + FIRST_CLUSTER) * 4).div_ceil(SECTOR);
        let clusters = usable.saturating_sub(2 * table_sectors) * SECTOR / CLUSTER;
        ensure!(clusters >= LEAST_CLUSTERS, "an ESP of {size} bytes is too small: FAT32 begins at 66 MiB");
        let table = vec![0x0fff_fff8, LAST_IN_CHAIN];
        Ok(Self { image: vec![0; sectors * SECTOR], table_sectors, clusters, table })
    }

    /// Writes a folder with everything below it, and gives its first cluster. Without `parent` it is the root.
    fn add_folder(&mut self, folder: &Folder<'_>, parent: Option<usize>) -> Result<usize> {
        let mut taken = BTreeSet::new();
        let names = folder.folders.keys().chain(folder.files.keys());
        let names: BTreeMap<&str, (ShortName, Vec<u8>)> =
            names.map(|name| Ok((*name, name_entries(name, &mut taken)?))).collect::<Result<_>>()?;
        let head = if parent.is_some() { 2 } else { 1 };
        let length = head * ENTRY + names.values().map(|(_, long)| long.len() + ENTRY).sum::<usize>();
        // The directory comes before what is in it; its place is filled when all of that has one.
        let cluster = self.allocate(length)?;
        let mut entries = Vec::new();
        match parent {
            Some(parent) => {
                // The root is called 0 here, wherever it is.
                let parent = if parent == FIRST_CLUSTER { 0 } else { parent };
                entries.extend(entry(b".          ", ATTRIBUTE_DIRECTORY, cluster, 0)?);
                entries.extend(entry(b"..         ", ATTRIBUTE_DIRECTORY, parent, 0)?);
            }
            None => entries.extend(entry(LABEL, ATTRIBUTE_LABEL, 0, 0)?),
        }
        for (name, below) in &folder.folders {
            let (short, long) = &names[name];
            let below = self.add_folder(below, Some(cluster))?;
            entries.extend(long);
            entries.extend(entry(short, ATTRIBUTE_DIRECTORY, below, 0)?);
        }
        for (name, content) in &folder.files {
            let (short, long) = &names[name];
            let start = if content.is_empty() { 0 } else { self.allocate(content.len())? };
            self.put(start, content);
            entries.extend(long);
            entries.extend(entry(short, ATTRIBUTE_ARCHIVE, start, content.len())?);
        }
        self.put(cluster, &entries);
        Ok(cluster)
    }

    /// Takes clusters in a row for `length` bytes.
    fn allocate(&mut self, length: usize) -> Result<usize> {
        let (start, count) = (self.table.len(), length.div_ceil(CLUSTER));
        ensure!(start + count <= self.clusters + FIRST_CLUSTER, "{length} bytes more do not fit");
        for next in start + 1..start + count {
            self.table.push(u32::try_from(next)?);
        }
        self.table.push(LAST_IN_CHAIN);
        Ok(start)
    }

    fn put(&mut self, cluster: usize, content: &[u8]) {
        if !content.is_empty() {
            let data = (RESERVED_SECTORS + 2 * self.table_sectors) * SECTOR;
            let start = data + (cluster - FIRST_CLUSTER) * CLUSTER;
            self.image[start..start + content.len()].copy_from_slice(content);
        }
    }

    /// Writes the boot sector, the free space record, copies of both, and the two tables.
    fn finish(mut self, volume_id: u32) -> Result<Vec<u8>> {
        let sectors = u32::try_from(self.image.len() / SECTOR).context("the ESP is too large")?;
        let table_sectors = u32::try_from(self.table_sectors)?;
        let boot = fields(&[
            (0, &[0xeb, 0x58, 0x90]),
            (3, b"HOLDFAST"),
            (11, &512_u16.to_le_bytes()),
            (13, &[u8::try_from(CLUSTER / SECTOR)?]),
            (14, &u16::try_from(RESERVED_SECTORS)?.to_le_bytes()),
            (16, &[2]),
            (21, &[0xf8]),
            // Geometry, for those who ask.
            (24, &63_u16.to_le_bytes()),
            (26, &255_u16.to_le_bytes()),
            (32, &sectors.to_le_bytes()),
            (36, &table_sectors.to_le_bytes()),
            // Root directory, free space record, copy of the boot sector.
            (44, &2_u32.to_le_bytes()),
            (48, &1_u16.to_le_bytes()),
            (50, &6_u16.to_le_bytes()),
            (64, &[0x80, 0, 0x29]),
            (67, &volume_id.to_le_bytes()),
            (71, LABEL),
            (82, b"FAT32   "),
            (510, &[0x55, 0xaa]),
        ]);
        let free = u32::try_from(self.clusters + FIRST_CLUSTER - self.table.len())?;
        let space = fields(&[
            (0, b"RRaA"),
            (484, b"rrAa"),
            (488, &free.to_le_bytes()),
            (492, &u32::try_from(self.table.len())?.to_le_bytes()),
            (510, &[0x55, 0xaa]),
        ]);
        for (sector, content) in [(0, &boot), (1, &space), (6, &boot), (7, &space)] {
            self.image[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(content);
        }
        let table: Vec<u8> = self.table.iter().flat_map(|next| next.to_le_bytes()).collect();
        for copy in 0..2 {
            let start = (RESERVED_SECTORS + copy * self.table_sectors) * SECTOR;
            self.image[start..start + table.len()].copy_from_slice(&table);
        }
        Ok(self.image)
    }
}

/// A sector with these bytes at these offsets.
fn fields(fields: &[(usize, &[u8])]) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    for (offset, bytes) in fields {
        sector[*offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    sector
}

/// A directory entry with a short name.
fn entry(name: &ShortName, attributes: u8, cluster: usize, length: usize) -> Result<[u8; ENTRY]> {
    let [low, high] = [cluster & 0xffff, cluster >> 16].map(u16::try_from);
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    entry[20..22].copy_from_slice(&high?.to_le_bytes());
    entry[26..28].copy_from_slice(&low?.to_le_bytes());
    entry[28..].copy_from_slice(&u32::try_from(length)?.to_le_bytes());
    // Created, read, written.
    for at in [16, 18, 24] {
        entry[at..at + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    Ok(entry)
}

/// A short name that is not taken yet, and the entries that say the long name; none when the short one says it all.
fn name_entries(name: &str, taken: &mut BTreeSet<ShortName>) -> Result<(ShortName, Vec<u8>)> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "$%'-_@~`!(){}^#&.+,;=[] ".contains(c);
    ensure!(
        !name.is_empty() && name.len() <= 255 && name.chars().all(valid),
        "'{name}' is no name for a file on the ESP"
    );
    let short = short_name(name, taken);
    taken.insert(short);
    if printed(&short) == name {
        return Ok((short, Vec::new()));
    }
    let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    // Thirteen units an entry, a zero behind the last one, then ones; the last part of the name comes first.
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if !units.len().is_multiple_of(13) {
        units.push(0);
        units.resize(units.len().next_multiple_of(13), 0xffff);
    }
    let count = units.len() / 13;
    let mut entries = Vec::new();
    for (index, part) in units.chunks_exact(13).enumerate().rev() {
        let bytes: Vec<u8> = part.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let last = if index + 1 == count { 0x40 } else { 0 };
        entries.push(u8::try_from(index + 1)? | last);
        entries.extend(&bytes[..10]);
        entries.extend([READ_ONLY_TO_LABEL, 0, sum]);
        entries.extend(&bytes[10..22]);
        entries.extend([0, 0]);
        entries.extend(&bytes[22..]);
    }
    Ok((short, entries))
}

/// `LOADER`, `HOLDFA~1.EFI`: the name itself in capitals when it fits, else a shortened one with a number.
fn short_name(name: &str, taken: &BTreeSet<ShortName>) -> ShortName {
    let capitals = name.to_ascii_uppercase();
    let (stem, extension) = capitals.rsplit_once('.').unwrap_or((&capitals, ""));
    let plain = |text: &str| {
        text.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).collect::<String>()
    };
    let compose = |stem: &str, extension: &str| {
        let mut short = [b' '; 11];
        short.iter_mut().zip(stem.bytes().take(8)).for_each(|(to, from)| *to = from);
        short[8..].iter_mut().zip(extension.bytes()).for_each(|(to, from)| *to = from);
        short
    };
    let (stem_kept, extension_kept) = (plain(stem), plain(extension));
    let whole = compose(&stem_kept, &extension_kept);
    if printed(&whole) == capitals && !taken.contains(&whole) {
        return whole;
    }
    let numbered = (1_u32..).map(|number| {
        let tail = format!("~{number}");
        let head: String = stem_kept.chars().take(8 - tail.len()).collect();
        compose(&format!("{head}{tail}"), &extension_kept)
    });
    numbered.into_iter().find(|short| !taken.contains(short)).unwrap_or(whole)
}

/// A short name as it is shown.
fn printed(short: &ShortName) -> String {
    let text = String::from_utf8_lossy(short);
    let (stem, extension) = text.split_at(8);
    let (stem, extension) = (stem.trim_end(), extension.trim_end());
    if extension.is_empty() { stem.to_owned() } else { format!("{stem}.{extension}") }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const SIZE: u64 = 128 << 20;

    fn files(names: &[(&str, usize)]) -> BTreeMap<String, Vec<u8>> {
        names.iter().map(|(name, length)| ((*name).to_owned(), vec![b'x'; *length])).collect()
    }

    fn example() -> BTreeMap<String, Vec<u8>> {
        files(&[
            ("EFI/BOOT/BOOTX64.EFI", 140_000),
            ("EFI/Linux/holdfast_0.1.0.efi", 14_000_000),
            ("EFI/Linux/holdfast_0.2.0+3.efi", 1024),
            ("EFI/Linux/holdfast_0.2.0-rc.10.efi", 0),
            ("loader/loader.conf", 20),
        ])
    }

    #[test]
    fn short_names_are_told_apart() {
        let mut taken = BTreeSet::new();
        let mut short = |name: &str| printed(&name_entries(name, &mut taken).unwrap().0);
        assert_eq!(short("BOOTX64.EFI"), "BOOTX64.EFI");
        assert_eq!(short("loader"), "LOADER");
        assert_eq!(short("holdfast_1.efi"), "HOLDFA~1.EFI");
        assert_eq!(short("holdfast_1+3.efi"), "HOLDFA~2.EFI");
        assert_eq!(short("loader.conf"), "LOADER~1.CON");
        assert!(name_entries("a/b", &mut BTreeSet::new()).is_err());
        assert!(name_entries("ü", &mut BTreeSet::new()).is_err());
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        assert!(write(&example(), SIZE, 7).unwrap() == write(&example(), SIZE, 7).unwrap());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let error = format!("{:#}", write(&files(&[("a", 130 << 20)]), SIZE, 7).unwrap_err());
        assert!(error.contains("do not fit"), "{error}");
        assert!(write(&files(&[]), 60 << 20, 7).unwrap_err().to_string().contains("too small"));
    }

    #[test]
    fn the_last_cluster_can_be_used() {
        let fat = Fat::new(usize::try_from(SIZE).unwrap()).unwrap();
        let end = (RESERVED_SECTORS + 2 * fat.table_sectors) * SECTOR + fat.clusters * CLUSTER;
        assert!(end <= fat.image.len());
        assert!((fat.clusters + FIRST_CLUSTER) * 4 <= fat.table_sectors * SECTOR);
        assert!(write(&files(&[("a", (fat.clusters - 1) * CLUSTER)]), SIZE, 7).is_ok());
    }

    #[test]
    fn the_checker_of_dosfstools_finds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("esp");
        std::fs::write(&path, write(&example(), SIZE, 0x1234_5678).unwrap()).unwrap();
        let output =
            Command::new("fsck.vfat").arg("-n").arg(&path).output().expect("dosfstools is installed");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        // Two lines: its own version, and the count of files.
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}
