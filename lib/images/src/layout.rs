//! Finds an image in an OCI image layout (image-spec, `image-layout.md`), whether that is a directory or an archive of
//! one. Nothing of a blob is believed before its digest is.

use std::io;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use crate::found::{self, FindError, Found};
use crate::oci::{self, Layer, Unfit};

/// The file that names what is in a layout.
pub const INDEX: &str = "index.json";
/// The folder of its blobs, each named by the hex digits of its digest.
pub const BLOBS: &str = "blobs/sha256/";

/// How deep an index may be in another.
const MAX_DEPTH: u32 = 4;

/// Where names are: a tag by the specification, often a whole name; and what containerd and Docker write beside it.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// The image for this machine that [`INDEX`] names: the only one, else the one that is called `name`, a full name.
/// `blob` gives the content of a blob of JSON.
///
/// # Errors
/// When there is no such image, or something of it is not there, damaged, or cannot be understood.
pub fn image(
    index: &[u8],
    name: &str,
    mut blob: impl FnMut(&Descriptor) -> io::Result<Vec<u8>>,
) -> Result<Found<Layer>, FindError> {
    let mut read = |descriptor: &Descriptor, what: &str| {
        let text = blob(descriptor).map_err(|source| FindError::Read { what: what.to_owned(), source })?;
        found::check(&text, descriptor.digest().as_ref(), what)?;
        Ok(text)
    };
    let index: ImageIndex = found::parse(index, INDEX)?;
    let mut descriptor = choose(&index, name)?.clone();
    for _ in 0..MAX_DEPTH {
        let what = format!("the manifest {}", descriptor.digest());
        let text = read(&descriptor, &what)?;
        if oci::is(&descriptor, &MediaType::ImageManifest) {
            let manifest: ImageManifest = found::parse(&text, &what)?;
            let named = format!("the configuration {}", manifest.config().digest());
            let config = found::parse(&read(manifest.config(), &named)?, &named)?;
            let unfit = |source| FindError::Unfit { what, source };
            return Ok(Found {
                digest: descriptor.digest().to_string(),
                layers: oci::layers(&manifest, &config).map_err(unfit)?,
                config: oci::run_config(&config),
            });
        }
        if !oci::is(&descriptor, &MediaType::ImageIndex) {
            return Err(FindError::Kind { what, found: descriptor.media_type().to_string() });
        }
        let index: ImageIndex = found::parse(&text, &what)?;
        let chosen = oci::choose(index.manifests());
        descriptor = chosen.map_err(|source| FindError::Unfit { what, source })?.clone();
    }
    Err(FindError::Empty)
}

fn choose<'a>(index: &'a ImageIndex, name: &str) -> Result<&'a Descriptor, FindError> {
    let unfit = |source| match index.manifests().len() {
        0 => FindError::Empty,
        _ => FindError::Unfit { what: INDEX.to_owned(), source },
    };
    let count = match oci::choose(index.manifests()) {
        Err(Unfit::Ambiguous(count)) => count,
        chosen => return chosen.map_err(unfit),
    };
    let called: Vec<&Descriptor> = index
        .manifests()
        .iter()
        .filter(|manifest| names(manifest).any(|said| found::means(said, name)))
        .collect();
    if called.is_empty() {
        return Err(found::no_such_name(name, count, index.manifests().iter().flat_map(names)));
    }
    oci::choose(called).map_err(unfit)
}

fn names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = descriptor.annotations().as_ref();
    NAMES.iter().filter_map(move |key| annotations?.get(*key)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::digest_of;

    #[derive(Default)]
    struct Blobs(BTreeMap<String, Vec<u8>>);

    impl Blobs {
        fn add(&mut self, media_type: &str, value: &Value) -> Value {
            let text = value.to_string().into_bytes();
            let digest = digest_of(&text);
            let size = text.len();
            self.0.insert(digest.clone(), text);
            json!({ "mediaType": media_type, "digest": digest, "size": size })
        }

        /// An image with one layer, called by these annotations.
        fn image(&mut self, arch: &str, cmd: &str, names: &Value) -> Value {
            let id = format!("sha256:{}", "1".repeat(64));
            let config = json!({ "architecture": arch, "os": "linux", "config": { "Cmd": [cmd] },
                "rootfs": { "type": "layers", "diff_ids": [id] }, "history": [] });
            let config = self.add("application/vnd.oci.image.config.v1+json", &config);
            let layer =
                json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": id, "size": 1 });
            let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
            let mut manifest = self.add("application/vnd.oci.image.manifest.v1+json", &manifest);
            manifest["annotations"] = names.clone();
            manifest["platform"] = json!({ "os": "linux", "architecture": arch });
            manifest
        }

        fn find(&self, manifests: &[Value], name: &str) -> Result<String, String> {
            let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
            let blob = |descriptor: &Descriptor| {
                self.0.get(descriptor.digest().as_ref()).cloned().ok_or(io::ErrorKind::NotFound.into())
            };
            let found = image(index.as_bytes(), &crate::expand_reference(name), blob);
            found.map(|found| found.config.cmd.concat()).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn the_only_image_has_any_name_and_one_of_several_its_own() {
        let mut blobs = Blobs::default();
        let tag = "org.opencontainers.image.ref.name";
        let one = blobs.image(
            "amd64",
            "one",
            &json!({ "io.containerd.image.name": "docker.io/library/a:1", tag: "1" }),
        );
        let two = blobs.image("amd64", "two", &json!({ tag: "b:2" }));
        let foreign = blobs.image("arm64", "foreign", &json!({}));
        let find = |manifests: &[&Value], name: &str| {
            blobs.find(&manifests.iter().map(|manifest| (*manifest).clone()).collect::<Vec<_>>(), name)
        };
        assert_eq!(find(&[&foreign, &one], "x:7").as_deref(), Ok("one"));
        assert_eq!(find(&[&one, &two, &foreign], "a:1").as_deref(), Ok("one"));
        assert_eq!(find(&[&one, &two, &foreign], "b:2").as_deref(), Ok("two"));
        let error = find(&[&one, &two], "c:3").unwrap_err();
        assert_eq!(
            error,
            "there are 2 images in it, and not one of them is called docker.io/library/c:3; their names are: \
             docker.io/library/a:1, 1, b:2"
        );
        assert_eq!(find(&[], "a").unwrap_err(), "there is no image in it");
        assert_eq!(find(&[&foreign], "a").unwrap_err(), "index.json of it cannot be run here");
    }

    #[test]
    fn an_index_leads_to_the_image_and_not_round_in_circles() {
        let mut blobs = Blobs::default();
        let (one, foreign) =
            (blobs.image("amd64", "one", &json!({})), blobs.image("arm64", "no", &json!({})));
        let mut index = |manifests: &[Value]| {
            blobs.add(
                "application/vnd.oci.image.index.v1+json",
                &json!({ "schemaVersion": 2, "manifests": manifests }),
            )
        };
        let inner = index(&[foreign, one]);
        let mut deep = inner.clone();
        for _ in 0..MAX_DEPTH {
            deep = index(&[deep]);
        }
        assert_eq!(blobs.find(&[inner], "a").as_deref(), Ok("one"));
        assert!(blobs.find(&[deep], "a").is_err());
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let mut blobs = Blobs::default();
        let one = blobs.image("amd64", "one", &json!({}));
        let digests: Vec<String> = blobs.0.keys().cloned().collect();
        for digest in digests {
            let good = blobs.0.remove(&digest).unwrap();
            let error = blobs.find(std::slice::from_ref(&one), "a").unwrap_err();
            assert!(error.contains(&digest) && error.contains("cannot read"), "{error}");
            blobs.0.insert(digest.clone(), [&good[..], b" "].concat());
            let error = blobs.find(std::slice::from_ref(&one), "a").unwrap_err();
            assert!(error.contains(&digest) && error.contains("is damaged"), "{error}");
            blobs.0.insert(digest, good);
        }
        let other = blobs.add("text/plain", &json!({}));
        assert!(blobs.find(&[other], "a").unwrap_err().ends_with("is no image but text/plain"));
    }
}
