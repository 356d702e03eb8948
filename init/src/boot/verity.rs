//! The verified root: dm-verity over a data and a hash device.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use slots::RootHash;

/// Name of the device-mapper device.
pub(crate) const NAME: &str = "root";

/// The root could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read the hash tree on {device}")]
    Read { device: PathBuf, source: io::Error },
    #[error("{device} holds no hash tree of the kind this version makes")]
    NotOurs { device: PathBuf },
    #[error("cannot set up verification of {data} with {hashes}")]
    Map { data: PathBuf, hashes: PathBuf, source: io::Error },
}

/// Opens the root: a read-only device of which every block is checked against `root_hash` when it is read. A block
/// that fails the check restarts the machine: nothing altered is ever run.
pub(crate) fn open(data: &Path, hashes: &Path, root_hash: &RootHash) -> Result<PathBuf, Error> {
    let blocks = data_blocks(hashes)?;
    let parameters = format!(
        "1 {} {} 4096 4096 {blocks} 1 sha256 {root_hash} - 1 restart_on_corruption",
        data.display(),
        hashes.display()
    );
    let mapped = sys::dm::create(NAME, "verity", blocks.saturating_mul(8), &parameters)
        .map_err(|source| Error::Map { data: data.into(), hashes: hashes.into(), source })?;
    Ok(PathBuf::from(format!("/dev/dm-{}", mapped.minor)))
}

/// Reading ahead from the root until the first services run, in KiB. Every block that is read has to be hashed, and
/// programs touch a part of theirs only: measured as 3 % fewer instructions to the first container.
pub(crate) const BOOT_READ_AHEAD: u32 = 16;

/// Reading ahead from then on, in KiB: the kernel's default.
pub(crate) const READ_AHEAD: u32 = 128;

/// Sets how far the kernel reads ahead on a block device. It is a hint: without it everything works.
pub(crate) fn set_read_ahead(device: &Path, kib: u32) {
    if let Some(name) = device.file_name() {
        fs::write(Path::new("/sys/block").join(name).join("queue/read_ahead_kb"), kib.to_string()).ok();
    }
}

/// How many blocks of 4 KiB the tree covers, from its superblock (veritysetup's version 1, hash type 1). The number
/// is not trusted: a wrong one makes another tree, whose root hash is not ours.
fn data_blocks(hashes: &Path) -> Result<u64, Error> {
    let mut superblock = [0; 512];
    File::open(hashes)
        .and_then(|mut file| file.read_exact(&mut superblock))
        .map_err(|source| Error::Read { device: hashes.into(), source })?;
    parse(&superblock).ok_or_else(|| Error::NotOurs { device: hashes.into() })
}

fn parse(superblock: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u32::from_le_bytes(*superblock.get(at..)?.first_chunk()?));
    let blocks = u64::from_le_bytes(*superblock.get(72..)?.first_chunk()?);
    let ours = superblock.starts_with(b"verity\0\0")
        && (word(8)?, word(12)?, word(64)?, word(68)?) == (1, 1, 4096, 4096)
        && superblock.get(32..40)? == b"sha256\0\0";
    ours.then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_form_that_images_have_is_taken() {
        let mut superblock = [0; 512];
        superblock[..6].copy_from_slice(b"verity");
        superblock[8] = 1;
        superblock[12] = 1;
        superblock[32..38].copy_from_slice(b"sha256");
        superblock[65] = 16;
        superblock[69] = 16;
        superblock[72] = 7;
        assert_eq!(parse(&superblock), Some(7));
        for at in [0, 8, 12, 32, 65, 69] {
            let mut other = superblock;
            other[at] ^= 1;
            assert_eq!(parse(&other), None, "byte {at}");
        }
    }
}
