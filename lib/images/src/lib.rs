//! The index of an image store: which image is made of which layers.
//!
//! A store is a directory with `index.json` (an [`Index`]) and `layers/sha256/<diff id in hex>.erofs`, one EROFS
//! file a layer. The root carries one with the images that were baked in; the state partition has one with those that
//! were pulled.

#[cfg(feature = "oci")]
mod found;
mod hashing;
#[cfg(feature = "oci")]
pub mod layout;
#[cfg(feature = "oci")]
pub mod oci;
mod reference;
#[cfg(feature = "oci")]
pub mod saved;

#[cfg(feature = "oci")]
pub use found::{FindError, Found, MAX_JSON};
pub use hashing::{Hashing, digest_of};
pub use reference::{InvalidReference, Reference, expand_reference};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `index.json` of a store: images by their full reference (`docker.io/library/nginx:latest`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The images.
    pub images: BTreeMap<String, Image>,
    /// What is recorded of layers by diff id. The root's own have no record: dm-verity checks them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layers: BTreeMap<String, Sealed>,
    /// Images that no registry gave, by the same names: what they were imported from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub imports: BTreeMap<String, String>,
}

/// A layer's file as it was when its content was checked against the diff id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The file's fs-verity digest: `sha256:` and 64 hex digits.
    pub verity: String,
    /// Size of the file in bytes.
    pub size: u64,
}

/// One image, ready to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Digest of its manifest: `sha256:` and 64 hex digits.
    pub digest: String,
    /// The layers' diff ids (`sha256:` and 64 hex digits), lowest first.
    pub layers: Vec<String>,
    /// How to run it when the service says nothing.
    pub config: Config,
}

/// The part of an image's configuration that running it takes (OCI image-spec, `config.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, as `NAME=value`.
    pub env: Vec<String>,
    /// `WorkingDir`.
    pub working_dir: Option<String>,
    /// `User`.
    pub user: Option<String>,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// `Healthcheck`, which Docker adds to the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
}

/// How it is seen that a container of an image works: Docker's form. Times in nanoseconds; 0: the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and a program with its arguments, or `CMD-SHELL` and a line.
    pub test: Vec<String>,
    /// Time between two checks.
    pub interval: u64,
    /// Time that one may take.
    pub timeout: u64,
    /// Time after the start in which a failure does not count.
    pub start_period: u64,
    /// Time between two checks until then.
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

impl Healthcheck {
    /// What is executed; none when there is no check.
    pub fn command(&self) -> Option<Vec<String>> {
        match self.test.as_slice() {
            [kind, line] if kind == "CMD-SHELL" => Some(["/bin/sh", "-c", line].map(str::to_owned).to_vec()),
            [kind, command @ ..] if kind == "CMD" && !command.is_empty() => Some(command.to_vec()),
            _ => None,
        }
    }
}

/// Where `store` keeps the layer with this diff id; `None` when it is not a SHA-256 digest.
pub fn layer_path(store: &Path, diff_id: &str) -> Option<PathBuf> {
    Some(store.join("layers/sha256").join(format!("{}.erofs", sha256_hex(diff_id)?)))
}

/// The hex digits of a SHA-256 digest (`sha256:` and 64 of them, in lower case); `None` for anything else.
pub fn sha256_hex(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    let valid = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    valid.then_some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_read_in_docker_s_form() {
        let read = |text: &str| serde_json::from_str::<Healthcheck>(text).expect("a check");
        let check = read(r#"{"Test": ["CMD-SHELL", "curl -f x"], "Interval": 5000000000, "Other": 1}"#);
        assert_eq!(check.command(), Some(["/bin/sh", "-c", "curl -f x"].map(str::to_owned).to_vec()));
        assert_eq!((check.interval, check.retries), (5_000_000_000, 0));
        assert_eq!(
            read(r#"{"Test": ["CMD", "/x", "y"]}"#).command(),
            Some(["/x", "y"].map(str::to_owned).to_vec())
        );
        for none in ["{}", r#"{"Test": ["NONE"]}"#, r#"{"Test": ["CMD"]}"#] {
            assert_eq!(read(none).command(), None, "{none}");
        }
    }

    #[test]
    fn a_layer_is_found_by_digest_only() {
        let hex = "0".repeat(64);
        let path = layer_path(Path::new("/s"), &format!("sha256:{hex}"));
        assert_eq!(path, Some(PathBuf::from(format!("/s/layers/sha256/{hex}.erofs"))));
        assert_eq!(layer_path(Path::new("/s"), "sha256:../../etc/passwd"), None);
    }
}
