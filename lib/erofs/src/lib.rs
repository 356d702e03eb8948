//! Writes uncompressed EROFS images with blocks of 4 KiB, for Linux 6.12 and later.
//!
//! Two ways in: [`Writer`] takes a tree path by path (the OS root), [`layer()`] takes the tar stream of one OCI image
//! layer and makes what overlayfs wants to see of it. Both write file data once, as it comes, and never hold a whole
//! file in memory; inodes and directories follow after the data when everything is known. The same input gives the
//! same bytes.
//!
//! Form: <https://docs.kernel.org/filesystems/erofs.html> and `fs/erofs/erofs_fs.h`; images without compression,
//! chunks, shared xattrs or extra devices, with inline tails.

use std::collections::BTreeMap;
use std::io;

mod image;
mod layer;
pub mod tar;
mod tree;
mod writer;
mod xattr;

pub use image::set_uuid;
pub use layer::layer;
pub use writer::Writer;

/// Size of a block in bytes.
pub const BLOCK_SIZE: usize = 4096;

/// What is said of the image as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The file system's identity.
    pub uuid: [u8; 16],
    /// Seconds since the epoch. An inode with this modification time takes half the space.
    pub build_time: u64,
}

/// What every inode has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits (`0o7777`).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since the epoch.
    pub mtime: i64,
    /// Nanoseconds of the modification time.
    pub mtime_nsec: u32,
    /// Extended attributes by their full names (`user.`, `trusted.`, `security.`, `system.posix_acl_*`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Metadata {
    /// Permission bits and a time; owned by root.
    pub fn new(mode: u16, mtime: i64) -> Self {
        Self { mode, mtime, ..Self::default() }
    }
}

/// An inode without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// A character device.
    Char {
        /// Major number, below 2^12.
        major: u32,
        /// Minor number, below 2^20.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number, below 2^12.
        major: u32,
        /// Minor number, below 2^20.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// How overlayfs marks a name as deleted: a character device 0:0.
pub(crate) const WHITEOUT: Special = Special::Char { major: 0, minor: 0 };

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Size of the image in blocks.
    pub blocks: u64,
    /// Number of inodes.
    pub inodes: u64,
}

/// Why no image came out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image cannot be written.
    #[error("writing the EROFS image")]
    Write(#[source] io::Error),
    /// A file's content cannot be read.
    #[error("reading the content of {path}")]
    Read {
        /// Which file.
        path: String,
        /// What the reader said.
        source: io::Error,
    },
    /// An entry cannot be in the image.
    #[error("{path}: {problem}")]
    Entry {
        /// Its path.
        path: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The image got larger than EROFS can address.
    #[error("the image is too large: EROFS addresses at most 2^32 blocks")]
    TooLarge,
    /// The layer has more entries than are kept in memory.
    #[error("the layer has too many entries")]
    TooManyEntries,
    /// The tar stream cannot be read.
    #[error("reading the tar stream at byte {offset}")]
    TarRead {
        /// How much had been read.
        offset: u64,
        /// What the reader said.
        source: io::Error,
    },
    /// The tar stream is damaged or uses what is not supported.
    #[error("bad tar entry before byte {offset}: {reason}")]
    Tar {
        /// How much had been read.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The path has a component `..`.
    #[error("path has a component \"..\"")]
    DotDot,
    /// The path is too long, or holds a zero byte.
    #[error("path is longer than 4095 bytes, has a name of more than 255 bytes, or holds a zero byte")]
    Name,
    /// Only a directory can be the root.
    #[error("the root can only be a directory")]
    Root,
    /// The path exists.
    #[error("exists already")]
    Exists,
    /// Part of the path is a file.
    #[error("path goes through something that is no directory")]
    NotDirectory,
    /// Symlinks on the path turn in a circle.
    #[error("path goes through too many symlinks")]
    SymlinkLoop,
    /// A symlink's target is empty or too long, or holds a zero byte.
    #[error("symlink target must have 1 to 4095 bytes, none of them zero")]
    Target,
    /// A hard link leads nowhere.
    #[error("hard link to {target}, which is not there")]
    MissingTarget {
        /// The target as given.
        target: String,
    },
    /// A hard link to what cannot have any.
    #[error("hard link to {target}, which is a directory or a whiteout")]
    TargetKind {
        /// The target as given.
        target: String,
    },
    /// A device number out of range.
    #[error("device number {major}:{minor} is out of range")]
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// An extended attribute that cannot be stored.
    #[error("extended attribute {name:?} cannot be stored: {reason}")]
    Xattr {
        /// Its name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A whiteout without a name, or with something in it.
    #[error("names with .wh. mark one thing as removed: this one names nothing, or has something in it")]
    Whiteout,
}
