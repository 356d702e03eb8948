//! The index of an image store: which image is made of which layers.
//!
//! A store is a directory with `index.json` (an [`Index`]) and `layers/sha256/<diff id in hex>.erofs`, one EROFS
//! file a layer. The root carries one with the images that were baked in; the state partition has one with those that
//! were pulled.

pub mod oci;
mod reference;

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
    fn a_layer_is_found_by_digest_only() {
        let hex = "0".repeat(64);
        let path = layer_path(Path::new("/s"), &format!("sha256:{hex}"));
        assert_eq!(path, Some(PathBuf::from(format!("/s/layers/sha256/{hex}.erofs"))));
        assert_eq!(layer_path(Path::new("/s"), "sha256:../../etc/passwd"), None);
    }
}
