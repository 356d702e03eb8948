//! The output directory, and `manifest.json`, which says what is in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::hash;

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildManifest {
    /// The version.
    pub(crate) version: String,
    /// The root's hash.
    pub(crate) root_hash: String,
    /// Seconds since the epoch that the artifacts carry.
    pub(crate) source_date_epoch: u64,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// The artifacts by their path in the output directory.
    pub(crate) artifacts: BTreeMap<String, Artifact>,
    /// Versions of the Debian packages by name.
    pub(crate) packages: BTreeMap<String, String>,
}

/// One artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Artifact {
    /// Bytes.
    pub(crate) size: u64,
    /// SHA-256, hex.
    pub(crate) sha256: String,
}

/// The output directory.
#[derive(Debug)]
pub(crate) struct Output {
    folder: PathBuf,
    artifacts: BTreeMap<String, Artifact>,
}

impl Output {
    /// Makes the directory when it is not there.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        for folder in ["direct", "netboot", "microvm", "bin"].map(|name| folder.join(name)) {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Self { folder: folder.to_owned(), artifacts: BTreeMap::new() })
    }

    /// Where an artifact is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Lets `make` write an artifact; only when it is whole does it take its name.
    pub(crate) fn make(&mut self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let (path, new) = (self.path(name), self.folder.join(format!("{name}.new")));
        make(&new).with_context(|| format!("cannot make {}", path.display()))?;
        let (size, sha256) = (fs::metadata(&new)?.len(), hash::sha256_file(&new)?);
        fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))?;
        self.artifacts.insert(name.to_owned(), Artifact { size, sha256 });
        Ok(())
    }

    /// Writes an artifact through a stream.
    pub(crate) fn stream(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        self.make(name, |path| {
            let mut out = BufWriter::new(File::create(path)?);
            write(&mut out)?;
            Ok(out.flush()?)
        })
    }

    /// Writes an artifact.
    pub(crate) fn write(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.stream(name, |out| Ok(out.write_all(content)?))
    }

    /// What has been made.
    pub(crate) fn artifacts(&self) -> &BTreeMap<String, Artifact> {
        &self.artifacts
    }

    /// Writes `manifest.json`. What an earlier build has left here and this one does not make is removed: it belongs to
    /// another root.
    pub(crate) fn write_manifest(&self, manifest: &BuildManifest) -> Result<()> {
        let path = self.path("manifest.json");
        let earlier =
            fs::read(&path).ok().and_then(|text| serde_json::from_slice::<BuildManifest>(&text).ok());
        let earlier = earlier.map(|manifest| manifest.artifacts).unwrap_or_default();
        for name in earlier.keys().filter(|name| !manifest.artifacts.contains_key(*name)) {
            let path = self.path(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        let mut text = serde_json::to_vec_pretty(manifest)?;
        text.push(b'\n');
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_earlier_build_is_left() {
        let folder = tempfile::tempdir().expect("a directory");
        let build = |names: &[&str]| {
            let mut output = Output::open(folder.path()).expect("an output directory");
            for name in names {
                output.write(name, b"content").expect("an artifact");
            }
            let manifest = BuildManifest {
                version: "1".to_owned(),
                root_hash: String::new(),
                source_date_epoch: 0,
                kernel: String::new(),
                artifacts: output.artifacts().clone(),
                packages: BTreeMap::new(),
            };
            output.write_manifest(&manifest).expect("a manifest");
        };
        build(&["root.erofs", "microvm/vmlinux"]);
        fs::write(folder.path().join("disk.raw"), "somebody's").expect("a file");
        build(&["root.erofs"]);
        let is_there = |name: &str| folder.path().join(name).exists();
        assert!(is_there("root.erofs") && is_there("disk.raw") && !is_there("microvm/vmlinux"));
    }
}
