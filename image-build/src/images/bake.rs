//! From OCI image layouts to the image store that goes into the root.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::bufread::MultiGzDecoder;
use images::{Image, Index};
use sha2::{Digest, Sha256};

use super::ImageSpec;
use super::layout::Layout;
use crate::hash;

/// Makes an image store with these images in the directory `out`: `index.json` and one EROFS file for each layer,
/// shared between images. Every digest on the way is checked. The same layer always becomes the same file.
///
/// # Errors
/// When a layout cannot be read, holds no such image, or is damaged; when two images have one name.
pub(crate) fn bake(specs: &[ImageSpec], out: &Path) -> Result<Index> {
    fs::create_dir_all(out.join("layers/sha256"))?;
    let mut index = Index::default();
    for spec in specs {
        let image =
            add(spec, out).with_context(|| format!("image {} from {}", spec.name, spec.layout.display()))?;
        ensure!(index.images.insert(spec.name.clone(), image).is_none(), "two images named {}", spec.name);
    }
    fs::write(out.join("index.json"), serde_json::to_vec(&index)?)?;
    Ok(index)
}

fn add(spec: &ImageSpec, out: &Path) -> Result<Image> {
    let layout = Layout::open(&spec.layout)?;
    let found = layout.image(spec.tag.as_deref())?;
    let mut layers = Vec::new();
    for (descriptor, diff_id) in &found.layers {
        let file = out.join(format!("layers/sha256/{diff_id}.erofs"));
        if !file.exists() {
            let digest = descriptor.digest();
            let blob = layout.blob(descriptor)?;
            convert(blob, digest.as_ref(), diff_id, &file).with_context(|| format!("layer {digest}"))?;
        }
        layers.push(format!("sha256:{diff_id}"));
    }
    Ok(Image { digest: found.digest, layers, config: found.config })
}

/// Writes the layer in `blob`, compressed or not, to `file`, which appears only when both digests are right.
fn convert(blob: File, digest: &str, diff_id: &str, file: &Path) -> Result<()> {
    let mut packed = BufReader::with_capacity(1 << 18, Hashing::new(blob));
    let magic = io::BufRead::fill_buf(&mut packed)?.get(..4).unwrap_or_default().to_owned();
    let tar: Box<dyn Read + '_> = match magic[..] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(&mut packed)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(&mut packed)?),
        _ => Box::new(&mut packed),
    };
    let mut tar = Hashing::new(tar);

    let temporary = file.with_extension("new");
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&Sha256::digest(diff_id)[..16]);
    erofs::layer(&mut tar, File::create(&temporary)?, erofs::Options { uuid, build_time: 0 })?;
    let unpacked = tar.digest();
    io::copy(&mut packed, &mut io::sink())?;
    let found = format!("sha256:{}", packed.into_inner().digest());
    ensure!(found == digest, "blob is damaged: it has digest {found}");
    ensure!(
        unpacked == diff_id,
        "it unpacks to sha256:{unpacked}, but the image's configuration says sha256:{diff_id}"
    );
    fs::rename(&temporary, file)?;
    Ok(())
}

/// Takes the SHA-256 of what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    fn digest(self) -> String {
        hash::hex(&self.hasher.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
