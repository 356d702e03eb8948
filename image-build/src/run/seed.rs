//! User-data for the guest: a NoCloud disk, or a kernel parameter.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

/// NoCloud wants a `meta-data` file beside the user-data, with an id of the instance.
const META_DATA: &[u8] = b"instance-id: image-build\n";

/// The kernel's limit of its command line on x86 is 2048; the build's own part takes some of it.
const PARAMETER_LIMIT: usize = 1600;

/// A FAT disk labelled CIDATA.
pub(super) fn vfat(user_data: &[u8], work: &Path) -> anyhow::Result<PathBuf> {
    let path = work.join("seed.vfat");
    let make = || -> std::io::Result<()> {
        let image = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
        // Room for FAT's own structures beside the largest user-data that a node takes.
        image.set_len(32 << 20)?;
        let options = fatfs::FormatVolumeOptions::new().volume_label(*b"CIDATA     ");
        fatfs::format_volume(&image, options)?;
        let volume = fatfs::FileSystem::new(&image, fatfs::FsOptions::new())?;
        for (name, content) in [("user-data", user_data), ("meta-data", META_DATA)] {
            let mut file = volume.root_dir().create_file(name)?;
            file.write_all(content)?;
            file.flush()?;
        }
        volume.unmount()
    };
    make().with_context(|| format!("cannot make the seed disk {}", path.display()))?;
    Ok(path)
}

/// An ISO 9660 disk labelled cidata.
pub(super) fn iso(user_data: &[u8], work: &Path) -> anyhow::Result<PathBuf> {
    let dir = work.join("seed");
    let path = work.join("seed.iso");
    let write = || -> std::io::Result<()> {
        std::fs::create_dir(&dir)?;
        std::fs::write(dir.join("user-data"), user_data)?;
        std::fs::write(dir.join("meta-data"), META_DATA)
    };
    write().with_context(|| format!("cannot write the seed to {}", dir.display()))?;
    for (tool, first) in [("genisoimage", None), ("xorriso", Some(["-as", "mkisofs"]))] {
        let mut command = Command::new(tool);
        command.args(first.into_iter().flatten()).args(["-quiet", "-V", "cidata", "-J", "-r", "-o"]);
        match command.arg(&path).arg(&dir).status() {
            Ok(status) if status.success() => return Ok(path),
            Ok(status) => bail!("cannot make the seed disk: {tool} failed ({status})"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot start {tool}")),
        }
    }
    bail!("cannot make an ISO 9660 seed: install genisoimage or xorriso, or use --seed vfat")
}

/// The kernel parameter that carries `user_data`.
pub(super) fn kernel_parameter(user_data: &[u8]) -> anyhow::Result<String> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(user_data)?;
    let text = BASE64_STANDARD.encode(gzip.finish()?);
    if text.len() > PARAMETER_LIMIT {
        bail!(
            "the user-data takes {} characters of the kernel command line, which has room for {PARAMETER_LIMIT}: \
               use --seed vfat",
            text.len()
        );
    }
    Ok(format!("{}={text}", plan::paths::CMDLINE_USER_DATA))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_vfat_seed_has_the_label_and_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = vfat(b"#cloud-config\n", dir.path()).unwrap();
        let volume = fatfs::FileSystem::new(
            std::fs::File::options().read(true).write(true).open(path).unwrap(),
            fatfs::FsOptions::new(),
        )
        .unwrap();
        assert_eq!(volume.volume_label(), "CIDATA");
        let mut text = String::new();
        volume.root_dir().open_file("user-data").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "#cloud-config\n");
        assert!(volume.root_dir().open_file("meta-data").is_ok());
    }

    #[test]
    fn a_kernel_parameter_is_gzip_in_base64_and_bounded() {
        let parameter = kernel_parameter(b"#cloud-config\n").unwrap();
        let text = parameter.strip_prefix("holdfast.user-data=").unwrap();
        let mut plain = String::new();
        let gzip = BASE64_STANDARD.decode(text).unwrap();
        flate2::read::GzDecoder::new(gzip.as_slice()).read_to_string(&mut plain).unwrap();
        assert_eq!(plain, "#cloud-config\n");
        let noise: Vec<u8> = (0..5000u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        assert!(kernel_parameter(&noise).is_err());
    }
}
