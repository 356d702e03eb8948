//! Finds an image in what `docker save` writes (moby, `image/spec`, "Combined Image JSON + Filesystem Changeset Format").
//!
//! Layers are named by their paths, which mean nothing: what is in them is checked against the configuration, whose own
//! digest is what the image is known by, as there is no manifest that has one. `repositories`, `VERSION` and `json` files
//! are of older versions, and say nothing that is needed.

use std::io;

use serde::Deserialize;

use crate::found::{self, FindError, Found};
use crate::oci::{self, Unfit};

/// The file that names what is in such an archive.
pub const MANIFEST: &str = "manifest.json";

/// A layer: its path in the archive, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The path.
    pub path: String,
    /// SHA-256 of the tar stream: `sha256:` and 64 hex digits.
    pub diff_id: String,
}

/// One image of [`MANIFEST`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Entry {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.repo_tags.iter().flatten().map(String::as_str)
    }
}

/// The image that [`MANIFEST`] names: the only one, else the one that is called `name`, a full name. `file` gives the
/// content of a file of JSON.
///
/// # Errors
/// When there is no such image, or something of it is not there, damaged, or cannot be understood.
pub fn image(
    manifest: &[u8],
    name: &str,
    file: impl FnOnce(&str) -> io::Result<Vec<u8>>,
) -> Result<Found<Layer>, FindError> {
    let entries: Vec<Entry> = found::parse(manifest, MANIFEST)?;
    let called = entries.iter().find(|entry| entry.names().any(|said| found::means(said, name)));
    let entry = match (&entries[..], called) {
        ([], _) => return Err(FindError::Empty),
        ([one], _) | (_, Some(one)) => one,
        _ => return Err(found::no_such_name(name, entries.len(), entries.iter().flat_map(Entry::names))),
    };
    let what = format!("the configuration {}", entry.config);
    let text = file(&entry.config).map_err(|source| FindError::Read { what: what.clone(), source })?;
    // Its name is its digest, as far as Docker wrote it.
    let stem = entry.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    let named = format!("sha256:{stem}");
    let digest = if crate::sha256_hex(&named).is_some() { named } else { crate::digest_of(&text) };
    let config = found::configuration(&text, &digest, &what)?;
    let unfit = |source: Unfit| FindError::Unfit { what, source };
    let ids = oci::diff_ids(&config, entry.layers.len()).map_err(unfit)?;
    let layer = |(path, id): (&String, &String)| Layer { path: path.clone(), diff_id: id.clone() };
    let layers = entry.layers.iter().zip(ids).map(layer).collect();
    Ok(Found { digest, layers, config: oci::run_config(&config) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(arch: &str, layers: usize) -> Vec<u8> {
        let ids: Vec<String> = (0..layers).map(|n| format!("sha256:{}", n.to_string().repeat(64))).collect();
        json!({ "architecture": arch, "os": "linux", "config": { "Cmd": ["run"] },
            "rootfs": { "type": "layers", "diff_ids": ids }, "history": [] })
        .to_string()
        .into_bytes()
    }

    fn find(manifest: &serde_json::Value, name: &str, config: &[u8]) -> Result<Found<Layer>, String> {
        let found = image(manifest.to_string().as_bytes(), &crate::expand_reference(name), |path| {
            if path.ends_with("gone.json") {
                Err(io::ErrorKind::NotFound.into())
            } else {
                Ok(config.to_vec())
            }
        });
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn an_image_is_known_by_its_configuration() {
        let config = config("amd64", 2);
        let digest = crate::digest_of(&config);
        for path in
            [format!("{}.json", &digest[7..]), format!("blobs/sha256/{}", &digest[7..]), "c.json".to_owned()]
        {
            let one = json!([{ "Config": path, "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"] }]);
            let found = find(&one, "any:1", &config).unwrap();
            assert_eq!((found.digest.as_str(), found.config.cmd.concat().as_str()), (digest.as_str(), "run"));
            assert_eq!(found.layers[1].path, "b/layer.tar");
            assert_eq!(found.layers[1].diff_id, format!("sha256:{}", "1".repeat(64)));
        }
    }

    #[test]
    fn one_of_several_is_found_by_its_name() {
        let entry = |config: &str, tags: &[&str]| json!({ "Config": config, "RepoTags": tags, "Layers": [] });
        let two = json!([entry("gone.json", &["a:1"]), entry("c.json", &["b:2", "ghcr.io/o/b:3"])]);
        let empty = config("amd64", 0);
        assert!(find(&two, "b:2", &empty).is_ok() && find(&two, "ghcr.io/o/b:3", &empty).is_ok());
        assert!(find(&two, "a:1", &empty).unwrap_err().contains("cannot read the configuration gone.json"));
        let error = find(&two, "c:1", &empty).unwrap_err();
        assert!(
            error.contains("2 images in it") && error.ends_with("names are: a:1, b:2, ghcr.io/o/b:3"),
            "{error}"
        );
        assert_eq!(find(&json!([]), "a", &empty).unwrap_err(), "there is no image in it");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let one = |config: &str| json!([{ "Config": config, "Layers": ["a/layer.tar"] }]);
        let named = format!("{}.json", "0".repeat(64));
        for (manifest, config, said) in [
            (one("c"), config("arm64", 1), "cannot be run here"),
            (one("c"), config("amd64", 2), "cannot be run here"),
            (one("c"), b"{}".to_vec(), "cannot be understood"),
            (one(&named), config("amd64", 1), "is damaged: its digest is"),
            (json!({ "Config": "c" }), config("amd64", 1), "manifest.json of it cannot be understood"),
        ] {
            let error = find(&manifest, "a", &config).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
