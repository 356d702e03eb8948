//! File systems that user-data comes on, told by their superblocks: kind and label of an iso9660 or FAT; UDF.
//!
//! The node has no udev; and reading a few blocks costs less than loading a driver and mounting to find out.

use std::io::{self, Read, Seek, SeekFrom};

/// A file system that may be a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// Its name for mount(2).
    pub(crate) kind: &'static str,
    /// Its label without the padding.
    pub(crate) label: String,
}

/// The file system on a device, when it is one of the three.
pub(crate) fn probe(device: &mut (impl Read + Seek)) -> io::Result<Option<FileSystem>> {
    if let Some(found) = iso9660(device)? {
        return Ok(Some(found));
    }
    if let Some(found) = udf(device)? {
        return Ok(Some(found));
    }
    fat(device)
}

/// ECMA-167, part 2, section 9.1: descriptors from the 17th sector on, the one of the file system between two others.
/// Its label is not needed: only Azure has it, whose disk is told by what is on it.
fn udf(device: &mut (impl Read + Seek)) -> io::Result<Option<FileSystem>> {
    let Some(begin) = read_at::<6>(device, 16 * 2048)? else { return Ok(None) };
    let Some(next) = read_at::<6>(device, 17 * 2048)? else { return Ok(None) };
    let is_udf = &begin[1..] == b"BEA01" && (&next[1..] == b"NSR02" || &next[1..] == b"NSR03");
    Ok(is_udf.then(|| FileSystem { kind: "udf", label: String::new() }))
}

/// ECMA-119, section 8.4: the primary volume descriptor is the 17th sector of 2,048 bytes.
fn iso9660(device: &mut (impl Read + Seek)) -> io::Result<Option<FileSystem>> {
    let Some(descriptor) = read_at::<72>(device, 16 * 2048)? else { return Ok(None) };
    let label = (&descriptor[..6] == b"\x01CD001").then(|| text(&descriptor[40..72]));
    Ok(label.map(|label| FileSystem { kind: "iso9660", label }))
}

/// Microsoft's FAT specification, section 3: the label is in the boot sector, and again in the root directory, where
/// some systems alone keep it.
fn fat(device: &mut (impl Read + Seek)) -> io::Result<Option<FileSystem>> {
    let Some(boot) = read_at::<512>(device, 0)? else { return Ok(None) };
    let number = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let wide = boot[82..90] == *b"FAT32   ";
    if boot[510..] != [0x55, 0xaa] || !(wide || boot[54..57] == *b"FAT") || number(11) < 512 {
        return Ok(None);
    }
    let label = text(if wide { &boot[71..82] } else { &boot[43..54] });
    let mut in_root = || -> io::Result<Option<String>> {
        let (fats, reserved) = (u64::from(boot[16]), number(14));
        let sectors = if wide { number(36) | number(38) << 16 } else { number(22) };
        let first = reserved + fats * sectors;
        let root_cluster = number(44) | number(46) << 16;
        let skip = if wide { root_cluster.saturating_sub(2) * u64::from(boot[13]) } else { 0 };
        let Some(entries) = read_at::<512>(device, (first + skip) * number(11))? else { return Ok(None) };
        // Attribute 0x08 alone marks the volume label; with others it is part of a long name.
        let label =
            entries.chunks(32).find(|entry| entry[11] & 0x3f == 0x08 && !matches!(entry[0], 0 | 0xe5));
        Ok(label.map(|entry| text(&entry[..11])))
    };
    let label = if matches!(label.as_str(), "" | "NO NAME") { in_root()?.unwrap_or(label) } else { label };
    Ok(Some(FileSystem { kind: "vfat", label }))
}

/// `N` bytes at an offset; `None` when the device ends before.
fn read_at<const N: usize>(device: &mut (impl Read + Seek), offset: u64) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    device.seek(SeekFrom::Start(offset))?;
    match device.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(padded: &[u8]) -> String {
    String::from_utf8_lossy(padded).trim_end_matches([' ', '\0']).to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Cursor;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn run(program: &str, args: &[&str]) {
        let output = Command::new(program).args(args).output();
        let output = output.unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn probe_file(path: &Path) -> Option<(&'static str, String)> {
        probe(&mut File::open(path).unwrap()).unwrap().map(|found| (found.kind, found.label))
    }

    #[test]
    fn labels_are_read_from_what_the_usual_tools_make() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("user-data"), "#cloud-config\n").unwrap();
        let (user_data, iso) = (at("user-data"), at("iso"));
        let words = |path: &Path| path.to_str().unwrap().to_owned();
        run("genisoimage", &["-quiet", "-V", "cidata", "-r", "-J", "-o", &words(&iso), &words(&user_data)]);
        assert_eq!(probe_file(&iso), Some(("iso9660", "cidata".to_owned())));
        for (bits, megabytes) in [("12", 2), ("16", 20), ("32", 40)] {
            let path = at(bits);
            File::create(&path).unwrap().set_len(megabytes << 20).unwrap();
            run("mkfs.vfat", &["-F", bits, "-n", "CIDATA", &words(&path)]);
            assert_eq!(probe_file(&path), Some(("vfat", "CIDATA".to_owned())), "FAT{bits}");
            // The boot sector's label goes, the root directory's stays.
            let mut bytes = std::fs::read(&path).unwrap();
            let label = if bits == "32" { 71 } else { 43 };
            bytes[label..label + 11].copy_from_slice(b"NO NAME    ");
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(probe_file(&path), Some(("vfat", "CIDATA".to_owned())), "FAT{bits} without a label");
        }
    }

    #[test]
    fn other_devices_are_none_of_them() {
        let mut udf = vec![0; 40_000];
        udf[16 * 2048 + 1..][..5].copy_from_slice(b"BEA01");
        assert_eq!(probe(&mut Cursor::new(udf.clone())).unwrap(), None);
        udf[17 * 2048 + 1..][..5].copy_from_slice(b"NSR02");
        assert_eq!(probe(&mut Cursor::new(udf)).unwrap().map(|found| found.kind), Some("udf"));
        for bytes in [vec![], vec![0; 512], vec![0xff; 40_000], vec![0x55; 40_000]] {
            assert_eq!(probe(&mut Cursor::new(bytes)).unwrap(), None);
        }
    }
}
