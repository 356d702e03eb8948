//! The index of an image store: which image is made of which layers.
//!
//! A store is a directory with `index.json` (an [`Index`]) and `layers/sha256/<diff id in hex>.erofs`, one EROFS
//! file a layer. The root carries one with the images that were baked in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `index.json` of a store: images by their full reference (`docker.io/library/nginx:latest`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The images.
    pub images: BTreeMap<String, Image>,
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
    let hex = diff_id.strip_prefix("sha256:")?;
    let valid = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    valid.then(|| store.join("layers/sha256").join(format!("{hex}.erofs")))
}

/// The full form of an image reference, as Docker's distribution library expands it: `nginx` becomes
/// `docker.io/library/nginx:latest`. A reference with a digest keeps it and gets no tag.
pub fn expand_reference(reference: &str) -> String {
    let (first, rest) = match reference.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
        Some(_) => ("docker.io", reference.to_owned()),
        None => ("docker.io", format!("library/{reference}")),
    };
    let last = rest.rsplit('/').next().unwrap_or(&rest);
    let tag = if last.contains([':', '@']) { "" } else { ":latest" };
    format!("{first}/{rest}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_like_dockers() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest"),
            ("ghcr.io/a/b:v1", "ghcr.io/a/b:v1"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("a@sha256:00", "docker.io/library/a@sha256:00"),
        ] {
            assert_eq!(expand_reference(short), full);
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
