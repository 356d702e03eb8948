//! The tree in memory: names and metadata, no file data but short tails.
//!
//! Symlinks in the middle of a path are followed inside the tree, whose root is their `/`: nothing leads out of it.

use std::collections::BTreeMap;

use crate::{Error, Metadata, Problem, Special, WHITEOUT, xattr};

/// Index of an inode.
pub(crate) type Id = usize;
/// The root directory.
pub(crate) const ROOT: Id = 0;
/// As many symlinks as Linux follows on one path.
const MAX_SYMLINKS: u32 = 40;
/// `PATH_MAX` without the final zero byte.
const MAX_PATH: usize = 4095;
/// `EROFS_NAME_LEN`.
const MAX_NAME: usize = 255;

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) meta: Metadata,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Directory {
        children: BTreeMap<Vec<u8>, Id>,
        /// Hides the directory of the same name in lower layers.
        opaque: bool,
    },
    File(Content),
    Symlink(Vec<u8>),
    Special(Special),
}

/// Where a file's data is: whole blocks in the image from `block` on, then the tail.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) block: u32,
    pub(crate) size: u64,
    /// What goes behind the inode; empty when all data is in blocks.
    pub(crate) tail: Vec<u8>,
}

impl Kind {
    pub(crate) fn directory() -> Self {
        Self::Directory { children: BTreeMap::new(), opaque: false }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }

    fn is_whiteout(&self) -> bool {
        matches!(self, Self::Special(special) if *special == WHITEOUT)
    }
}

/// All inodes ever added; those that were replaced are no longer reachable from the root.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) inodes: Vec<Inode>,
    /// Metadata of directories that were only mentioned in paths.
    implicit: Metadata,
}

impl Tree {
    pub(crate) fn new(mtime: i64) -> Self {
        let implicit = Metadata::new(0o755, mtime);
        Self { inodes: vec![Inode { meta: implicit.clone(), kind: Kind::directory() }], implicit }
    }

    /// Puts an inode at `path`, whose parents are made when they are missing. A directory that exists gets the new
    /// metadata and keeps what is in it; anything else that exists is replaced, or an error unless `replace`.
    pub(crate) fn insert(&mut self, path: &[u8], mut inode: Inode, replace: bool) -> Result<(), Error> {
        check(path, &inode)?;
        let Some((parent, name)) = self.parent(path)? else {
            let Kind::Directory { .. } = inode.kind else { return Err(error(path, Problem::Root)) };
            self.inodes[ROOT].meta = inode.meta;
            return Ok(());
        };
        if let Some(old) = self.child(parent, name) {
            let old = &mut self.inodes[old];
            match (&old.kind, &mut inode.kind) {
                (Kind::Directory { .. }, Kind::Directory { .. }) => {
                    old.meta = inode.meta;
                    return Ok(());
                }
                _ if !replace => return Err(error(path, Problem::Exists)),
                (kind, Kind::Directory { opaque, .. }) if kind.is_whiteout() => *opaque = true,
                _ => {}
            }
        }
        self.attach(parent, name, inode);
        Ok(())
    }

    /// Gives what is at `target` the further name `path`.
    pub(crate) fn link(&mut self, path: &[u8], target: &[u8], replace: bool) -> Result<(), Error> {
        let shown = || String::from_utf8_lossy(target).into_owned();
        let missing = || error(path, Problem::MissingTarget { target: shown() });
        let found = self.find(target)?.ok_or_else(missing)?;
        let kind = &self.inodes[found].kind;
        if kind.is_directory() || kind.is_whiteout() {
            return Err(error(path, Problem::TargetKind { target: shown() }));
        }
        let (parent, name) = self.parent(path)?.ok_or_else(|| error(path, Problem::Root))?;
        match self.child(parent, name) {
            Some(old) if old == found => return Ok(()),
            Some(_) if !replace => return Err(error(path, Problem::Exists)),
            _ => self.set_child(parent, name, found),
        }
        Ok(())
    }

    /// Marks `path` as removed from lower layers. What this layer itself has there stays (OCI image-spec, `layer.md`:
    /// whiteouts apply to lower layers only); a directory then hides the lower one.
    pub(crate) fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        let (parent, name) = self.parent(path)?.ok_or_else(|| error(path, Problem::Whiteout))?;
        match self.child(parent, name) {
            Some(id) => {
                if let Kind::Directory { opaque, .. } = &mut self.inodes[id].kind {
                    *opaque = true;
                }
            }
            None => {
                let meta = Metadata { mode: 0, ..self.implicit.clone() };
                self.attach(parent, name, Inode { meta, kind: Kind::Special(WHITEOUT) });
            }
        }
        Ok(())
    }

    /// Marks the directory at `path` as hiding the one of the same name in lower layers.
    pub(crate) fn make_opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        let id = self.walk(path, &components(path)?, true)?.unwrap_or(ROOT);
        if let Kind::Directory { opaque, .. } = &mut self.inodes[id].kind {
            *opaque = true;
        }
        Ok(())
    }

    pub(crate) fn child(&self, parent: Id, name: &[u8]) -> Option<Id> {
        match &self.inodes[parent].kind {
            Kind::Directory { children, .. } => children.get(name).copied(),
            _ => None,
        }
    }

    fn set_child(&mut self, parent: Id, name: &[u8], id: Id) {
        if let Kind::Directory { children, .. } = &mut self.inodes[parent].kind {
            children.insert(name.to_vec(), id);
        }
    }

    fn attach(&mut self, parent: Id, name: &[u8], inode: Inode) -> Id {
        self.inodes.push(inode);
        self.set_child(parent, name, self.inodes.len() - 1);
        self.inodes.len() - 1
    }

    /// The directory that `path` is in, made when it is missing, and its name there; `None` for the root.
    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<Option<(Id, &'a [u8])>, Error> {
        let components = components(path)?;
        let Some((name, directories)) = components.split_last() else { return Ok(None) };
        let parent = self.walk(path, directories, true)?.unwrap_or(ROOT);
        Ok(Some((parent, name)))
    }

    /// What is at `path`; a symlink at its end is not followed.
    fn find(&mut self, path: &[u8]) -> Result<Option<Id>, Error> {
        let components = components(path)?;
        let Some((name, directories)) = components.split_last() else { return Ok(Some(ROOT)) };
        let parent = self.walk(path, directories, false)?;
        Ok(parent.and_then(|parent| self.child(parent, name)))
    }

    /// Goes through directories and the symlinks between them; makes what is missing, or returns `None`.
    fn walk(&mut self, path: &[u8], directories: &[&[u8]], create: bool) -> Result<Option<Id>, Error> {
        let mut way = vec![ROOT];
        let mut left: Vec<Vec<u8>> = directories.iter().rev().map(|name| name.to_vec()).collect();
        let mut symlinks = 0;
        while let Some(name) = left.pop() {
            let here = way.last().copied().unwrap_or(ROOT);
            if name == b".." {
                way.pop();
                continue;
            }
            let child = self.child(here, &name);
            match child.map(|id| (id, &self.inodes[id].kind)) {
                Some((id, Kind::Directory { .. })) => way.push(id),
                Some((_, Kind::Symlink(target))) => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(error(path, Problem::SymlinkLoop));
                    }
                    if target.starts_with(b"/") {
                        way.clear();
                    }
                    left.extend(split(target).rev().map(<[u8]>::to_vec));
                }
                Some((_, kind)) if !(create && kind.is_whiteout()) => {
                    return Err(error(path, Problem::NotDirectory));
                }
                None if !create => return Ok(None),
                found => {
                    if name.len() > MAX_NAME {
                        return Err(error(path, Problem::Name));
                    }
                    let kind = Kind::Directory { children: BTreeMap::new(), opaque: found.is_some() };
                    way.push(self.attach(here, &name, Inode { meta: self.implicit.clone(), kind }));
                }
            }
        }
        Ok(Some(way.last().copied().unwrap_or(ROOT)))
    }
}

pub(crate) fn error(path: &[u8], problem: Problem) -> Error {
    Error::Entry { path: String::from_utf8_lossy(path).into_owned(), problem }
}

/// The names of a path, without empty ones and `.`.
fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

/// The names of a path that was given from outside; leading slashes mean nothing.
pub(crate) fn components(path: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let names: Vec<&[u8]> = split(path).collect();
    if names.contains(&&b".."[..]) {
        return Err(error(path, Problem::DotDot));
    }
    if path.len() > MAX_PATH || path.contains(&0) || names.iter().any(|name| name.len() > MAX_NAME) {
        return Err(error(&path[..path.len().min(MAX_PATH)], Problem::Name));
    }
    Ok(names)
}

/// Whether EROFS can hold the inode.
fn check(path: &[u8], inode: &Inode) -> Result<(), Error> {
    xattr::encode(&inode.meta.xattrs).map_err(|problem| error(path, problem))?;
    match &inode.kind {
        Kind::Symlink(target) if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) => {
            Err(error(path, Problem::Target))
        }
        &Kind::Special(Special::Char { major, minor } | Special::Block { major, minor })
            if major >= 1 << 12 || minor >= 1 << 20 =>
        {
            Err(error(path, Problem::Device { major, minor }))
        }
        _ => Ok(()),
    }
}
