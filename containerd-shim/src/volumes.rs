//! Directories of the node that a container's mounts need: missing ones are made, and a new named volume gets what the
//! image has at its place.
//!
//! The copy is made beside the volume, synced and renamed: whoever is interrupted leaves an empty volume, which is filled
//! the next time. The image is not trusted: its links are followed within its own root only, and nothing but files,
//! directories and links is copied.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use plan::container::{Directory, IdRange};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RawMode, Stat, Timespec, Timestamps, Uid, chownat,
    fchmod, fchown, futimens, mkdirat, openat, readlinkat, statat, symlinkat, syncfs,
};
use rustix::io::Errno;

use crate::quota::{self, QuotaError};
use crate::within;

/// How deep a tree of directories is followed: each level holds two descriptors.
const MAX_DEPTH: usize = 200;

/// Why a directory is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error(transparent)]
    Quota(#[from] QuotaError),
    #[error("cannot make the directory {path}")]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot copy the image's {from} into the new volume {path}")]
    Copy { from: PathBuf, path: PathBuf, source: io::Error },
}

/// Makes the directories; `owner` tells apart what several shims make at the same time. On the disk, a volume has the
/// container's own ids, in the root of a container that has a range of `ids` the node's.
pub(crate) fn make(
    directories: &[Directory],
    rootfs: &Path,
    owner: &str,
    ids: Option<IdRange>,
) -> Result<(), VolumeError> {
    for Directory { path, copy_of, size } in directories {
        let make = || match fs::create_dir_all(path) {
            Ok(()) => Ok(()),
            Err(source) => Err(VolumeError::Make { path: path.clone(), source }),
        };
        let Some(from) = copy_of else {
            // What is to be mounted may be a file.
            if !path.exists() {
                make()?;
            }
            continue;
        };
        make()?;
        let filled = fill(path, rootfs, from, owner, ids);
        filled.map_err(|source| VolumeError::Copy { from: from.clone(), path: path.clone(), source })?;
        quota::limit(path, *size)?;
    }
    Ok(())
}

/// Puts what the image has at `from` into the volume at `path`, unless that holds something.
fn fill(path: &Path, rootfs: &Path, from: &Path, owner: &str, ids: Option<IdRange>) -> io::Result<()> {
    if fs::read_dir(path)?.next().is_some() {
        return Ok(());
    }
    let root = openat(CWD, rootfs, DIRECTORY, Mode::empty())?;
    let source = match within::open(&root, from, DIRECTORY) {
        // The image has nothing there, or a file, which is not a volume's content.
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        source => source?,
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let new = parent.join(format!(".new-{owner}-{}", name.to_string_lossy()));
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir(&new)?,
    }
    let target = openat(CWD, &new, DIRECTORY, Mode::empty())?;
    let copied = copy(&source, &target, ids, 0).and_then(|()| Ok(syncfs(&target)?));
    match copied.and_then(|()| fs::rename(&new, path)) {
        // Somebody else has filled it in the meantime.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => fs::remove_dir_all(&new),
        Err(error) => fs::remove_dir_all(&new).and(Err(error)),
        Ok(()) => Ok(()),
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Copies the directory `from` into the empty directory `to`, which gets its owner, mode and time as well. Hard links
/// become files of their own.
fn copy(from: &OwnedFd, to: &OwnedFd, ids: Option<IdRange>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("it has more than {MAX_DEPTH} directories in one another")));
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU)?;
                let open = |at| openat(at, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
                copy(&open(from)?, &open(to)?, ids, depth + 1)?;
            }
            FileType::RegularFile => {
                let (read, create) =
                    (OFlags::RDONLY | OFlags::NONBLOCK, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL);
                let more = OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut source = File::from(openat(from, name, read | more, Mode::empty())?);
                let mut target = File::from(openat(to, name, create | more, Mode::RUSR | Mode::WUSR)?);
                io::copy(&mut source, &mut target)?;
                adorn(&target.into(), &stat, ids)?;
            }
            FileType::Symlink => {
                symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
                let (user, group) = owner(&stat, ids);
                chownat(to, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            _ => {}
        }
    }
    adorn(to, &rustix::fs::fstat(from)?, ids)
}

/// Gives `file` the owner, mode and time of `stat`. The owner first: a change of it takes set-id bits away.
fn adorn(file: &OwnedFd, stat: &Stat, ids: Option<IdRange>) -> io::Result<()> {
    let (user, group) = owner(stat, ids);
    fchown(file, Some(user), Some(group))?;
    fchmod(file, Mode::from_raw_mode(stat.st_mode & ALL_BITS))?;
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() };
    Ok(futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

/// Permission and set-id bits.
const ALL_BITS: RawMode = 0o7777;

/// Whose a file is in the container. What none of its ids owns is nobody's there, and so it is here.
fn owner(stat: &Stat, ids: Option<IdRange>) -> (Uid, Gid) {
    let own = |id| ids.map_or(id, |ids| ids.in_container(id).unwrap_or(NOBODY));
    (Uid::from_raw(own(stat.st_uid)), Gid::from_raw(own(stat.st_gid)))
}

/// The kernel's id for what has none (`kernel.overflowuid`).
const NOBODY: u32 = 65_534;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    struct World {
        _directory: tempfile::TempDir,
        rootfs: PathBuf,
        volume: PathBuf,
    }

    fn world() -> World {
        let directory = tempfile::tempdir().unwrap();
        let (rootfs, volume) = (directory.path().join("rootfs"), directory.path().join("volumes/data"));
        fs::create_dir_all(rootfs.join("srv/data/below")).unwrap();
        World { _directory: directory, rootfs, volume }
    }

    fn filled(world: &World, from: &str) -> Result<(), VolumeError> {
        let directory = Directory { path: world.volume.clone(), copy_of: Some(from.into()), size: None };
        make(&[directory], &world.rootfs, "web", None)
    }

    #[test]
    fn a_new_volume_gets_what_the_image_has_there() {
        let world = world();
        let data = world.rootfs.join("srv/data");
        fs::write(data.join("below/file"), "content").unwrap();
        fs::set_permissions(data.join("below/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        filled(&world, "/srv/data").unwrap();
        assert_eq!(fs::read(world.volume.join("below/file")).unwrap(), b"content");
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&world.volume.join("below/file")), mode(&world.volume)), (0o640, 0o750));
        assert_eq!(fs::read_link(world.volume.join("link")).unwrap(), Path::new("/etc/passwd"));
        // What is in it counts from then on.
        fs::remove_file(world.volume.join("link")).unwrap();
        filled(&world, "/srv/data").unwrap();
        assert!(!world.volume.join("link").exists());
        assert_eq!(
            fs::read_dir(world.volume.parent().unwrap()).unwrap().count(),
            1,
            "the copy was left behind"
        );
    }

    #[test]
    fn a_link_in_the_image_does_not_reach_the_node() {
        let world = world();
        let outside = world.rootfs.with_file_name("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "").unwrap();
        for (name, target) in [("absolute", outside.clone()), ("relative", "../outside".into())] {
            symlink(target, world.rootfs.join(name)).unwrap();
            filled(&world, &format!("/{name}")).unwrap();
            assert_eq!(fs::read_dir(&world.volume).unwrap().count(), 0, "{name}");
        }
    }

    #[test]
    fn what_the_image_has_not_is_an_empty_volume() {
        let world = world();
        fs::write(world.rootfs.join("file"), "").unwrap();
        for from in ["/nothing", "/file", "/srv/data/below"] {
            filled(&world, from).unwrap();
            assert_eq!(fs::read_dir(&world.volume).unwrap().count(), 0, "{from}");
        }
    }

    #[test]
    fn a_directory_of_the_node_is_made_when_nothing_is_there() {
        let world = world();
        let file = world.rootfs.join("file");
        fs::write(&file, "kept").unwrap();
        let new = world.rootfs.join("new/one");
        let directories =
            [&file, &new].map(|path| Directory { path: path.clone(), copy_of: None, size: None });
        make(&directories, &world.rootfs, "web", None).unwrap();
        assert!(new.is_dir() && file.is_file());
    }
}
