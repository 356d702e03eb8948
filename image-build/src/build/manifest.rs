//! `rootfs/root.toml`: what the root holds. Its comments are its documentation.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
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
    kernels: BTreeMap<String, KernelRule>,
    #[serde(default)]
    firmware: Vec<PackageRule>,
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

/// A kernel that a build can take.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KernelRule {
    Packaged(Packaged),
    Compiled(Compiled),
}

/// A kernel that comes from Debian as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Packaged {
    /// The meta package that leads to it.
    pub(crate) package: String,
    /// Where the package has it.
    pub(crate) image: String,
    /// The sets of modules that it is taken with.
    demand: Vec<String>,
    /// The packages of firmware that it is taken with.
    #[serde(default)]
    firmware: Vec<String>,
}

/// A kernel of our own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compiled {
    /// Debian's package of its source.
    pub(crate) source: String,
    /// Files of the manifest's folder with what is asked of Kconfig; later lines win.
    pub(crate) fragments: Vec<String>,
    /// The sets of modules that it is taken with.
    demand: Vec<String>,
    /// The packages of firmware that it is taken with.
    #[serde(default)]
    firmware: Vec<String>,
}

/// The kernels' modules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Modules {
    pub(crate) stages: BTreeMap<Stage, Vec<String>>,
    demand: BTreeMap<String, Demand>,
}

/// Modules that are loaded when something asks for them, each by its name or by a pattern for its path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Demand {
    /// Whether those of the root stay compressed.
    #[serde(default)]
    pub(crate) packed: bool,
    pub(crate) initrd: Vec<String>,
    pub(crate) root: Vec<String>,
}

impl Manifest {
    /// Reads it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    /// The kernel of this name.
    pub(crate) fn kernel(&self, name: &str) -> Result<&KernelRule> {
        let Some(rule) = self.kernels.get(name) else {
            let known: Vec<_> = self.kernels.keys().map(String::as_str).collect();
            bail!("there is no kernel {name}: rootfs/root.toml has {}", known.join(", "));
        };
        Ok(rule)
    }

    /// The sets of modules that a kernel is taken with.
    pub(crate) fn demand(&self, rule: &KernelRule) -> Result<Vec<&Demand>> {
        let sets = match rule {
            KernelRule::Packaged(rule) => &rule.demand,
            KernelRule::Compiled(rule) => &rule.demand,
        };
        let named =
            |set| self.modules.demand.get(set).with_context(|| format!("there is no [modules.demand.{set}]"));
        sets.iter().map(named).collect()
    }

    /// Adds the firmware of a kernel to what is taken from packages.
    pub(crate) fn add_firmware(&mut self, kernel: &str) -> Result<()> {
        let wanted = match self.kernel(kernel)? {
            KernelRule::Packaged(rule) => rule.firmware.clone(),
            KernelRule::Compiled(rule) => rule.firmware.clone(),
        };
        for name in wanted {
            let at = self.firmware.iter().position(|rule| rule.name == name);
            let at = at.with_context(|| format!("there is no [[firmware]] {name}"))?;
            self.packages.push(self.firmware.swap_remove(at));
        }
        Ok(())
    }

    /// Whether this file of the manifest's folder is part of a kernel's configuration.
    pub(crate) fn configures_a_kernel(&self, file: &str) -> bool {
        let compiled = self.kernels.values().filter_map(|rule| match rule {
            KernelRule::Compiled(rule) => Some(&rule.fragments),
            KernelRule::Packaged(_) => None,
        });
        compiled.flatten().any(|fragment| fragment == file)
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
