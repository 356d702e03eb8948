//! Block 0 of a hash device.

use crate::{BLOCK_SIZE, Error};

/// Bytes of the superblock that have a meaning; zeros fill its block.
const SIZE: usize = 512;
/// How many data blocks the kernel can address on one device: sectors are 63 bits there, a block has 8.
const MAX_DATA_BLOCKS: u64 = 1 << 60;

/// What a superblock says that is not the same for every Holdfast tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Identity of the tree.
    pub uuid: [u8; 16],
    /// Number of data blocks that the tree covers; at least 1.
    pub data_blocks: u64,
}

impl Superblock {
    /// Reads a superblock from the start of a hash device; `bytes` may be longer than it.
    ///
    /// # Errors
    /// When there is none, or it describes another form than this crate's.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let Some(bytes) = bytes.first_chunk::<SIZE>() else {
            return Err(Error::Short { length: bytes.len(), need: SIZE });
        };
        if bytes[..8] != *b"verity\0\0" {
            return Err(Error::Signature);
        }
        expect("version", number(&bytes[8..12]), 1, "1")?;
        expect("hash type", number(&bytes[12..16]), 1, "1")?;
        if bytes[32..64] != algorithm() {
            let value = String::from_utf8_lossy(&bytes[32..64]).trim_end_matches('\0').to_owned();
            return Err(Error::Field { field: "algorithm", value, expected: "sha256" });
        }
        expect("data block size", number(&bytes[64..68]), BLOCK_SIZE as u64, "4096")?;
        expect("hash block size", number(&bytes[68..72]), BLOCK_SIZE as u64, "4096")?;
        let data_blocks = number(&bytes[72..80]);
        if !(1..=MAX_DATA_BLOCKS).contains(&data_blocks) {
            let value = data_blocks.to_string();
            return Err(Error::Field { field: "data block count", value, expected: "1 to 2^60" });
        }
        expect("salt size", number(&bytes[80..82]), 0, "0")?;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[16..32]);
        Ok(Self { uuid, data_blocks })
    }

    /// The superblock as its whole block.
    pub fn to_block(&self) -> [u8; BLOCK_SIZE] {
        let mut block = [0; BLOCK_SIZE];
        block[..6].copy_from_slice(b"verity");
        block[8..12].copy_from_slice(&1u32.to_le_bytes());
        block[12..16].copy_from_slice(&1u32.to_le_bytes());
        block[16..32].copy_from_slice(&self.uuid);
        block[32..64].copy_from_slice(&algorithm());
        block[64..68].copy_from_slice(&4096u32.to_le_bytes());
        block[68..72].copy_from_slice(&4096u32.to_le_bytes());
        block[72..80].copy_from_slice(&self.data_blocks.to_le_bytes());
        block
    }
}

/// The name of the hash, as the superblock holds it.
fn algorithm() -> [u8; 32] {
    let mut name = [0; 32];
    name[..6].copy_from_slice(b"sha256");
    name
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn expect(field: &'static str, value: u64, wanted: u64, expected: &'static str) -> Result<(), Error> {
    if value == wanted { Ok(()) } else { Err(Error::Field { field, value: value.to_string(), expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_and_back() {
        let superblock = Superblock { uuid: *b"0123456789abcdef", data_blocks: 0x0102_0304_0506 };
        assert_eq!(Superblock::parse(&superblock.to_block()).unwrap(), superblock);
    }

    #[test]
    fn every_other_form_is_refused() {
        let good = Superblock { uuid: [7; 16], data_blocks: 3 }.to_block();
        for (at, value) in
            [(0, 0), (8, 2), (12, 0), (35, b'1'), (65, 2), (69, 2), (72, 0), (79, 0x20), (80, 8)]
        {
            let mut bad = good;
            bad[at] = value;
            assert!(Superblock::parse(&bad).is_err(), "byte {at} = {value}");
        }
        assert!(matches!(Superblock::parse(&good[..511]), Err(Error::Short { .. })));
    }
}
