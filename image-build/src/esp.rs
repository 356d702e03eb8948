//! The EFI system partition: a FAT32 file system, made and changed in memory.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};

use anyhow::{Context, Result};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

/// Where systemd-boot looks for unified kernel images.
pub(crate) const IMAGES: &str = "EFI/Linux";
/// What the firmware starts when nothing else is configured.
const LOADER: &str = "EFI/BOOT/BOOTX64.EFI";
/// FAT32 must have 65525 clusters at least: with 1 KiB each, that is a partition of 65 MiB.
const CLUSTER: u32 = 1024;

/// The content of an ESP.
#[derive(Debug)]
pub(crate) struct Esp {
    bytes: Vec<u8>,
}

type Fat<'a> = FileSystem<Cursor<&'a mut [u8]>>;

impl Esp {
    /// An ESP of `size` bytes with systemd-boot on it. The same arguments give the same bytes.
    pub(crate) fn format(size: usize, volume_id: u32, loader: &[u8]) -> Result<Self> {
        let mut esp = Self { bytes: vec![0; size] };
        let options = FormatVolumeOptions::new()
            .fat_type(FatType::Fat32)
            .bytes_per_cluster(CLUSTER)
            .volume_id(volume_id)
            .volume_label(*b"HOLDFASTESP");
        fatfs::format_volume(Cursor::new(&mut esp.bytes[..]), options)
            .context("cannot make the FAT32 file system of the ESP")?;
        esp.with(|fat| {
            let make = |path| fat.root_dir().create_dir(path).map(drop);
            Ok(["EFI", "EFI/BOOT", IMAGES, "loader"].into_iter().try_for_each(make)?)
        })?;
        esp.write(LOADER, loader)?;
        esp.write("loader/loader.conf", b"timeout 0\neditor no\n")?;
        Ok(esp)
    }

    /// The ESP with these bytes.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes a file, in place of one that may be there.
    pub(crate) fn write(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.with(|fat| {
            let mut file = fat.root_dir().create_file(path)?;
            file.truncate()?;
            file.write_all(content)?;
            Ok(file.flush()?)
        })
        .with_context(|| format!("cannot write {path} ({} bytes) to the ESP", content.len()))
    }

    /// Removes a file.
    pub(crate) fn remove(&mut self, path: &str) -> Result<()> {
        self.with(|fat| Ok(fat.root_dir().remove(path)?))
            .with_context(|| format!("cannot remove {path} from the ESP"))
    }

    /// The unified kernel images by name.
    pub(crate) fn images(&mut self) -> Result<BTreeMap<String, Vec<u8>>> {
        self.with(|fat| {
            let mut images = BTreeMap::new();
            for entry in fat.root_dir().open_dir(IMAGES).context("the ESP has no directory EFI/Linux")?.iter()
            {
                let entry = entry?;
                if entry.is_file() {
                    let mut content = Vec::new();
                    entry.to_file().read_to_end(&mut content)?;
                    images.insert(entry.file_name(), content);
                }
            }
            Ok(images)
        })
    }

    fn with<T>(&mut self, work: impl FnOnce(&Fat<'_>) -> Result<T>) -> Result<T> {
        // Built without the crate's clock: every time is 1980-01-01.
        let fat = FileSystem::new(Cursor::new(&mut self.bytes[..]), FsOptions::new())
            .context("the ESP holds no FAT file system")?;
        let result = work(&fat)?;
        fat.unmount().context("cannot finish the ESP's file system")?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 70 << 20;

    #[test]
    fn images_are_written_listed_and_removed() {
        let mut esp = Esp::format(SIZE, 1, b"loader").unwrap();
        let content = vec![5; 100_000];
        esp.write("EFI/Linux/holdfast_1.0+3-0.efi", &content).unwrap();
        esp.write("EFI/Linux/holdfast_1.0+3-0.efi", b"short").unwrap();
        esp.write("EFI/Linux/holdfast_2.0.efi", &content).unwrap();
        let mut again = Esp::from_bytes(esp.bytes().to_vec());
        let images = again.images().unwrap();
        assert_eq!(images["holdfast_1.0+3-0.efi"], b"short");
        assert_eq!(images["holdfast_2.0.efi"], content);
        again.remove("EFI/Linux/holdfast_2.0.efi").unwrap();
        assert_eq!(again.images().unwrap().len(), 1);
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let make = || Esp::format(SIZE, 7, b"loader").unwrap();
        assert!(make().bytes() == make().bytes());
    }

    #[test]
    fn garbage_is_no_esp_and_a_full_one_says_so() {
        assert!(Esp::from_bytes(vec![0; 4096]).images().is_err());
        let mut esp = Esp::format(SIZE, 1, b"").unwrap();
        let error = esp.write("EFI/Linux/a.efi", &vec![1; SIZE]).unwrap_err();
        assert!(error.to_string().contains("cannot write EFI/Linux/a.efi"), "{error}");
    }
}
