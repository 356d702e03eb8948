//! Makes a tree out of a stream.

use std::io::{ErrorKind, Read};

use sha2::{Digest, Sha256};

use crate::{BLOCK_SIZE, Error, RootHash, Superblock};

/// A hash device and the hash that vouches for it.
#[derive(Debug)]
pub struct Tree {
    /// What the hash device holds: superblock and tree (1/127 of the data).
    pub image: Vec<u8>,
    /// The top.
    pub root_hash: RootHash,
    /// Number of data blocks.
    pub data_blocks: u64,
}

/// Hashes all of `data`, reading it once, a block at a time.
///
/// # Errors
/// When `data` cannot be read, is empty, or is no whole number of blocks.
pub fn tree(mut data: impl Read, uuid: [u8; 16]) -> Result<Tree, Error> {
    let mut block = [0; BLOCK_SIZE];
    let mut level = Vec::new();
    let mut data_blocks = 0;
    loop {
        match fill(&mut data, &mut block)? {
            BLOCK_SIZE => level.extend_from_slice(&Sha256::digest(block)),
            0 if data_blocks > 0 => break,
            part => return Err(Error::Length { length: data_blocks * BLOCK_SIZE as u64 + part as u64 }),
        }
        data_blocks += 1;
    }

    let mut levels = Vec::new();
    while level.len() > 32 {
        level.resize(level.len().next_multiple_of(BLOCK_SIZE), 0);
        let above = level.chunks_exact(BLOCK_SIZE).flat_map(Sha256::digest).collect();
        levels.push(std::mem::replace(&mut level, above));
    }
    let mut root = [0; 32];
    root.copy_from_slice(&level);

    let mut image = Superblock { uuid, data_blocks }.to_block().to_vec();
    levels.iter().rev().for_each(|level| image.extend_from_slice(level));
    Ok(Tree { image, root_hash: RootHash::from_bytes(root), data_blocks })
}

/// Reads until `block` is full or the data ends; the number of bytes read.
fn fill(data: &mut impl Read, block: &mut [u8]) -> Result<usize, Error> {
    let mut filled = 0;
    while filled < block.len() {
        match data.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK_SIZE).map(|i| u8::try_from((i * 7 + i / 4096) % 251).unwrap()).collect()
    }

    #[test]
    fn one_block_is_its_own_root() {
        let tree = tree(&data(1)[..], [0; 16]).unwrap();
        assert_eq!(tree.root_hash.as_bytes()[..], Sha256::digest(data(1))[..]);
        assert_eq!(tree.image.len(), BLOCK_SIZE);
    }

    #[test]
    fn the_top_level_comes_first() {
        let data = data(129);
        let tree = tree(&data[..], [0; 16]).unwrap();
        assert_eq!(tree.image.len(), 4 * BLOCK_SIZE);
        let (top, leaves) = tree.image[BLOCK_SIZE..].split_at(BLOCK_SIZE);
        assert_eq!(Sha256::digest(top)[..], tree.root_hash.as_bytes()[..]);
        assert_eq!(Sha256::digest(&leaves[..BLOCK_SIZE])[..], top[..32]);
        assert_eq!(Sha256::digest(&data[128 * BLOCK_SIZE..])[..], leaves[BLOCK_SIZE..BLOCK_SIZE + 32]);
    }

    #[test]
    fn parts_of_blocks_are_refused() {
        for length in [0, 1, 4095, 4097] {
            let error = tree(&vec![0; length][..], [0; 16]).unwrap_err();
            assert!(matches!(error, Error::Length { length: said } if said == length as u64));
        }
    }
}
