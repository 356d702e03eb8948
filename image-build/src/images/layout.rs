//! Reads OCI image layouts (image-spec, `image-layout.md`). Nothing of a blob is believed before its digest is.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use images::oci::{self, Configuration, Layer};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType, OciLayout};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::hash;

/// The annotation that holds a tag.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Larger than any index, manifest or configuration.
const MAX_JSON: u64 = 16 << 20;
/// How deep an index may be in another.
const MAX_DEPTH: u32 = 4;

/// A layout on disk.
#[derive(Debug)]
pub(crate) struct Layout {
    folder: PathBuf,
}

/// An image that was found in it.
#[derive(Debug)]
pub(crate) struct Found {
    /// Digest of the manifest.
    pub(crate) digest: String,
    /// Lowest first.
    pub(crate) layers: Vec<Layer>,
    pub(crate) config: images::Config,
}

impl Layout {
    /// Opens the layout in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let marker = folder.join("oci-layout");
        let layout = OciLayout::from_file(&marker).with_context(|| {
            format!("{} is no OCI image layout: cannot read {}", folder.display(), marker.display())
        })?;
        let version = layout.image_layout_version();
        ensure!(version.starts_with("1."), "{} has version {version}, known is 1", marker.display());
        Ok(Self { folder: folder.to_owned() })
    }

    /// The image with this tag for linux/amd64; without a tag the only one.
    pub(crate) fn image(&self, tag: Option<&str>) -> Result<Found> {
        let path = self.folder.join("index.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let index: ImageIndex =
            serde_json::from_slice(&text).with_context(|| format!("{} is no image index", path.display()))?;
        let named = |descriptor: &&Descriptor| tag.is_none() || tag == ref_name(descriptor);
        let manifests: Vec<&Descriptor> = index.manifests().iter().filter(named).collect();
        let descriptor = oci::choose(manifests).with_context(|| {
            let tags: Vec<&str> = index.manifests().iter().filter_map(ref_name).collect();
            format!(
                "{} has no single image for {}; its tags: {}",
                path.display(),
                tag.unwrap_or("any tag"),
                tags.join(", ")
            )
        })?;
        self.resolve(descriptor.clone())
    }

    fn resolve(&self, mut descriptor: Descriptor) -> Result<Found> {
        for _ in 0..MAX_DEPTH {
            if oci::is(&descriptor, &MediaType::ImageManifest) {
                return self.manifest(&descriptor);
            }
            let media_type = descriptor.media_type();
            ensure!(
                oci::is(&descriptor, &MediaType::ImageIndex),
                "{} is a {media_type}, no image",
                descriptor.digest()
            );
            let index: ImageIndex = self.json(&descriptor)?;
            let chosen = oci::choose(index.manifests());
            descriptor = chosen.with_context(|| format!("in image index {}", descriptor.digest()))?.clone();
        }
        bail!("image indexes more than {MAX_DEPTH} deep")
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Found> {
        let manifest: ImageManifest = self.json(descriptor)?;
        let config: Configuration = self.json(manifest.config())?;
        let digest = descriptor.digest().to_string();
        let layers = oci::layers(&manifest, &config).with_context(|| format!("image {digest}"))?;
        Ok(Found { layers, config: oci::run_config(&config), digest })
    }

    /// A blob's file.
    pub(crate) fn blob(&self, descriptor: &Descriptor) -> Result<File> {
        let hex = descriptor.as_digest_sha256().with_context(|| {
            format!("cannot verify {}: only SHA-256 digests are known", descriptor.digest())
        })?;
        let path = self.folder.join("blobs/sha256").join(hex);
        File::open(&path).with_context(|| format!("cannot open {}", path.display()))
    }

    /// A blob of JSON, verified.
    fn json<T: DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T> {
        let digest = descriptor.digest();
        ensure!(descriptor.size() <= MAX_JSON, "{digest} is too large: {} bytes", descriptor.size());
        let mut bytes = Vec::new();
        self.blob(descriptor)?.take(MAX_JSON).read_to_end(&mut bytes)?;
        let found = hash::hex(&Sha256::digest(&bytes));
        ensure!(
            digest.to_string() == format!("sha256:{found}"),
            "blob {digest} is damaged: it has SHA-256 {found}"
        );
        serde_json::from_slice(&bytes)
            .with_context(|| format!("cannot understand {} {digest}", descriptor.media_type()))
    }
}

fn ref_name(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}
