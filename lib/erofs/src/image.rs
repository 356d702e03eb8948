//! The end of an image, and its beginning: directories, inodes, superblock. Field by field as in `erofs_fs.h`.
//!
//! After the files' data come whole blocks of directories and long symlinks, then the inodes. An inode, its extended
//! attributes and the tail of its data lie in one block, as the kernel wants tails; inodes are put wherever they fit
//! among the last few blocks. Only an inode whose attributes fill a block alone begins a block, and has no tail.

use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};

use crate::tree::{Id, Kind, ROOT, Tree};
use crate::{BLOCK_SIZE, Error, Metadata, Options, Special, Summary, xattr};

/// Bytes of an inode with all its fields.
pub(crate) const EXTENDED_INODE: usize = 64;
/// Bytes of an inode with small numbers and the image's build time as its modification time.
const COMPACT_INODE: usize = 32;
/// Inodes are numbered by their distance from the first metadata block in this unit.
const SLOT: usize = 32;
/// Nothing begins before this, so that no inode has the number 0, which readers of directories take for "none".
const FIRST: usize = 64;
/// How many blocks are kept in mind for further inodes.
const OPEN_BLOCKS: usize = 16;
/// Superblock: offset, and `feature_compat` for a checksum and real modification times.
const SUPERBLOCK: usize = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;
const FEATURES: u32 = 1 | 2;
/// The identity in the superblock.
const UUID: usize = SUPERBLOCK + 48;

/// Everything about one inode that is settled before the first is written.
struct Placed {
    id: Id,
    parent: Id,
    links: u32,
    extended: bool,
    /// Encoded extended attributes.
    xattrs: Vec<u8>,
    size: u64,
    /// First data block.
    block: u32,
    /// How much of the data lies behind the inode.
    tail: usize,
    /// Byte from the start of the metadata.
    position: usize,
}

impl Placed {
    fn length(&self) -> usize {
        let inode = if self.extended { EXTENDED_INODE } else { COMPACT_INODE };
        inode + self.xattrs.len() + self.tail
    }
}

/// Writes what follows after `next - 1` blocks of file data, and the superblock.
pub(crate) fn finish(
    out: &mut (impl Write + Seek),
    tree: &Tree,
    next: u32,
    options: Options,
) -> Result<Summary, Error> {
    let mut placed = reachable(tree, options)?;
    let mut next = u64::from(next);
    for inode in &mut placed {
        let size = match &tree.inodes[inode.id].kind {
            Kind::Directory { .. } => directory(tree, inode, |_| 0).len(),
            Kind::Symlink(target) => target.len(),
            Kind::File(content) => {
                (inode.block, inode.size, inode.tail) = (content.block, content.size, content.tail.len());
                continue;
            }
            Kind::Special(_) => continue,
        };
        let tail = size % BLOCK_SIZE;
        inode.size = size as u64;
        inode.tail = if inode.length() + tail <= BLOCK_SIZE { tail } else { 0 };
        inode.block = u32::try_from(next).map_err(|_| Error::TooLarge)?;
        next += (size - inode.tail).div_ceil(BLOCK_SIZE) as u64;
    }
    let metadata_end = place(&mut placed);
    let metadata_block = u32::try_from(next).map_err(|_| Error::TooLarge)?;
    let blocks = next + (metadata_end / BLOCK_SIZE) as u64;

    let numbers: HashMap<Id, u64> =
        placed.iter().map(|inode| (inode.id, (inode.position / SLOT) as u64)).collect();
    let number = |id: Id| numbers.get(&id).copied().unwrap_or_default();
    let data = |inode: &Placed| match &tree.inodes[inode.id].kind {
        Kind::Directory { .. } => directory(tree, inode, number),
        Kind::Symlink(target) => target.clone(),
        Kind::File(_) | Kind::Special(_) => Vec::new(),
    };
    for inode in &placed {
        let mut data = data(inode);
        data.truncate(data.len() - inode.tail.min(data.len()));
        data.resize(data.len().next_multiple_of(BLOCK_SIZE), 0);
        out.write_all(&data).map_err(Error::Write)?;
    }

    let count = placed.len() as u64;
    let root = u16::try_from(number(ROOT)).map_err(|_| Error::TooLarge)?;
    placed.sort_by_key(|inode| inode.position);
    let mut written = 0;
    for (index, inode) in placed.iter().enumerate() {
        let mut bytes = vec![0; inode.position - written];
        encode(&mut bytes, tree, inode, index);
        match &tree.inodes[inode.id].kind {
            Kind::File(content) => bytes.extend_from_slice(&content.tail),
            _ => {
                let data = data(inode);
                bytes.extend_from_slice(&data[data.len() - inode.tail..]);
            }
        }
        written += bytes.len();
        out.write_all(&bytes).map_err(Error::Write)?;
    }
    out.write_all(&vec![0; metadata_end - written]).map_err(Error::Write)?;

    let blocks_field = u32::try_from(blocks).map_err(|_| Error::TooLarge)?;
    let first = first_block(options, root, count, blocks_field, metadata_block);
    out.rewind().and_then(|()| out.write_all(&first)).and_then(|()| out.flush()).map_err(Error::Write)?;
    Ok(Summary { blocks, inodes: count })
}

/// The inodes that have a name, the root first, directory by directory.
fn reachable(tree: &Tree, options: Options) -> Result<Vec<Placed>, Error> {
    let mut placed = vec![new(tree, ROOT, ROOT, 2)?];
    let mut seen = HashMap::new();
    let mut at = 0;
    while let Some(Placed { id: here, .. }) = placed.get(at) {
        let here = *here;
        if let Kind::Directory { children, .. } = &tree.inodes[here].kind {
            for &child in children.values() {
                if tree.inodes[child].kind.is_directory() {
                    placed[at].links += 1;
                    placed.push(new(tree, child, here, 2)?);
                } else if let Some(&index) = seen.get(&child) {
                    let linked: &mut Placed = &mut placed[index];
                    linked.links += 1;
                } else {
                    seen.insert(child, placed.len());
                    placed.push(new(tree, child, here, 1)?);
                }
            }
        }
        at += 1;
    }
    for inode in &mut placed {
        let meta = &tree.inodes[inode.id].meta;
        let size = if let Kind::File(content) = &tree.inodes[inode.id].kind { content.size } else { 0 };
        inode.extended = u16::try_from(meta.uid.max(meta.gid).max(inode.links)).is_err()
            || u64::try_from(meta.mtime) != Ok(options.build_time)
            || meta.mtime_nsec != 0
            || u32::try_from(size).is_err();
    }
    Ok(placed)
}

fn new(tree: &Tree, id: Id, parent: Id, links: u32) -> Result<Placed, Error> {
    let Metadata { xattrs, .. } = &tree.inodes[id].meta;
    let opaque = matches!(tree.inodes[id].kind, Kind::Directory { opaque: true, .. });
    let encoded = if opaque {
        let mut xattrs = xattrs.clone();
        xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
        xattr::encode(&xattrs)
    } else {
        xattr::encode(xattrs)
    };
    let xattrs = encoded.map_err(|problem| Error::Entry { path: "opaque directory".into(), problem })?;
    Ok(Placed { id, parent, links, extended: true, xattrs, size: 0, block: 0, tail: 0, position: 0 })
}

/// Gives every inode a place; returns the end of the last block.
fn place(placed: &mut [Placed]) -> usize {
    let mut open: Vec<(usize, usize)> = vec![(FIRST, BLOCK_SIZE)];
    let mut end = BLOCK_SIZE;
    for inode in placed {
        let length = inode.length().next_multiple_of(SLOT);
        let fits = open.iter_mut().find(|(free, end)| *free + length <= *end);
        if let Some((free, _)) = fits {
            inode.position = *free;
            *free += length;
            continue;
        }
        inode.position = end;
        let free = end + length;
        end += length.next_multiple_of(BLOCK_SIZE);
        open.push((free, end));
        if open.len() > OPEN_BLOCKS {
            let fullest = (0..open.len()).min_by_key(|&index| open[index].1 - open[index].0).unwrap_or(0);
            open.remove(fullest);
        }
    }
    end
}

/// A directory's data: in each block its entries, then their names; sorted by name over all blocks.
fn directory(tree: &Tree, inode: &Placed, number: impl Fn(Id) -> u64) -> Vec<u8> {
    let Kind::Directory { children, .. } = &tree.inodes[inode.id].kind else { return Vec::new() };
    let dots = [(&b"."[..], inode.id), (&b".."[..], inode.parent)];
    let mut entries: Vec<(&[u8], Id)> = children.iter().map(|(name, id)| (name.as_slice(), *id)).collect();
    entries.extend(dots);
    entries.sort_unstable();

    let mut bytes = Vec::new();
    let mut rest = entries.as_slice();
    while !rest.is_empty() {
        let mut used = 0;
        let fit = rest.iter().take_while(|(name, _)| {
            used += 12 + name.len();
            used <= BLOCK_SIZE
        });
        let (block, next) = rest.split_at(fit.count());
        rest = next;
        let mut name_at = u16::try_from(12 * block.len()).unwrap_or(u16::MAX);
        for &(name, id) in block {
            bytes.extend_from_slice(&number(id).to_le_bytes());
            bytes.extend_from_slice(&name_at.to_le_bytes());
            bytes.extend_from_slice(&[dirent_type(&tree.inodes[id].kind), 0]);
            name_at += u16::try_from(name.len()).unwrap_or(u16::MAX);
        }
        block.iter().for_each(|(name, _)| bytes.extend_from_slice(name));
        if !rest.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(BLOCK_SIZE), 0);
        }
    }
    bytes
}

/// `EROFS_FT_*`.
fn dirent_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory { .. } => 2,
        Kind::Special(Special::Char { .. }) => 3,
        Kind::Special(Special::Block { .. }) => 4,
        Kind::Special(Special::Fifo) => 5,
        Kind::Symlink(_) => 7,
    }
}

/// The inode and its extended attributes.
fn encode(bytes: &mut Vec<u8>, tree: &Tree, inode: &Placed, index: usize) {
    let meta = &tree.inodes[inode.id].meta;
    let (kind, device) = match tree.inodes[inode.id].kind {
        Kind::File(_) => (0o100_000, None),
        Kind::Directory { .. } => (0o040_000, None),
        Kind::Symlink(_) => (0o120_000, None),
        Kind::Special(Special::Char { major, minor }) => (0o020_000, Some((major, minor))),
        Kind::Special(Special::Block { major, minor }) => (0o060_000, Some((major, minor))),
        Kind::Special(Special::Fifo) => (0o010_000, None),
    };
    // `new_encode_dev` of the kernel.
    let device = device.map(|(major, minor)| minor & 0xff | major << 8 | (minor & !0xff) << 12);
    let layout: u16 = if inode.tail > 0 { 2 } else { 0 };
    let mode = meta.mode & 0o7777 | kind;
    let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
    let mut put = |field: &[u8]| bytes.extend_from_slice(field);

    put(&(layout << 1 | u16::from(inode.extended)).to_le_bytes());
    put(&xattr::count(inode.xattrs.len()).to_le_bytes());
    put(&mode.to_le_bytes());
    if inode.extended {
        put(&[0; 2]);
        put(&inode.size.to_le_bytes());
        put(&device.unwrap_or(inode.block).to_le_bytes());
        put(&number.to_le_bytes());
        put(&meta.uid.to_le_bytes());
        put(&meta.gid.to_le_bytes());
        put(&meta.mtime.to_le_bytes());
        put(&meta.mtime_nsec.to_le_bytes());
        put(&inode.links.to_le_bytes());
        put(&[0; 16]);
    } else {
        put(&low16(inode.links));
        put(&u32::try_from(inode.size).unwrap_or(u32::MAX).to_le_bytes());
        put(&[0; 4]);
        put(&device.unwrap_or(inode.block).to_le_bytes());
        put(&number.to_le_bytes());
        put(&low16(meta.uid));
        put(&low16(meta.gid));
        put(&[0; 4]);
    }
    put(&inode.xattrs);
}

/// The lower half of a number that is known to have no upper one.
fn low16(number: u32) -> [u8; 2] {
    let [low, high, ..] = number.to_le_bytes();
    [low, high]
}

/// The superblock in its block, with checksum.
fn first_block(options: Options, root: u16, inodes: u64, blocks: u32, metadata: u32) -> [u8; BLOCK_SIZE] {
    let mut block = [0; BLOCK_SIZE];
    let mut at = SUPERBLOCK;
    let mut put = |field: &[u8]| {
        block[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    put(&MAGIC.to_le_bytes());
    put(&[0; 4]);
    put(&FEATURES.to_le_bytes());
    put(&[12, 0]);
    put(&root.to_le_bytes());
    put(&inodes.to_le_bytes());
    put(&options.build_time.to_le_bytes());
    put(&[0; 4]);
    put(&blocks.to_le_bytes());
    put(&metadata.to_le_bytes());
    put(&[0; 4]);
    name(&mut block, options.uuid);
    block
}

/// Puts in the identity, and the checksum of everything.
fn name(block: &mut [u8; BLOCK_SIZE], uuid: [u8; 16]) {
    block[UUID..UUID + 16].copy_from_slice(&uuid);
    block[SUPERBLOCK + 4..SUPERBLOCK + 8].fill(0);
    let checksum = crc32c(&block[SUPERBLOCK..]);
    block[SUPERBLOCK + 4..SUPERBLOCK + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// Gives a finished image another identity: the bytes are those that it would have had if it had been written with it.
///
/// # Errors
/// When it cannot be read or written.
pub fn set_uuid(image: &mut (impl Read + Write + Seek), uuid: [u8; 16]) -> io::Result<()> {
    let mut block = [0; BLOCK_SIZE];
    image.rewind()?;
    image.read_exact(&mut block)?;
    name(&mut block, uuid);
    image.rewind()?;
    image.write_all(&block)
}

/// CRC-32C without the final inversion, as the kernel's `crc32c` gives it.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
