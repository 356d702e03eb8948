//! What an OCI or Docker image says of itself (image-spec `manifest.md`, `image-index.md`, `config.md`), as far as running
//! it takes. Pure: whoever fetches the JSON has checked its digest.

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageManifest, MediaType, Os, ToDockerV2S2};
use serde::Deserialize;
use serde_json::Value;

use crate::{Config, Healthcheck, sha256_hex};

/// An image's configuration: the specification's, and what Docker adds to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub struct Configuration {
    image: ImageConfiguration,
    healthcheck: Option<Healthcheck>,
}

impl TryFrom<Value> for Configuration {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let check = value.get("config").and_then(|config| config.get("Healthcheck")).filter(|c| !c.is_null());
        let healthcheck = check.map(Healthcheck::deserialize).transpose()?;
        Ok(Self { image: serde_json::from_value(value)?, healthcheck })
    }
}

/// A layer as it is named twice: packed by its manifest, unpacked by its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The blob, maybe compressed.
    pub blob: Descriptor,
    /// SHA-256 of the tar stream in it: `sha256:` and 64 hex digits.
    pub diff_id: String,
}

/// Why there is no image in what was read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not this machine's.
    #[error("there is no image for linux/amd64 in it")]
    Platform,
    /// More than one that would do.
    #[error("there are {0} images for linux/amd64 in it")]
    Ambiguous(usize),
    /// The configuration is for another machine.
    #[error("it is for {0}, not for linux/amd64")]
    Foreign(String),
    /// The two lists of layers differ.
    #[error("its manifest has {blobs} layers and its configuration {ids}")]
    Layers {
        /// In the manifest.
        blobs: usize,
        /// In the configuration.
        ids: usize,
    },
    /// A digest that cannot be checked.
    #[error("'{0}' is no SHA-256 digest")]
    Digest(String),
}

/// Whether a descriptor has the media type, or Docker's older name for it.
pub fn is(descriptor: &Descriptor, media_type: &MediaType) -> bool {
    let found = descriptor.media_type();
    found == media_type || media_type.to_docker_v2s2().is_ok_and(|name| name == found.as_ref())
}

/// The one manifest for linux/amd64, or the one that names no platform.
pub fn choose<'a>(manifests: impl IntoIterator<Item = &'a Descriptor>) -> Result<&'a Descriptor, Unfit> {
    let fits = |descriptor: &&Descriptor| {
        let platform = descriptor.platform().as_ref();
        platform.is_none_or(|p| *p.os() == Os::Linux && *p.architecture() == Arch::Amd64)
    };
    let mut found: Vec<&Descriptor> = manifests.into_iter().filter(fits).collect();
    found.dedup_by_key(|descriptor| descriptor.digest().clone());
    match found[..] {
        [one] => Ok(one),
        [] => Err(Unfit::Platform),
        _ => Err(Unfit::Ambiguous(found.len())),
    }
}

/// The layers of an image, lowest first.
pub fn layers(manifest: &ImageManifest, config: &Configuration) -> Result<Vec<Layer>, Unfit> {
    let layer = |(blob, id): (&Descriptor, &String)| {
        let digest = blob.digest().as_ref();
        sha256_hex(digest).ok_or_else(|| Unfit::Digest(digest.to_owned()))?;
        Ok(Layer { blob: blob.clone(), diff_id: id.clone() })
    };
    let ids = diff_ids(config, manifest.layers().len())?;
    manifest.layers().iter().zip(ids).map(layer).collect()
}

/// The diff ids of an image for this machine that comes with so many layers, lowest first.
pub fn diff_ids(config: &Configuration, blobs: usize) -> Result<&[String], Unfit> {
    let config = &config.image;
    let (os, arch) = (config.os(), config.architecture());
    if *os != Os::Linux || *arch != Arch::Amd64 {
        return Err(Unfit::Foreign(format!("{os}/{arch}")));
    }
    let diff_ids = config.rootfs().diff_ids();
    if blobs != diff_ids.len() {
        return Err(Unfit::Layers { blobs, ids: diff_ids.len() });
    }
    match diff_ids.iter().find(|id| sha256_hex(id).is_none()) {
        Some(id) => Err(Unfit::Digest(id.clone())),
        None => Ok(diff_ids),
    }
}

/// What running takes; empty texts mean nothing, as in Docker.
pub fn run_config(config: &Configuration) -> Config {
    let healthcheck = config.healthcheck.clone();
    let Some(config) = config.image.config() else { return Config { healthcheck, ..Config::default() } };
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Config {
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: config.env().clone().unwrap_or_default(),
        working_dir: text(config.working_dir()),
        user: text(config.user()),
        stop_signal: text(config.stop_signal()),
        healthcheck,
    }
}
