//! What the agent is told by the system it runs on: release, root, images, kernel command line.

use std::io;
use std::path::Path;

use plan::{ReadError, paths};
use serde::Deserialize;
use serde_json::Value;

/// The host, read once.
#[derive(Debug)]
pub(crate) struct Host {
    /// Version of the release.
    pub(crate) os_version: String,
    /// Hash of the verified root, in hex; empty when there is none.
    pub(crate) root_hash: String,
    /// The kernel command line.
    pub(crate) cmdline: String,
    /// The images that were baked in.
    pub(crate) images: images::Index,
    /// The default seccomp profile.
    pub(crate) seccomp: Value,
}

/// Why the host cannot be read. All of it is in the verified root, so this is a fault of the release.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("cannot read the kernel command line")]
    Cmdline(#[source] io::Error),
    #[error(transparent)]
    Release(#[from] ReadError),
}

/// `release.json`.
#[derive(Debug, Deserialize)]
struct Release {
    version: String,
}

impl Host {
    pub(crate) fn read() -> Result<Self, HostError> {
        let cmdline = std::fs::read_to_string("/proc/cmdline").map_err(HostError::Cmdline)?;
        let release: Release = plan::read_json(Path::new(paths::RELEASE))?;
        let index = Path::new(paths::BAKED_IMAGES).join("index.json");
        Ok(Self {
            os_version: release.version,
            root_hash: value(&cmdline, paths::CMDLINE_ROOT).unwrap_or_default().to_owned(),
            images: if index.exists() { plan::read_json(&index)? } else { images::Index::default() },
            seccomp: plan::read_json(Path::new(paths::SECCOMP))?,
            cmdline,
        })
    }
}

/// The value of `key=value` on the kernel command line, the last one when it is given more than once.
pub(crate) fn value<'a>(cmdline: &'a str, key: &str) -> Option<&'a str> {
    let mut values =
        cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    values.next_back().map(|value| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_on_the_command_line_counts() {
        let line = "console=ttyS0 a=1 ab=3 a=\"2==\" a\n";
        assert_eq!(value(line, "a"), Some("2=="));
        assert_eq!(value(line, "b"), None);
    }
}
