//! `fs_setup`: new file systems and swap spaces.
//!
//! ext4 is the empty file system that the release ships for its own state, grown to the size of the device while it is
//! mounted: there is no mkfs on the node. What a device holds is left alone, unless `overwrite` says otherwise, and
//! then only once per instance.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use config::FsSetup;
use plan::paths;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use template::Template;

use super::device::{self, DeviceError, Devices};
use super::probe::Content;
use super::{open_alone, swap, uuid};
use crate::apply::Instance;
use crate::console;
use crate::file::FileError;

/// ext4's longest label.
const LABEL: usize = 16;
/// Bytes of a file system's block.
const BLOCK: u64 = 4096;
/// File-system blocks to grow by at once: 128 GiB, some tenths of a second.
const STEP: u64 = 128 << 18;

/// Why there is no file system.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{device} has no partition {number}")]
    NoPartition { device: PathBuf, number: String },
    #[error("{device} holds {content} and is left as it is: 'overwrite: true' replaces it")]
    Taken { device: PathBuf, content: Content },
    #[error("the label '{label}' is longer than {LABEL} bytes")]
    Label { label: String },
    #[error("{device} is too small: it has {size} MiB, and a file system takes {needed}")]
    TooSmall { device: PathBuf, size: u64, needed: u64 },
    #[error("cannot read {}", paths::STATE_TEMPLATE)]
    Template(#[source] template::Error),
    #[error("cannot make a file system on {device}: {what}")]
    Make { device: PathBuf, what: &'static str, source: io::Error },
}

/// Makes one file system, unless it is there.
pub(super) fn make(setup: &FsSetup, devices: &Devices<'_>, instance: &Instance) -> Result<(), MakeError> {
    let label = setup.label.as_deref().unwrap_or_default();
    if label.len() > LABEL {
        return Err(MakeError::Label { label: label.to_owned() });
    }
    let found = devices.find(&setup.device)?;
    let mut candidates = Vec::new();
    for device in places(&found, setup.partition.as_deref())? {
        let content = device::content(&device).map_err(failed(&device, "reading it"))?;
        candidates.push((device, content));
    }
    let mark = format!(
        "fs-setup-{}-{}",
        setup.device.replace('/', "-"),
        setup.partition.as_deref().unwrap_or("none")
    );
    let may_overwrite = setup.overwrite && instance.has_yet_to(&mark);
    let Some(device) = choose(setup, &candidates, may_overwrite)? else { return Ok(()) };
    if may_overwrite {
        instance.done(&mark)?;
    }
    match setup.filesystem.as_str() {
        "swap" => swap::make_on(&device, label).map_err(failed(&device, "writing its head"))?,
        _ => ext4(&device, label)?,
    }
    console::notice(format_args!("fs_setup: {} is {} now", device.display(), setup.filesystem));
    Ok(())
}

fn failed(device: &Path, what: &'static str) -> impl Fn(io::Error) -> MakeError {
    move |source| MakeError::Make { device: device.to_owned(), what, source }
}

/// The devices that may get the file system: the one that is named, a partition of it, or any of them.
fn places(device: &Path, partition: Option<&str>) -> Result<Vec<PathBuf>, MakeError> {
    let partitions = device::partitions(device);
    match partition {
        None | Some("none") => Ok(vec![device.to_owned()]),
        Some("auto" | "any") if partitions.is_empty() => Ok(vec![device.to_owned()]),
        Some("auto" | "any") => Ok(partitions.into_iter().map(|(_, path)| path).collect()),
        Some(wanted) => {
            let found = partitions.into_iter().find(|(number, _)| number.to_string() == wanted);
            let absent = || MakeError::NoPartition { device: device.to_owned(), number: wanted.to_owned() };
            found.map(|(_, path)| vec![path]).ok_or_else(absent)
        }
    }
}

/// The device to make the file system on; none when it is there already.
fn choose(
    setup: &FsSetup,
    candidates: &[(PathBuf, Content)],
    may_overwrite: bool,
) -> Result<Option<PathBuf>, MakeError> {
    let is_it = |content: &Content| match content {
        Content::FileSystem(found) => {
            let any_label = setup.partition.as_deref() == Some("any");
            let label = setup.label.as_ref().filter(|_| !any_label);
            found.kind == setup.filesystem && label.is_none_or(|label| *label == found.label)
        }
        _ => false,
    };
    if !may_overwrite && candidates.iter().any(|(_, content)| is_it(content)) {
        return Ok(None);
    }
    let replaceable = |content: &Content| match (content, &setup.replace) {
        (Content::Blank, _) => true,
        (Content::FileSystem(found), Some(kind)) => found.kind == kind,
        _ => false,
    };
    let first = candidates.first();
    match candidates.iter().find(|(_, content)| replaceable(content)).or(first.filter(|_| may_overwrite)) {
        Some((device, _)) => Ok(Some(device.clone())),
        None => match first {
            Some((device, content)) => {
                Err(MakeError::Taken { device: device.clone(), content: content.clone() })
            }
            None => Ok(None),
        },
    }
}

fn ext4(device: &Path, label: &str) -> Result<(), MakeError> {
    let failed = |what| failed(device, what);
    let template = File::open(paths::STATE_TEMPLATE).map_err(template::Error::Read);
    let template = template.and_then(Template::read).map_err(MakeError::Template)?;
    let size = {
        let mut file = open_alone(device)?;
        let size = sys::block::size(&file).map_err(failed("asking for its size"))?;
        let needed = template.size();
        if size < needed {
            return Err(MakeError::TooSmall {
                device: device.to_owned(),
                size: size >> 20,
                needed: needed >> 20,
            });
        }
        // Not every device can discard; what counts is that the file system's own room is zero.
        sys::block::discard(&file, 0..size).ok();
        sys::block::zero(&file, 0..needed).map_err(failed("zeroing its start"))?;
        for block in template {
            let (number, content) = block.map_err(MakeError::Template)?;
            file.seek(SeekFrom::Start(number * BLOCK))
                .and_then(|_| file.write_all(&content))
                .map_err(failed("writing it"))?;
        }
        file.sync_all().map_err(failed("writing it"))?;
        size
    };
    let target = Path::new(paths::RUN).join("new-file-system");
    fs::create_dir_all(&target).map_err(failed("making a mount point"))?;
    mount(device, &target, "ext4", MountFlags::NOSUID | MountFlags::NODEV, None)
        .map_err(|error| failed("mounting it")(error.into()))?;
    let finished = File::open(&target).and_then(|directory| {
        let (mut blocks, room) = (0, size / BLOCK);
        while blocks < room {
            blocks = (blocks + STEP).min(room);
            sys::ext4::resize(&directory, blocks)?;
        }
        sys::ext4::set_uuid(&directory, uuid()?.to_be_bytes())?;
        sys::ext4::set_label(&directory, label)
    });
    let unmounted = unmount(&target, UnmountFlags::empty()).map_err(io::Error::from);
    finished.and(unmounted).map_err(failed("giving it its size and label"))
}

#[cfg(test)]
mod tests {
    use super::super::probe::FileSystem;
    use super::*;

    fn setup(partition: Option<&str>, label: Option<&str>) -> FsSetup {
        FsSetup {
            device: "d".to_owned(),
            filesystem: "ext4".to_owned(),
            label: label.map(str::to_owned),
            partition: partition.map(str::to_owned),
            ..FsSetup::default()
        }
    }

    fn ext4_with(label: &str) -> Content {
        Content::FileSystem(FileSystem { kind: "ext4", label: label.to_owned(), uuid: String::new() })
    }

    fn chosen(setup: &FsSetup, contents: &[Content], overwrite: bool) -> Result<Option<String>, String> {
        let candidates: Vec<_> =
            contents.iter().enumerate().map(|(n, c)| (PathBuf::from(n.to_string()), c.clone())).collect();
        let chosen = choose(setup, &candidates, overwrite).map_err(|error| error.to_string())?;
        Ok(chosen.map(|path| path.display().to_string()))
    }

    #[test]
    fn a_blank_device_is_taken_and_any_other_is_left_alone() {
        let plain = setup(None, Some("data"));
        assert_eq!(chosen(&plain, &[Content::Blank], false), Ok(Some("0".to_owned())));
        assert_eq!(chosen(&plain, &[ext4_with("data")], false), Ok(None));
        for content in [ext4_with("other"), Content::Unknown, Content::Table("gpt")] {
            let error = chosen(&plain, std::slice::from_ref(&content), false).unwrap_err();
            assert!(error.contains("is left as it is"), "{error}");
            assert_eq!(chosen(&plain, &[content], true), Ok(Some("0".to_owned())));
        }
    }

    #[test]
    fn of_several_partitions_the_right_one_or_a_blank_one_is_used() {
        let auto = setup(Some("auto"), Some("data"));
        let taken = [ext4_with("other"), Content::Blank];
        assert_eq!(chosen(&auto, &taken, false), Ok(Some("1".to_owned())));
        assert_eq!(chosen(&auto, &[Content::Blank, ext4_with("data")], false), Ok(None));
        assert_eq!(chosen(&setup(Some("any"), Some("data")), &taken, false), Ok(None));
    }

    #[test]
    fn a_file_system_of_the_kind_that_may_be_replaced_is() {
        let replace = FsSetup { replace: Some("vfat".to_owned()), ..setup(None, None) };
        let vfat = Content::FileSystem(FileSystem { kind: "vfat", ..FileSystem::default() });
        assert_eq!(chosen(&replace, &[vfat], false), Ok(Some("0".to_owned())));
    }
}
