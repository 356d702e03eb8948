//! From one OCI image layer to what overlayfs stacks (OCI image-spec, `layer.md`).
//!
//! | in the tar stream | in the image |
//! |---|---|
//! | `.wh.NAME` | NAME as a character device 0:0; a directory NAME of the same layer becomes opaque instead |
//! | `.wh..wh..opq` | `trusted.overlay.opaque=y` on its directory |
//! | other names with `.wh..wh.` | nothing: aufs's own |
//! | extended attributes that Linux or EROFS does not know | nothing |
//! | `trusted.overlay.*` and `user.overlay.*` | nothing: they are overlayfs's words, and not the layer's to say |
//!
//! Entries that come later replace earlier ones. Nothing in a layer reaches out of it: see [`crate::tree`].

use std::ffi::OsStr;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::tar::{Entry, Kind, Reader};
use crate::tree::components;
use crate::{Error, Metadata, Options, Problem, Special, Summary, Writer, tree, xattr};

/// What the entries of a layer may take of memory until their inodes are written. An entry takes about [`ENTRY`] bytes and
/// its names: these are some two hundred thousand, far more than layers have.
const ENTRIES: usize = 64 << 20;
const ENTRY: usize = 256;

/// Writes the layer that `tar` holds, uncompressed, to the beginning of `out`, and gives `out` back. Reads `tar` to its
/// end, so that a digest of all of it can be taken on the way.
///
/// # Errors
/// When `tar` cannot be read, is damaged, or holds what cannot be in a layer; when `out` cannot be written.
pub fn layer<W: Write + Seek>(tar: impl Read, out: W, options: Options) -> Result<(W, Summary), Error> {
    let mut writer = Writer::new(out, options)?;
    writer.replace = true;
    let mut tar = Reader::new(tar);
    let mut entries = 0;
    while let Some(entry) = tar.next()? {
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        entries += ENTRY + entry.path.len() + entry.link.len() + xattrs;
        if entries > ENTRIES {
            return Err(Error::TooManyEntries);
        }
        add(&mut writer, entry, &mut tar.content())?;
    }
    tar.drain()?;
    writer.finish()
}

fn add<W: Write + Seek>(
    writer: &mut Writer<W>,
    mut entry: Entry,
    content: &mut impl Read,
) -> Result<(), Error> {
    let names = components(&entry.path)?;
    let (name, parents) = names.split_last().map_or((&b""[..], &[][..]), |(name, parents)| (*name, parents));
    if name == b".wh..wh..opq" {
        return writer.tree.make_opaque(&parents.join(&b'/'));
    }
    if names.iter().any(|name| name.starts_with(b".wh..wh.")) {
        return Ok(());
    }
    let removed = name.strip_prefix(b".wh.");
    if matches!(removed, Some(b"" | b"." | b"..")) || parents.iter().any(|name| name.starts_with(b".wh.")) {
        return Err(tree::error(&entry.path, Problem::Whiteout));
    }
    if let Some(removed) = removed {
        return writer.tree.whiteout(&[parents, &[removed]].concat().join(&b'/'));
    }

    entry.xattrs.retain(|name, _| {
        xattr::split(name).is_some()
            && ![&b"trusted.overlay."[..], b"user.overlay."].iter().any(|own| name.starts_with(own))
    });
    let meta = Metadata {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime.0,
        mtime_nsec: entry.mtime.1,
        xattrs: entry.xattrs,
    };
    let (path, link) = (Path::new(OsStr::from_bytes(&entry.path)), OsStr::from_bytes(&entry.link));
    let (major, minor) = entry.device;
    match entry.kind {
        Kind::File => writer.file(path, meta, content).map(|_| ()),
        Kind::HardLink => writer.hard_link(path, link),
        Kind::Symlink => writer.symlink(path, Metadata { mode: 0o777, ..meta }, link),
        Kind::Char => writer.special(path, meta, Special::Char { major, minor }),
        Kind::Block => writer.special(path, meta, Special::Block { major, minor }),
        Kind::Directory => writer.directory(path, meta),
        Kind::Fifo => writer.special(path, meta, Special::Fifo),
    }
}
