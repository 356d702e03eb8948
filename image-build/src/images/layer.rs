//! One layer of an image to be made: packages and inline files, as a sorted tar stream.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};
use tar::{EntryType, Header};

use super::definition;
use crate::glob;
use crate::packages::Package;

/// What an image has at each path so far: a directory's permissions and owner, nothing for anything else.
pub(crate) type Below = BTreeMap<String, Option<Owner>>;

/// Permissions and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    mode: u32,
    uid: u32,
    gid: u32,
}

const DIRECTORY: Owner = Owner { mode: 0o755, uid: 0, gid: 0 };

/// A layer's entries by their paths.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    nodes: BTreeMap<String, Node>,
    removed: Vec<String>,
}

#[derive(Debug)]
enum Node {
    Directory(Owner),
    File(Owner, Vec<u8>),
    Symlink(String),
    HardLink(String),
}

impl Layer {
    /// Puts a layer together that lies on what is `below`, and adds it there.
    ///
    /// # Errors
    /// When two packages have one file, something to be removed is not there, or a path goes through a file below.
    pub(crate) fn assemble(
        definition: &definition::Layer,
        packages: &[Package],
        below: &mut Below,
    ) -> Result<Self> {
        let mut layer = Self::default();
        for package in packages {
            package.with_data(|tar| layer.unpack(tar, definition))?;
        }
        for definition::Directory { path, mode, uid, gid } in &definition.directory {
            let owner = Owner { mode: *mode, uid: *uid, gid: *gid };
            layer.nodes.insert(path.clone(), Node::Directory(owner));
        }
        for definition::Link { path, target } in &definition.link {
            layer.nodes.insert(path.clone(), Node::Symlink(target.clone()));
        }
        for file in &definition.file {
            let owner = Owner { mode: file.mode, uid: 0, gid: 0 };
            layer.nodes.insert(file.path.clone(), Node::File(owner, file.content()?));
        }
        for path in &definition.remove {
            ensure!(below.contains_key(path), "cannot remove {path}: no lower layer has it");
            below.retain(|old, _| old != path && !old.starts_with(&format!("{path}/")));
            layer.removed.push(path.clone());
        }
        layer.removed.sort();
        layer.add_parents(below)?;
        for (path, node) in &layer.nodes {
            let owner = if let Node::Directory(owner) = node { Some(*owner) } else { None };
            below.insert(path.clone(), owner);
        }
        Ok(layer)
    }

    /// Takes the files of a package that the filters leave.
    fn unpack(&mut self, tar: &mut dyn Read, definition: &definition::Layer) -> Result<()> {
        let covers = |patterns: &[String], path: &str| patterns.iter().any(|p| glob::matches(p, path));
        for entry in tar::Archive::new(tar).entries()? {
            let mut entry = entry?;
            let path = plain(&entry.path()?.to_string_lossy());
            let dropped = covers(&definition.drop, &path) && !covers(&definition.keep, &path);
            if path.is_empty() || dropped {
                continue;
            }
            let link = entry.link_name()?.map(|target| target.to_string_lossy().into_owned());
            let header = entry.header();
            let id = |id: u64| u32::try_from(id).with_context(|| format!("{path} has owner {id}"));
            let owner =
                Owner { mode: header.mode()? & 0o7777, uid: id(header.uid()?)?, gid: id(header.gid()?)? };
            let node = match (header.entry_type(), link) {
                (EntryType::Directory, _) => Node::Directory(owner),
                (EntryType::Regular, _) => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content)?;
                    Node::File(owner, content)
                }
                (EntryType::Symlink, Some(target)) => Node::Symlink(target),
                (EntryType::Link, Some(target)) => {
                    let target = plain(&target);
                    ensure!(
                        self.nodes.contains_key(&target),
                        "{path} is a hard link to {target}, which is dropped"
                    );
                    Node::HardLink(target)
                }
                (kind, _) => bail!("{path} is a {kind:?}: only files, directories and links are taken"),
            };
            let directory = matches!(node, Node::Directory(_));
            let old = self.nodes.insert(path.clone(), node);
            let same = old.is_none_or(|old| directory && matches!(old, Node::Directory(_)));
            ensure!(same, "two packages have {path}");
        }
        Ok(())
    }

    /// Every entry's directories, as they are below: a layer that only implied them would change their permissions.
    fn add_parents(&mut self, below: &Below) -> Result<()> {
        let paths: Vec<String> = self.nodes.keys().chain(&self.removed).cloned().collect();
        for path in paths {
            for (end, _) in path.match_indices('/') {
                let parent = &path[..end];
                match self.nodes.get(parent) {
                    Some(Node::Directory(_)) => continue,
                    Some(_) => bail!("{path} is in {parent}, which is no directory"),
                    None => {}
                }
                let owner = match below.get(parent) {
                    Some(Some(owner)) => *owner,
                    Some(None) => bail!("{path} is in {parent}, which is no directory in a lower layer"),
                    None => DIRECTORY,
                };
                self.nodes.insert(parent.to_owned(), Node::Directory(owner));
            }
        }
        Ok(())
    }

    /// Writes the layer as a tar stream; the same layer always gives the same bytes.
    pub(crate) fn write<W: Write>(&self, out: W, mtime: u64) -> Result<W> {
        let mut tar = tar::Builder::new(out);
        let header = |kind: EntryType, owner: Owner, size: usize| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(owner.mode);
            header.set_uid(owner.uid.into());
            header.set_gid(owner.gid.into());
            header.set_mtime(mtime);
            header.set_size(size as u64);
            header
        };
        let everyone = Owner { mode: 0o777, ..DIRECTORY };
        // Hard links come last: a reader must have seen what they lead to.
        let (links, others): (Vec<_>, Vec<_>) =
            self.nodes.iter().partition(|(_, node)| matches!(node, Node::HardLink(_)));
        for (path, node) in others.into_iter().chain(links) {
            match node {
                Node::Directory(owner) => {
                    let path = format!("{path}/");
                    tar.append_data(&mut header(EntryType::Directory, *owner, 0), path, &[][..])?;
                }
                Node::File(owner, content) => {
                    let mut header = header(EntryType::Regular, *owner, content.len());
                    tar.append_data(&mut header, path, content.as_slice())?;
                }
                Node::Symlink(target) => {
                    tar.append_link(&mut header(EntryType::Symlink, everyone, 0), path, target)?;
                }
                Node::HardLink(target) => {
                    tar.append_link(&mut header(EntryType::Link, everyone, 0), path, target)?;
                }
            }
        }
        for path in &self.removed {
            let (parent, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(p, name)| (p, name));
            let slash = if parent.is_empty() { "" } else { "/" };
            let marker = format!("{parent}{slash}.wh.{name}");
            tar.append_data(
                &mut header(EntryType::Regular, Owner { mode: 0, ..DIRECTORY }, 0),
                marker,
                &[][..],
            )?;
        }
        Ok(tar.into_inner()?)
    }
}

/// A package's path without `./` and trailing slash.
fn plain(path: &str) -> String {
    path.trim_start_matches("./").trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(layer: &Layer) -> Vec<(String, EntryType, u32)> {
        let bytes = layer.write(Vec::new(), 7).unwrap();
        assert_eq!(bytes, layer.write(Vec::new(), 7).unwrap());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 7);
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            (path, entry.header().entry_type(), entry.header().mode().unwrap())
        });
        entries.collect()
    }

    fn define(text: &str) -> definition::Layer {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_layer_knows_what_is_below_it() {
        let mut below = Below::new();
        let base =
            define("directory = [{ path = 'tmp', mode = 0o1777 }]\nfile = [{ path = 'srv/a', text = 'a' }]");
        Layer::assemble(&base, &[], &mut below).unwrap();
        let top = define("remove = ['srv/a']\nfile = [{ path = 'tmp/b', text = 'b' }]");
        let layer = Layer::assemble(&top, &[], &mut below).unwrap();
        let expected = [
            ("srv/", EntryType::Directory, 0o755),
            ("tmp/", EntryType::Directory, 0o1777),
            ("tmp/b", EntryType::Regular, 0o644),
            ("srv/.wh.a", EntryType::Regular, 0),
        ];
        assert_eq!(paths(&layer), expected.map(|(path, kind, mode)| (path.to_owned(), kind, mode)));
        assert!(!below.contains_key("srv/a") && below.contains_key("tmp/b"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut below = Below::from([("f".to_owned(), None)]);
        for (text, reason) in [
            ("remove = ['none']", "no lower layer has it"),
            ("file = [{ path = 'f/x', text = '' }]", "no directory in a lower layer"),
            ("file = [{ path = 'g', text = '' }, { path = 'g/x', text = '' }]", "no directory"),
        ] {
            let error = Layer::assemble(&define(text), &[], &mut below).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn filters_leave_what_is_kept() {
        let mut tar = tar::Builder::new(Vec::new());
        for path in ["./usr/share/doc/x/readme", "./usr/share/doc/x/copyright", "./usr/bin/x"] {
            let mut header = Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            tar.append_data(&mut header, path, &b"x"[..]).unwrap();
        }
        let bytes = tar.into_inner().unwrap();
        let mut layer = Layer::default();
        let filters = define("drop = ['usr/share/doc/**']\nkeep = ['**/copyright']");
        layer.unpack(&mut bytes.as_slice(), &filters).unwrap();
        let names: Vec<&str> = layer.nodes.keys().map(String::as_str).collect();
        assert_eq!(names, ["usr/bin/x", "usr/share/doc/x/copyright"]);
        let error = layer.unpack(&mut bytes.as_slice(), &filters).unwrap_err().to_string();
        assert!(error.contains("two packages"), "{error}");
    }
}
