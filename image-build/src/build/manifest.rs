//! `rootfs/root.toml`: what the root holds. Its comments are its documentation.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use modules::Stage;
use serde::Deserialize;

use crate::glob;

/// The manifest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) directories: Vec<String>,
    generated: Vec<String>,
    baked: Vec<String>,
    pub(crate) binaries: BTreeMap<String, String>,
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) links: BTreeMap<String, String>,
    #[serde(rename = "package")]
    pub(crate) packages: Vec<PackageRule>,
    pub(crate) boot: Boot,
    pub(crate) kernel: Kernel,
    pub(crate) modules: Modules,
}

/// What is taken from one package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackageRule {
    pub(crate) name: String,
    pub(crate) files: Vec<FileRule>,
}

/// Files of a package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileRule {
    /// A path or pattern in the package.
    from: String,
    /// The file's path in the root; the directory's when `from` ends in `/**`.
    pub(crate) to: String,
    /// Patterns below `from`'s directory that are left out.
    #[serde(default)]
    except: Vec<String>,
    /// Only files that begin with this text.
    pub(crate) magic: Option<String>,
    /// Whether everything that matches becomes one file, in the order of the names.
    #[serde(default)]
    pub(crate) joined: bool,
    #[serde(default)]
    pub(crate) executable: bool,
}

/// The boot loader.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Boot {
    pub(crate) package: String,
    pub(crate) loader: String,
    pub(crate) stub: String,
}

/// The kernel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kernel {
    pub(crate) package: String,
    pub(crate) image: String,
}

/// The kernel's modules by name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Modules {
    pub(crate) stages: BTreeMap<Stage, Vec<String>>,
    pub(crate) demand: Demand,
}

/// Modules that are loaded when something asks for them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Demand {
    pub(crate) initrd: Vec<String>,
    pub(crate) root: Vec<String>,
}

impl Manifest {
    /// Reads it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    /// Whether some line covers this path of the root.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let patterns = self.generated.iter().chain(&self.baked).chain(&self.directories);
        let targets = self.binaries.values().chain(self.files.values()).chain(self.links.keys());
        patterns.chain(targets).any(|pattern| glob::matches(pattern, path))
            || self.packages.iter().flat_map(|package| &package.files).any(|rule| rule.covers(path))
    }
}

impl FileRule {
    /// Where a package's file goes; `None` when the rule does not take it.
    pub(crate) fn target(&self, path: &str) -> Option<String> {
        if !glob::matches(&self.from, path) {
            return None;
        }
        let Some(folder) = self.from.strip_suffix("**") else { return Some(self.to.clone()) };
        let below = path.strip_prefix(folder)?;
        let taken = !self.except.iter().any(|pattern| glob::matches(pattern, below));
        taken.then(|| format!("{}/{below}", self.to))
    }

    fn covers(&self, path: &str) -> bool {
        match self.from.ends_with("**") {
            true => path.strip_prefix(&self.to).is_some_and(|rest| rest.starts_with('/')),
            false => path == self.to,
        }
    }
}
