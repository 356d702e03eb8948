//! What an image is made of: the TOML file that `image-build image` takes.
//!
//! ```toml
//! entrypoint = ["/usr/sbin/nginx"]        # also: cmd, env, working_dir, user, stop_signal,
//!                                         # healthcheck (a program that succeeds)
//!
//! [[layer]]                               # lowest first
//! packages = ["libc6"]                    # Debian's; their scripts are not run
//! drop = ["usr/share/man/**"]             # files of the packages that are left out ...
//! keep = ["usr/share/man/man1/**"]        # ... except these
//! remove = ["usr/share/nginx/html"]       # what lower layers have: becomes a whiteout
//! directory = [{ path = "tmp", mode = 0o1777 }]
//! link = [{ path = "bin/sh", target = "busybox" }]
//! file = [{ path = "etc/hostname", text = "web\n" }]
//! # or from a file beside this one: file = [{ path = "bin/app", from = "app", mode = 0o755 }]
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    #[serde(default)]
    pub(crate) entrypoint: Vec<String>,
    #[serde(default)]
    pub(crate) cmd: Vec<String>,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) stop_signal: Option<String>,
    /// A program that tells by its exit code whether a container works.
    #[serde(default)]
    pub(crate) healthcheck: Vec<String>,
    pub(crate) layer: Vec<Layer>,
}

/// One layer. Paths are taken from the root of the image, without leading slash.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Layer {
    pub(crate) packages: Vec<String>,
    pub(crate) drop: Vec<String>,
    pub(crate) keep: Vec<String>,
    pub(crate) remove: Vec<String>,
    pub(crate) directory: Vec<Directory>,
    pub(crate) link: Vec<Link>,
    pub(crate) file: Vec<File>,
}

/// A directory with its permissions and owner.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Directory {
    pub(crate) path: String,
    #[serde(default = "directory_mode")]
    pub(crate) mode: u32,
    #[serde(default)]
    pub(crate) uid: u32,
    #[serde(default)]
    pub(crate) gid: u32,
}

/// A symlink.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    pub(crate) path: String,
    pub(crate) target: String,
}

/// A file with its content.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) path: String,
    /// Its content, or where that is: from the definition's folder.
    pub(crate) text: Option<String>,
    pub(crate) from: Option<PathBuf>,
    #[serde(default = "file_mode")]
    pub(crate) mode: u32,
}

fn directory_mode() -> u32 {
    0o755
}

fn file_mode() -> u32 {
    0o644
}

impl Definition {
    /// Reads and checks a definition.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut definition = Self::parse(&text).with_context(|| format!("{}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in definition.layer.iter_mut().flat_map(|layer| &mut layer.file) {
            file.from = file.from.take().map(|from| folder.join(from));
        }
        Ok(definition)
    }

    fn parse(text: &str) -> Result<Self> {
        let definition: Self = toml::from_str(text)?;
        ensure!(!definition.layer.is_empty(), "an image takes at least one layer");
        for layer in &definition.layer {
            let inline = layer.directory.iter().map(|d| &d.path).chain(layer.link.iter().map(|l| &l.path));
            for path in inline.chain(layer.file.iter().map(|f| &f.path)).chain(&layer.remove) {
                let odd = |name| matches!(name, "" | "." | "..") || str::starts_with(name, ".wh.");
                ensure!(!path.split('/').any(odd), "bad path '{path}': it must look like etc/hostname");
            }
        }
        for file in definition.layer.iter().flat_map(|layer| &layer.file) {
            ensure!(file.text.is_some() != file.from.is_some(), "{} takes either text or from", file.path);
        }
        Ok(definition)
    }
}

impl File {
    /// What it holds.
    pub(crate) fn content(&self) -> Result<Vec<u8>> {
        match (&self.text, &self.from) {
            (Some(text), _) => Ok(text.clone().into_bytes()),
            (None, Some(from)) => fs::read(from).with_context(|| format!("cannot read {}", from.display())),
            (None, None) => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_checked() {
        let good = "cmd = ['/bin/x']\n[[layer]]\npackages = ['x']\nfile = [{ path = 'etc/x', text = '', mode = 0o600 }]";
        assert_eq!(Definition::parse(good).unwrap().layer[0].file[0].mode, 0o600);
        for bad in [
            "cmd = ['/bin/x']",
            "layer = []",
            "[[layer]]\npackage = ['x']",
            "[[layer]]\nremove = ['/etc/x']",
            "[[layer]]\nfile = [{ path = 'x' }]",
            "[[layer]]\nfile = [{ path = 'x', text = '', from = 'x' }]",
            "[[layer]]\nremove = ['etc/../x']",
            "[[layer]]\nlink = [{ path = 'a/.wh.b', target = 'x' }]",
        ] {
            assert!(Definition::parse(bad).is_err(), "{bad}");
        }
    }
}
