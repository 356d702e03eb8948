//! From OCI image layouts to the image store that goes into the root.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::bufread::MultiGzDecoder;
use images::oci::Layer;
use images::{Hashing, Image, Index};
use sha2::{Digest, Sha256};

use super::ImageSpec;
use super::layout::Layout;

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
    for Layer { blob, diff_id } in &found.layers {
        let file = images::layer_path(out, diff_id).context("the layout gave an unchecked digest")?;
        if !file.exists() {
            let digest = blob.digest();
            let blob = layout.blob(blob)?;
            convert(blob, digest.as_ref(), diff_id, &file).with_context(|| format!("layer {digest}"))?;
        }
        layers.push(diff_id.clone());
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
    let hex = images::sha256_hex(diff_id).context("the layout gave an unchecked digest")?;

    let temporary = file.with_extension("new");
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&Sha256::digest(hex)[..16]);
    erofs::layer(&mut tar, File::create(&temporary)?, erofs::Options { uuid, build_time: 0 })?;
    let unpacked = tar.digest();
    io::copy(&mut packed, &mut io::sink())?;
    let found = packed.into_inner().digest();
    ensure!(found == digest, "blob is damaged: it has digest {found}");
    ensure!(unpacked == diff_id, "it unpacks to {unpacked}, but the image's configuration says {diff_id}");
    fs::rename(&temporary, file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::images::definition::Definition;
    use crate::images::layer::{Below, Layer};
    use crate::images::write::Writing;

    const DEFINITION: &str = "entrypoint = ['/bin/x']\nstop_signal = 'SIGQUIT'\nhealthcheck = ['/bin/ok']\n\
        [[layer]]\nfile = [{ path = 'a', text = 'one' }, { path = 'b', text = 'two' }]\n\
        [[layer]]\nremove = ['a']\nlink = [{ path = 'c', target = 'b' }]";

    /// A folder with a layout made of the definition, and what `--image` would say of it.
    fn made(definition: &str) -> (TempDir, ImageSpec) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("oci");
        let definition: Definition = toml::from_str(definition).unwrap();
        let mut writing = Writing::begin(&out).unwrap();
        let mut below = Below::new();
        for layer in &definition.layer {
            writing.layer(&Layer::assemble(layer, &[], &mut below).unwrap(), 5).unwrap();
        }
        writing.finish(&definition, &out).unwrap();
        let spec = format!("app={}", out.display()).parse().unwrap();
        (folder, spec)
    }

    /// The files of a layout's blobs.
    fn blobs(spec: &ImageSpec) -> Vec<PathBuf> {
        let entries = fs::read_dir(spec.layout.join("blobs/sha256")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn reason(spec: &ImageSpec) -> String {
        let out = tempfile::tempdir().unwrap();
        let error = bake(std::slice::from_ref(spec), out.path()).unwrap_err();
        assert!(!out.path().join("index.json").exists());
        format!("{error:#}")
    }

    #[test]
    fn a_made_image_becomes_a_store() {
        let (_folder, spec) = made(DEFINITION);
        let (_again, other) = made(DEFINITION);
        let names =
            |spec| blobs(spec).iter().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&spec), names(&other), "the same definition gave other blobs");
        let out = tempfile::tempdir().unwrap();
        let second = ImageSpec { name: images::expand_reference("second"), ..other };
        let index = bake(&[spec, second], out.path()).unwrap();
        let image = &index.images["docker.io/library/app:latest"];
        assert_eq!(*image, index.images["docker.io/library/second:latest"]);
        assert_eq!((&image.config.entrypoint[..], image.layers.len()), (&["/bin/x".to_owned()][..], 2));
        assert_eq!(
            (image.config.stop_signal.as_deref(), image.config.user.as_deref()),
            (Some("SIGQUIT"), None)
        );
        let check = image.config.healthcheck.as_ref().and_then(images::Healthcheck::command);
        assert_eq!(check, Some(vec!["/bin/ok".to_owned()]));
        for layer in &image.layers {
            assert!(images::layer_path(out.path(), layer).unwrap().is_file());
        }
        assert_eq!(fs::read_dir(out.path().join("layers/sha256")).unwrap().count(), 2);
        let written = fs::read(out.path().join("index.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Index>(&written).unwrap(), index);
    }

    #[test]
    fn every_damaged_blob_is_found() {
        let (_folder, spec) = made(DEFINITION);
        for path in blobs(&spec) {
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            *bad.last_mut().unwrap() ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(!reason(&spec).is_empty());
            fs::write(&path, good).unwrap();
        }
        assert!(bake(&[spec], tempfile::tempdir().unwrap().path()).is_ok());
    }

    #[test]
    fn two_images_cannot_have_one_name() {
        let (_folder, spec) = made(DEFINITION);
        let out = tempfile::tempdir().unwrap();
        let error = bake(&[spec.clone(), spec], out.path()).unwrap_err().to_string();
        assert!(error.contains("two images named docker.io/library/app:latest"), "{error}");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let (folder, spec) = made(DEFINITION);
        let tagged = ImageSpec { tag: Some("v2".into()), ..spec.clone() };
        let said = reason(&tagged);
        assert!(said.contains("no single image for v2") && said.contains("its tags: latest"), "{said}");
        let elsewhere = ImageSpec { layout: folder.path().to_owned(), ..spec.clone() };
        assert!(reason(&elsewhere).contains("is no OCI image layout"));
        fs::remove_file(&blobs(&spec)[0]).unwrap();
        assert!(reason(&spec).contains("cannot open"));
    }

    #[test]
    fn layers_may_be_plain_gzip_or_zstd() {
        let definition: Definition = toml::from_str(DEFINITION).unwrap();
        let layer = Layer::assemble(&definition.layer[0], &[], &mut Below::new()).unwrap();
        let tar = layer.write(Vec::new(), 5).unwrap();
        let gzip = {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut writer, &tar).unwrap();
            writer.finish().unwrap()
        };
        let diff_id = images::digest_of(&tar);
        let folder = tempfile::tempdir().unwrap();
        let mut images = Vec::new();
        for packed in [tar.clone(), gzip, zstd::encode_all(tar.as_slice(), 3).unwrap()] {
            let (blob, file) = (folder.path().join("blob"), folder.path().join("layer.erofs"));
            fs::write(&blob, &packed).unwrap();
            let digest = images::digest_of(&packed);
            convert(File::open(&blob).unwrap(), &digest, &diff_id, &file).unwrap();
            let wrong = convert(File::open(&blob).unwrap(), &digest, &digest, &file);
            assert_eq!(wrong.is_ok(), digest == diff_id);
            images.push(fs::read(&file).unwrap());
        }
        assert!(images.iter().all(|image| *image == images[0]));
    }
}
