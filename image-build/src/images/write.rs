//! Writes OCI image layouts (image-spec, `image-layout.md`); the same image always gives the same bytes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, Digest as BlobDigest, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, RootFsBuilder,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::definition::Definition;
use super::layer::Layer;
use super::layout::REF_NAME;
use crate::hash;

/// The tag of the one image in the layout.
const TAG: &str = "latest";

/// A layout that is being written; it takes its place when it is complete.
#[derive(Debug)]
pub(crate) struct Writing {
    work: tempfile::TempDir,
    layers: Vec<(Descriptor, String)>,
}

impl Writing {
    /// Begins a layout that will be at `out`.
    pub(crate) fn begin(out: &Path) -> Result<Self> {
        let parent = out.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let work = tempfile::tempdir_in(parent)?;
        fs::create_dir_all(work.path().join("layout/blobs/sha256"))?;
        Ok(Self { work, layers: Vec::new() })
    }

    /// Adds the next layer, gzipped.
    pub(crate) fn layer(&mut self, layer: &Layer, mtime: u64) -> Result<()> {
        let path = self.path("layer");
        let packed = Hashing::new(BufWriter::new(File::create(&path)?));
        let gzip = GzBuilder::new().mtime(0).operating_system(255).write(packed, Compression::best());
        let unpacked = layer.write(Hashing::new(gzip), mtime)?;
        let diff_id = hash::hex(&unpacked.hasher.finalize());
        let mut packed = unpacked.inner.finish()?;
        packed.flush()?;
        let size = fs::metadata(&path)?.len();
        let digest = hash::hex(&packed.hasher.finalize());
        fs::rename(&path, self.path("blobs/sha256").join(&digest))?;
        self.layers
            .push((descriptor(MediaType::ImageLayerGzip, size, &digest)?, format!("sha256:{diff_id}")));
        Ok(())
    }

    /// Adds configuration and indexes, and moves the layout to `out`, where an older one may be.
    pub(crate) fn finish(self, definition: &Definition, out: &Path) -> Result<()> {
        let mut config = ConfigBuilder::default().env(definition.env.clone());
        if !definition.entrypoint.is_empty() {
            config = config.entrypoint(definition.entrypoint.clone());
        }
        if !definition.cmd.is_empty() {
            config = config.cmd(definition.cmd.clone());
        }
        if let Some(directory) = &definition.working_dir {
            config = config.working_dir(directory.clone());
        }
        if let Some(user) = &definition.user {
            config = config.user(user.clone());
        }
        if let Some(signal) = &definition.stop_signal {
            config = config.stop_signal(signal.clone());
        }
        let diff_ids: Vec<String> = self.layers.iter().map(|(_, id)| id.clone()).collect();
        let config = ImageConfigurationBuilder::default()
            .architecture(Arch::Amd64)
            .os(Os::Linux)
            .config(config.build()?)
            .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?)
            .build()?;
        let mut config = serde_json::to_value(config)?;
        if !definition.healthcheck.is_empty() {
            // Docker's; the specification has no field for it.
            let test: Vec<&str> =
                ["CMD"].into_iter().chain(definition.healthcheck.iter().map(String::as_str)).collect();
            config["config"]["Healthcheck"] = serde_json::json!({ "Test": test });
        }
        let config = self.json(MediaType::ImageConfig, &config)?;
        let layers: Vec<Descriptor> = self.layers.iter().map(|(layer, _)| layer.clone()).collect();
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers)
            .build()?;
        let mut manifest = self.json(MediaType::ImageManifest, &manifest)?;
        manifest.set_annotations(Some(HashMap::from([(REF_NAME.to_owned(), TAG.to_owned())])));
        let index = ImageIndexBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageIndex)
            .manifests(vec![manifest])
            .build()?;
        fs::write(self.path("index.json"), serde_json::to_vec(&index)?)?;
        let marker = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
        fs::write(self.path("oci-layout"), serde_json::to_vec(&marker)?)?;

        if out.join("oci-layout").exists() {
            fs::remove_dir_all(out).with_context(|| format!("cannot replace {}", out.display()))?;
        } else if out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} is there and is no OCI image layout: choose another --out", out.display());
        }
        fs::rename(self.path(""), out).with_context(|| format!("cannot make {}", out.display()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join("layout").join(name)
    }

    fn json(&self, media_type: MediaType, value: &impl Serialize) -> Result<Descriptor> {
        let bytes = serde_json::to_vec(value)?;
        let digest = hash::hex(&Sha256::digest(&bytes));
        fs::write(self.path("blobs/sha256").join(&digest), &bytes)?;
        descriptor(media_type, bytes.len() as u64, &digest)
    }
}

fn descriptor(media_type: MediaType, size: u64, digest: &str) -> Result<Descriptor> {
    let digest: BlobDigest = format!("sha256:{digest}").parse()?;
    Ok(DescriptorBuilder::default().media_type(media_type).size(size).digest(digest).build()?)
}

/// Takes the SHA-256 of what is written through it.
#[derive(Debug)]
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new() }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
