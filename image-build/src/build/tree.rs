//! The root while it is put together: every path with what is there, and who may run it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::manifest::Manifest;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Link(String),
    /// A regular file.
    File {
        /// What it holds.
        content: Content,
        /// Whether it can be run.
        executable: bool,
    },
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of a file of the build machine.
    Copy(PathBuf),
}

/// Paths without a leading slash, parents first.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Puts a node at `path`, and directories above it. A second one at the same path is an error.
    pub(crate) fn add(&mut self, path: &str, node: Node) -> Result<()> {
        for (end, _) in path.match_indices('/') {
            let parent = self.nodes.entry(path[..end].to_owned()).or_insert(Node::Directory);
            ensure!(*parent == Node::Directory, "{path} lies below a file");
        }
        match self.nodes.entry(path.to_owned()) {
            Entry::Vacant(vacant) => {
                vacant.insert(node);
            }
            Entry::Occupied(there) if node == Node::Directory && *there.get() == Node::Directory => {}
            Entry::Occupied(_) => bail!("two rules put something at {path}"),
        }
        Ok(())
    }

    /// Puts a file that nobody runs.
    pub(crate) fn add_file(&mut self, path: &str, content: Vec<u8>) -> Result<()> {
        self.add(path, Node::File { content: Content::Bytes(content), executable: false })
    }

    /// Every path, parents first.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// The content of the file at `path`.
    #[cfg(test)]
    pub(crate) fn file(&self, path: &str) -> Option<&Content> {
        match self.nodes.get(path)? {
            Node::File { content, .. } => Some(content),
            _ => None,
        }
    }

    /// Fails when a path is covered by no line of the manifest. Directories are judged by what is in them.
    pub(crate) fn check_listed(&self, manifest: &Manifest) -> Result<()> {
        let listed = |(path, node): &(&String, &Node)| {
            let prefix = format!("{path}/");
            let filled =
                self.nodes.range(prefix.clone()..).next().is_some_and(|(next, _)| next.starts_with(&prefix));
            (**node == Node::Directory && filled) || manifest.covers(path)
        };
        let unlisted: Vec<&str> =
            self.nodes.iter().filter(|n| !listed(n)).map(|(path, _)| path.as_str()).collect();
        ensure!(unlisted.is_empty(), "rootfs/root.toml lists nothing that covers {}", unlisted.join(", "));
        Ok(())
    }

    /// Writes the tree as an EROFS image; every inode has the time `epoch` and belongs to root.
    pub(crate) fn write_erofs<W: Write + Seek>(&self, out: W, uuid: [u8; 16], epoch: u64) -> Result<W> {
        let mut writer = erofs::Writer::new(out, erofs::Options { uuid, build_time: epoch })?;
        let meta = |mode| -> Result<_> { Ok(erofs::Metadata::new(mode, i64::try_from(epoch)?)) };
        writer.directory("", meta(0o755)?)?;
        for (path, node) in &self.nodes {
            match node {
                Node::Directory => writer.directory(path, meta(0o755)?)?,
                Node::Link(target) => writer.symlink(path, meta(0o777)?, target)?,
                Node::File { content, executable } => {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    let content: Box<dyn Read> = match content {
                        Content::Bytes(bytes) => Box::new(&bytes[..]),
                        Content::Copy(from) => Box::new(
                            File::open(from).with_context(|| format!("cannot open {}", from.display()))?,
                        ),
                    };
                    writer.file(path, meta(mode)?, content)?;
                }
            }
        }
        Ok(writer.finish()?.0)
    }
}
