//! From a tree description to an image.

use std::ffi::OsStr;
use std::io::{BufWriter, ErrorKind, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::image::{self, EXTENDED_INODE};
use crate::tree::{Content, Inode, Kind, Tree};
use crate::{BLOCK_SIZE, Error, Metadata, Options, Special, Summary, xattr};

/// How much is read and written at once.
const CHUNK: usize = 64 * BLOCK_SIZE;
/// Short tails of files are kept in memory until their inodes are written; together no more than this.
const TAILS: usize = 32 << 20;

/// Writes an image from entries given one by one, in any order.
///
/// Paths are taken from the root of the image, with or without a leading `/`; `..` is an error. Parents that were not
/// given are made (mode 0755, root, build time) and may be given later. The data of files lies in the order in which
/// they are given, all else is sorted.
///
/// ```
/// use erofs::{Metadata, Options, Writer};
/// # fn main() -> Result<(), erofs::Error> {
/// let mut writer = Writer::new(std::io::Cursor::new(Vec::new()), Options::default())?;
/// writer.directory("/", Metadata::new(0o755, 0))?;
/// writer.file("usr/bin/tool", Metadata::new(0o755, 0), &b"content"[..])?;
/// writer.symlink("bin", Metadata::new(0o777, 0), "usr/bin")?;
/// let (image, summary) = writer.finish()?;
/// assert_eq!(image.into_inner().len() as u64, summary.blocks * 4096);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Writer<W: Write + Seek> {
    out: BufWriter<W>,
    options: Options,
    pub(crate) tree: Tree,
    /// The next block that is free.
    next: u32,
    /// Bytes of tails in memory.
    tails: usize,
    buffer: Vec<u8>,
    /// Whether an entry replaces what its path had before.
    pub(crate) replace: bool,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts an image at the beginning of `out`.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn new(out: W, options: Options) -> Result<Self, Error> {
        let mut out = BufWriter::with_capacity(CHUNK, out);
        out.rewind().and_then(|()| out.write_all(&[0; BLOCK_SIZE])).map_err(Error::Write)?;
        let tree = Tree::new(i64::try_from(options.build_time).unwrap_or(i64::MAX));
        Ok(Self { out, options, tree, next: 1, tails: 0, buffer: vec![0; CHUNK], replace: false })
    }

    /// Adds a directory; one that exists gets the metadata and keeps its entries.
    ///
    /// # Errors
    /// When the entry cannot be in the image; the same for all that follow.
    pub fn directory(&mut self, path: impl AsRef<Path>, meta: Metadata) -> Result<(), Error> {
        self.insert(path.as_ref(), meta, Kind::directory())
    }

    /// Adds a regular file and returns its size; reads `content` to its end.
    ///
    /// # Errors
    /// As [`Self::directory`], and when `content` cannot be read or the image not be written.
    pub fn file(&mut self, path: impl AsRef<Path>, meta: Metadata, content: impl Read) -> Result<u64, Error> {
        let path = path.as_ref();
        let content = self.content(path, &meta, content)?;
        let size = content.size;
        self.insert(path, meta, Kind::File(content))?;
        Ok(size)
    }

    /// Adds a symlink. Its mode should be `0o777`.
    ///
    /// # Errors
    /// As [`Self::directory`], and for a target that is empty or too long.
    pub fn symlink(
        &mut self,
        path: impl AsRef<Path>,
        meta: Metadata,
        target: impl AsRef<OsStr>,
    ) -> Result<(), Error> {
        self.insert(path.as_ref(), meta, Kind::Symlink(target.as_ref().as_bytes().to_vec()))
    }

    /// Adds a device or pipe.
    ///
    /// # Errors
    /// As [`Self::directory`], and for a device number out of range.
    pub fn special(&mut self, path: impl AsRef<Path>, meta: Metadata, special: Special) -> Result<(), Error> {
        self.insert(path.as_ref(), meta, Kind::Special(special))
    }

    /// Adds a further name for what is at `target` already.
    ///
    /// # Errors
    /// As [`Self::directory`], and when there is nothing at `target`, or a directory.
    pub fn hard_link(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), Error> {
        let (path, target) = (path.as_ref().as_os_str(), target.as_ref().as_os_str());
        self.tree.link(path.as_bytes(), target.as_bytes(), self.replace)
    }

    /// Writes directories, inodes and superblock, and gives `out` back, flushed.
    ///
    /// # Errors
    /// When `out` cannot be written or the image got too large.
    pub fn finish(mut self) -> Result<(W, Summary), Error> {
        let summary = image::finish(&mut self.out, &self.tree, self.next, self.options)?;
        let out = self.out.into_inner().map_err(|error| Error::Write(error.into_error()))?;
        Ok((out, summary))
    }

    fn insert(&mut self, path: &Path, meta: Metadata, kind: Kind) -> Result<(), Error> {
        self.tree.insert(path.as_os_str().as_bytes(), Inode { meta, kind }, self.replace)
    }

    /// Copies a file's data into blocks and keeps a tail that fits behind its inode.
    fn content(&mut self, path: &Path, meta: &Metadata, mut content: impl Read) -> Result<Content, Error> {
        let inode = EXTENDED_INODE + xattr::encode(&meta.xattrs).map_or(0, |bytes| bytes.len());
        let mut written = Content { block: self.next, size: 0, tail: Vec::new() };
        loop {
            let filled = fill(&mut content, &mut self.buffer)
                .map_err(|source| Error::Read { path: path.display().to_string(), source })?;
            written.size += filled as u64;
            let tail = filled % BLOCK_SIZE;
            let keep = tail > 0 && inode + tail <= BLOCK_SIZE && self.tails + tail <= TAILS;
            let end = if keep { filled - tail } else { filled.next_multiple_of(BLOCK_SIZE) };
            if keep {
                written.tail = self.buffer[end..filled].to_vec();
                self.tails += tail;
            } else {
                self.buffer[filled..end].fill(0);
            }
            self.out.write_all(&self.buffer[..end]).map_err(Error::Write)?;
            let blocks = u32::try_from(end / BLOCK_SIZE).map_err(|_| Error::TooLarge)?;
            self.next = self.next.checked_add(blocks).ok_or(Error::TooLarge)?;
            if filled < self.buffer.len() {
                return Ok(written);
            }
        }
    }
}

/// Reads until `buffer` is full or the content ends; the number of bytes read.
pub(crate) fn fill(content: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
