//! The kernel image's boot counter on the ESP: found out, blessed, given up. Run as children of PID 1 (`init trial`,
//! `init bless`, `init give-up`), which learns the outcome from the exit code and may kill them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use slots::{Slot, UkiName};

use crate::recorder;

/// `init trial`: exit code 0 when the boot is counted, [`UNCOUNTED`] when not.
pub(crate) const TRIAL: &str = "trial";
/// `init bless SLOT [RECORDER [ESP]]`: the slot is proven; on a counted boot the image loses its counter.
pub(crate) const BLESS: &str = "bless";
/// `init give-up ESP`: the image is not to be tried again.
pub(crate) const GIVE_UP: &str = "give-up";
/// The exit code that says that the boot is not counted.
pub(crate) const UNCOUNTED: u8 = 3;

const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// systemd-boot's variable: the image that it booted, as it is called after counting down
/// (systemd's Boot Loader Interface).
const BOOT_COUNT_PATH: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// systemd-boot's variable: the entry that it booted, as it was called before counting down.
const ENTRY_SELECTED: &str = "LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Where systemd-boot looks for unified kernel images (Boot Loader Specification).
const IMAGES: &str = "EFI/Linux";
const MOUNT_POINT: &str = "/run/holdfast/esp";

/// Whether the machine was booted by UEFI, so that there may be a counter at all.
pub(crate) fn is_possible() -> bool {
    Path::new("/sys/firmware/efi").exists()
}

/// Runs one of the three; none when the name is another's. The code is PID 1's to understand.
pub(crate) fn run(name: &str, args: &[OsString]) -> Option<io::Result<u8>> {
    let arg = |n: usize| args.get(n).map(Path::new);
    Some(match name {
        TRIAL => counted_image().map(|image| if image.is_some() { 0 } else { UNCOUNTED }),
        BLESS => bless(args.first().and_then(|slot| slot.to_str()), arg(1), arg(2)),
        GIVE_UP => give_up(arg(0)).map(|()| 0),
        _ => return None,
    })
}

fn bless(slot: Option<&str>, recorder: Option<&Path>, esp: Option<&Path>) -> io::Result<u8> {
    let slot = match slot {
        Some("a") => Slot::A,
        Some("b") => Slot::B,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the first argument is not a slot")),
    };
    let blessed = rename(esp, UkiName::blessed);
    if let Some(device) = recorder.filter(|device| !device.as_os_str().is_empty()) {
        let mut recorder = recorder::open(device)?;
        recorder.update(|slots| slots.reached_gate(slot)).map_err(io::Error::other)?;
        recorder.device().sync_data()?;
    }
    blessed
}

/// Gives the booted image another name, if it is counted.
fn rename(esp: Option<&Path>, new: impl Fn(&UkiName) -> UkiName) -> io::Result<u8> {
    let Some(image) = is_possible().then(counted_image).transpose()?.flatten() else { return Ok(UNCOUNTED) };
    image.rename(esp, &new(&image.name))?;
    Ok(0)
}

/// Takes from the booted image all tries it has left, so that the boot loader chooses another one.
pub(crate) fn give_up(esp: Option<&Path>) -> io::Result<()> {
    match is_possible().then(booted_image).transpose()?.flatten() {
        Some(image) => image.rename(esp, &image.name.given_up()),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "the boot loader does not say what it booted")),
    }
}

/// A kernel image by its directory on the ESP and its name.
#[derive(Debug, PartialEq, Eq)]
struct Image {
    directory: PathBuf,
    name: UkiName,
}

impl Image {
    /// From the content of [`BOOT_COUNT_PATH`]: a path with backslashes.
    fn from_path(content: &[u8]) -> Option<Self> {
        let path = text(content)?.replace('\\', "/");
        let path = Path::new(path.trim_start_matches('/'));
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let name = UkiName::from_str(path.file_name()?.to_str()?).ok().filter(|_| plain)?;
        Some(Self { directory: path.parent()?.to_owned(), name })
    }

    /// From the content of [`ENTRY_SELECTED`]: a file name, for unified images in [`IMAGES`].
    fn from_entry(content: &[u8]) -> Option<Self> {
        Some(Self { directory: IMAGES.into(), name: UkiName::from_str(&text(content)?).ok()? })
    }

    /// Renames it on the partition `esp`.
    fn rename(&self, esp: Option<&Path>, new: &UkiName) -> io::Result<()> {
        let esp = esp.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the disk has no ESP"))?;
        let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        fs::create_dir_all(MOUNT_POINT)?;
        mount(esp, MOUNT_POINT, "vfat", quiet, Some(c"umask=0077"))?;
        let renamed = self.rename_below(Path::new(MOUNT_POINT), new);
        let unmounted = unmount(MOUNT_POINT, UnmountFlags::empty());
        renamed?;
        Ok(unmounted?)
    }

    fn rename_below(&self, esp: &Path, new: &UkiName) -> io::Result<()> {
        let directory = esp.join(&self.directory);
        fs::rename(directory.join(self.name.to_string()), directory.join(new.to_string()))?;
        let directory = File::open(directory)?;
        directory.sync_all()?;
        Ok(rustix::fs::syncfs(directory)?)
    }
}

/// The text of a variable: four bytes of attributes, then UTF-16 to the first zero.
fn text(content: &[u8]) -> Option<String> {
    let (units, _) = content.get(4..)?.as_chunks::<2>();
    let units: Vec<u16> =
        units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|u| *u != 0).collect();
    String::from_utf16(&units).ok()
}

/// The image that was booted, if it is counted.
fn counted_image() -> io::Result<Option<Image>> {
    let image = variable(BOOT_COUNT_PATH)?.and_then(|content| Image::from_path(&content));
    Ok(image.filter(|image| image.name.counter().is_some()))
}

/// The image that was booted, if the boot loader says so.
fn booted_image() -> io::Result<Option<Image>> {
    match counted_image()? {
        Some(image) => Ok(Some(image)),
        None => Ok(variable(ENTRY_SELECTED)?.and_then(|content| Image::from_entry(&content))),
    }
}

/// A variable of the firmware; none when it is not set.
fn variable(name: &str) -> io::Result<Option<Vec<u8>>> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    match mount("efivarfs", EFIVARS, "efivarfs", flags, None) {
        Ok(()) | Err(Errno::BUSY) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::read(Path::new(EFIVARS).join(name)) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(path: &str) -> Vec<u8> {
        let text = path.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        [6, 0, 0, 0].into_iter().chain(text).collect()
    }

    #[test]
    fn the_booted_image_is_read_as_systemd_boot_writes_it() {
        let image = Image::from_path(&variable(r"\EFI\Linux\holdfast_0.2.0+2-1.efi")).unwrap();
        assert_eq!(image.directory, Path::new("EFI/Linux"));
        assert_eq!(image.name.to_string(), "holdfast_0.2.0+2-1.efi");
    }

    #[test]
    fn an_image_without_a_counter_is_known_by_its_entry() {
        let image = Image::from_entry(&variable("holdfast_0.2.0.efi")).unwrap();
        assert_eq!(image.directory.join(image.name.to_string()), Path::new("EFI/Linux/holdfast_0.2.0.efi"));
        assert_eq!(Image::from_entry(&variable("../holdfast_0.2.0.efi")), None);
    }

    #[test]
    fn other_images_are_left_alone() {
        for path in [r"\EFI\Linux\debian+2-1.efi", r"\..\holdfast_1+1.efi", ""] {
            assert_eq!(Image::from_path(&variable(path)), None, "{path}");
        }
        assert_eq!(Image::from_path(&[1, 2, 3]), None);
        assert_eq!(Image::from_path(&[0, 0, 0, 0, 0, 0xd8, 0, 0]), None);
    }

    #[test]
    fn an_image_is_renamed_in_its_directory() {
        let esp = tempfile::tempdir().unwrap();
        let linux = esp.path().join("EFI/Linux");
        fs::create_dir_all(&linux).unwrap();
        fs::write(linux.join("holdfast_2+2-1.efi"), "uki").unwrap();
        let image = Image::from_path(&variable(r"\EFI\Linux\holdfast_2+2-1.efi")).unwrap();
        image.rename_below(esp.path(), &image.name.blessed()).unwrap();
        assert_eq!(fs::read(linux.join("holdfast_2.efi")).unwrap(), b"uki");
        let error = image.rename_below(esp.path(), &image.name.given_up()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
