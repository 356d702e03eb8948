//! The EFI system partition: a FAT32 file system that is read whole, changed in memory and written anew.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use anyhow::{Context, Result};
use fatfs::{Dir, FileSystem, FsOptions};

mod fat;

/// Where systemd-boot looks for unified kernel images.
const IMAGES: &str = "EFI/Linux";
/// What the firmware starts when nothing else is configured.
const LOADER: &str = "EFI/BOOT/BOOTX64.EFI";

/// The files of an ESP by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Esp {
    files: BTreeMap<String, Vec<u8>>,
    volume_id: u32,
}

impl Esp {
    /// An ESP with systemd-boot on it.
    pub(crate) fn new(volume_id: u32, loader: &[u8]) -> Self {
        let config = b"timeout 0\neditor no\n".to_vec();
        let files = [(LOADER.to_owned(), loader.to_vec()), ("loader/loader.conf".to_owned(), config)];
        Self { files: files.into(), volume_id }
    }

    /// The ESP in these bytes of a partition.
    pub(crate) fn read(partition: Vec<u8>) -> Result<Self> {
        let fat = FileSystem::new(Cursor::new(partition), FsOptions::new())
            .context("the ESP holds no FAT file system")?;
        let mut files = BTreeMap::new();
        read_directory(&fat.root_dir(), "", &mut files).context("cannot read the ESP")?;
        Ok(Self { files, volume_id: fat.volume_id() })
    }

    /// The bytes of a partition of `size` bytes. The same files give the same bytes.
    pub(crate) fn to_bytes(&self, size: u64) -> Result<Vec<u8>> {
        fat::write(&self.files, size, self.volume_id)
    }

    /// The unified kernel images by name.
    pub(crate) fn images(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let name = |path: &'_ str| path.strip_prefix(IMAGES)?.strip_prefix('/').map(str::len);
        self.files.iter().filter_map(move |(path, content)| {
            let length = name(path)?;
            Some((&path[path.len() - length..], &content[..]))
        })
    }

    /// Puts a unified kernel image.
    pub(crate) fn add_image(&mut self, name: &str, content: &[u8]) {
        self.files.insert(format!("{IMAGES}/{name}"), content.to_vec());
    }

    /// Takes a unified kernel image away.
    pub(crate) fn remove_image(&mut self, name: &str) {
        self.files.remove(&format!("{IMAGES}/{name}"));
    }
}

fn read_directory(
    folder: &Dir<'_, Cursor<Vec<u8>>>,
    path: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> std::io::Result<()> {
    for entry in folder.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.is_file() {
            let mut content = Vec::new();
            entry.to_file().read_to_end(&mut content)?;
            files.insert(format!("{path}{name}"), content);
        } else if !matches!(name.as_str(), "." | "..") {
            read_directory(&entry.to_dir(), &format!("{path}{name}/"), files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 70 << 20;

    #[test]
    fn what_is_written_is_read_back() {
        let mut esp = Esp::new(7, b"loader");
        esp.add_image("holdfast_1.0+3-0.efi", &vec![5; 100_000]);
        esp.add_image("holdfast_2.0.efi", b"two");
        esp.add_image("holdfast_3.0.efi", b"");
        let again = Esp::read(esp.to_bytes(SIZE).unwrap()).unwrap();
        assert_eq!(again, esp);
        esp.remove_image("holdfast_1.0+3-0.efi");
        assert_eq!(
            esp.images().map(|(name, _)| name).collect::<Vec<_>>(),
            ["holdfast_2.0.efi", "holdfast_3.0.efi"]
        );
    }

    #[test]
    fn garbage_is_no_esp() {
        assert!(Esp::read(vec![0; 4096]).is_err());
    }
}
