//! What is on a device, told by its first bytes: the node has no blkid. Where nothing is known, only a device whose
//! beginning and end are zero counts as blank, so that nobody's data is taken for nothing.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use crate::source::label;

/// How much of the beginning and the end of a device must be zero for it to be blank: more than any partition table,
/// superblock or RAID header leaves untouched.
const EDGE: u64 = 1 << 20;

/// What a device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Blank,
    /// A partition table: `gpt` or `mbr`.
    Table(&'static str),
    FileSystem(FileSystem),
    /// Something that is known, and no file system.
    Other(&'static str),
    Unknown,
}

/// A file system or swap space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// Its name for mount(2), or `swap`.
    pub(super) kind: &'static str,
    pub(super) label: String,
    /// As text; empty where it is not known how to read it.
    pub(super) uuid: String,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("nothing"),
            Self::Table(kind) => write!(f, "a partition table ({kind})"),
            Self::FileSystem(found) if found.label.is_empty() => write!(f, "{}", found.kind),
            Self::FileSystem(found) => write!(f, "{} with the label {}", found.kind, found.label),
            Self::Other(what) => f.write_str(what),
            Self::Unknown => f.write_str("data of an unknown kind"),
        }
    }
}

/// Signatures at fixed places.
const OTHERS: [(u64, &[u8], &str); 6] = [
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (512, b"LABELONE", "a physical volume of LVM"),
    (4096, b"\xfc\x4e\x2b\xa9", "a member of a RAID"),
    (0, b"hsqs", "a squashfs"),
    (1024, b"\xe2\xe1\xf5\xe0", "an EROFS"),
    (0, b"BTRFS\0", "btrfs"),
];

/// Looks at a device of `size` bytes.
pub(super) fn probe(device: &mut (impl Read + Seek), size: u64) -> io::Result<Content> {
    let mut head = vec![0; usize::try_from(size.min(EDGE)).unwrap_or(0)];
    device.seek(SeekFrom::Start(0))?;
    device.read_exact(&mut head)?;
    let at = |offset: u64, length: usize| {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        head.get(offset..offset.saturating_add(length)).unwrap_or_default()
    };
    if let Some(found) = superblock(&at) {
        return Ok(Content::FileSystem(found));
    }
    if let Some((_, _, what)) = OTHERS.iter().find(|(offset, magic, _)| at(*offset, magic.len()) == *magic) {
        return Ok(Content::Other(what));
    }
    if at(512, 8) == b"EFI PART" || at(4096, 8) == b"EFI PART" {
        return Ok(Content::Table("gpt"));
    }
    if let Some(found) = label::probe(device)? {
        let label::FileSystem { kind, label } = found;
        return Ok(Content::FileSystem(FileSystem { kind, label, uuid: String::new() }));
    }
    if is_mbr(at(0, 512)) {
        return Ok(Content::Table("mbr"));
    }
    let mut tail = vec![0; head.len()];
    device.seek(SeekFrom::Start(size - head.len() as u64))?;
    device.read_exact(&mut tail)?;
    let blank = head.iter().chain(&tail).all(|byte| *byte == 0);
    Ok(if blank { Content::Blank } else { Content::Unknown })
}

/// ext2 to ext4 (kernel: Documentation/filesystems/ext4/super.rst), xfs, btrfs and swap (linux/swap.h).
fn superblock<'a>(at: &impl Fn(u64, usize) -> &'a [u8]) -> Option<FileSystem> {
    let found = |kind, label, uuid| Some(FileSystem { kind, label: text(label), uuid: uuid_text(uuid) });
    if at(1024 + 0x38, 2) == [0x53, 0xef] {
        // Extents, 64 bit or flexible block groups: what only ext4 has. A journal: ext3.
        let has_any = |offset: u64, bits: u8| at(offset, 1).first().is_some_and(|byte| byte & bits != 0);
        let kind = match (has_any(1024 + 0x60, 0xc0), has_any(1024 + 0x61, 0x02), has_any(1024 + 0x5c, 0x04))
        {
            (false, false, false) => "ext2",
            (false, false, true) => "ext3",
            _ => "ext4",
        };
        return found(kind, at(1024 + 0x78, 16), at(1024 + 0x68, 16));
    }
    if at(0, 4) == b"XFSB" {
        return found("xfs", at(108, 12), at(32, 16));
    }
    if at(65_600, 8) == b"_BHRfS_M" {
        return found("btrfs", at(65_536 + 0x12b, 256), at(65_536 + 0x20, 16));
    }
    if at(4086, 10) == b"SWAPSPACE2" {
        return found("swap", at(1052, 16), at(1036, 16));
    }
    None
}

/// A boot sector's mark, and entries that are partitions: a boot flag of nothing else than 0x80 or 0.
fn is_mbr(sector: &[u8]) -> bool {
    let entries = sector.get(446..510).unwrap_or_default().as_chunks::<16>().0;
    sector.get(510..512) == Some(&[0x55, 0xaa])
        && entries.iter().all(|entry| matches!(entry[0], 0 | 0x80))
        && entries.iter().any(|entry| entry[4] != 0)
}

fn text(padded: &[u8]) -> String {
    let end = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
    String::from_utf8_lossy(padded.get(..end).unwrap_or_default()).trim_end().to_owned()
}

fn uuid_text(bytes: &[u8]) -> String {
    let number = bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte));
    gpt::Guid::from_u128(number).to_string()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;

    fn probed(size: u64, fill: impl FnOnce(&File, &str)) -> Content {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        fill(file.as_file(), file.path().to_str().unwrap());
        probe(&mut File::open(file.path()).unwrap(), size).unwrap()
    }

    fn run(program: &str, args: &[&str]) {
        let output = Command::new(program).args(args).output();
        let output = output.unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn what_the_usual_tools_make_is_known() {
        let uuid = "11111111-2222-4333-8444-555555555555";
        for kind in ["ext2", "ext3", "ext4"] {
            let args = ["-q", "-F", "-t", kind, "-L", "data", "-U", uuid];
            let found = probed(32 << 20, |_, path| run("mkfs.ext4", &[&args[..], &[path]].concat()));
            let expected = FileSystem { kind, label: "data".to_owned(), uuid: uuid.to_owned() };
            assert_eq!(found, Content::FileSystem(expected), "{kind}");
        }
        let swap = probed(4 << 20, |_, path| run("mkswap", &["-q", "-L", "s", "-U", uuid, path]));
        let expected = FileSystem { kind: "swap", label: "s".to_owned(), uuid: uuid.to_owned() };
        assert_eq!(swap, Content::FileSystem(expected));
        let fat = probed(40 << 20, |_, path| run("mkfs.vfat", &["-n", "DATA", path]));
        assert_eq!(fat.to_string(), "vfat with the label DATA");
    }

    #[test]
    fn only_zeroes_are_blank() {
        use std::os::unix::fs::FileExt;
        let size = 5 << 20;
        assert_eq!(probed(size, |_, _| {}), Content::Blank);
        for place in [0, 4097, EDGE - 1, size - EDGE, size - 1] {
            let found = probed(size, |file, _| file.write_all_at(&[7], place).unwrap());
            assert_eq!(found, Content::Unknown, "a byte at {place}");
        }
        let luks = probed(size, |file, _| file.write_all_at(b"LUKS\xba\xbe", 0).unwrap());
        assert_eq!(luks.to_string(), "an encrypted volume (LUKS)");
        assert_eq!(probed(100, |_, _| {}), Content::Blank);
    }
}
