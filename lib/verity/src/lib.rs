//! dm-verity hash trees in the one form Holdfast uses: SHA-256, no salt, data and hash blocks of 4096 bytes.
//!
//! A hash device begins with the superblock of veritysetup's on-disk format version 1 in block 0; the tree follows from
//! block 1, its top level first. Sources: cryptsetup's wiki page "DMVerity" and the kernel's
//! `Documentation/admin-guide/device-mapper/verity.rst`. Anything else than that one form is refused.
//!
//! Making a tree takes the feature `build`; without it nothing here can hash.

#[cfg(feature = "build")]
mod build;
mod root_hash;
mod superblock;

#[cfg(feature = "build")]
pub use build::{Tree, tree};
pub use root_hash::RootHash;
pub use superblock::Superblock;

/// Size of data and hash blocks in bytes.
pub const BLOCK_SIZE: usize = 4096;
/// Where the tree starts on the hash device, in blocks: right after the superblock's block.
pub const HASH_START: u64 = 1;

/// Why something is not what this crate can use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that is no root hash.
    #[error("root hash {text:?} is not 64 lower-case hex digits")]
    RootHash {
        /// The text.
        text: String,
    },
    /// Fewer bytes than a superblock has.
    #[error("verity superblock cut short: {length} bytes, need {need}")]
    Short {
        /// Bytes there are.
        length: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The hash device does not begin with a superblock.
    #[error("no verity superblock: the hash device does not begin with its signature")]
    Signature,
    /// A field has a value that Holdfast does not use.
    #[error("verity superblock: {field} is {value}, must be {expected}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it must hold.
        expected: &'static str,
    },
    /// The data cannot be read.
    #[cfg(feature = "build")]
    #[error("reading the data to hash")]
    Read(#[from] std::io::Error),
    /// The data is no whole number of blocks, or there is none.
    #[cfg(feature = "build")]
    #[error("data of {length} bytes cannot be hashed: must be a positive multiple of {BLOCK_SIZE}")]
    Length {
        /// Its length in bytes.
        length: u64,
    },
}
