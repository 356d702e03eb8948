//! Where a file goes, when the path is somebody else's: below `/`, and never through a link that leads elsewhere.
//!
//! Each directory on the way is opened with `openat2` (`RESOLVE_BENEATH`, `RESOLVE_NO_MAGICLINKS`); the file itself is
//! made beside its place and renamed, so whoever reads finds the old or the new one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, fchown, mkdirat, openat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// The name of a file that is not yet in its place.
const NEW: &str = ".holdfast-new";

/// What a file shall be besides its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The directory that a file is in, open, and the file's name in it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    directory: OwnedFd,
    name: &'a OsStr,
}

impl<'a> Place<'a> {
    /// Finds the place of the absolute `path` below `root`, and makes the directories that are missing.
    pub(super) fn below(root: &Path, path: &'a Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty())?;
        let mut directory = root.try_clone()?;
        let mut walked = std::path::PathBuf::new();
        for part in path.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(part) = part else { continue };
            walked.push(part);
            directory = match openat2(&root, &walked, flags, Mode::empty(), RESOLVE) {
                Err(Errno::NOENT) => {
                    mkdirat(&directory, part, Mode::from_raw_mode(0o755))?;
                    openat2(&root, &walked, flags, Mode::empty(), RESOLVE)?
                }
                result => result?,
            };
        }
        Ok(Self { directory, name })
    }

    /// What is there: nothing when there is no regular file.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open()? else { return Ok(None) };
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(Some(content))
    }

    fn open(&self) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.directory, self.name, flags, Mode::empty()) {
            Ok(file) => {
                Ok(Some(File::from(file)).filter(|file| file.metadata().is_ok_and(|data| data.is_file())))
            }
            // A link is replaced, not followed.
            Err(Errno::NOENT | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a file there. Nothing is written when it is there already.
    pub(super) fn replace(&self, content: &[u8], attributes: Attributes) -> io::Result<()> {
        if self.is(content, attributes)? {
            return Ok(());
        }
        match unlinkat(&self.directory, NEW, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(openat(&self.directory, NEW, flags, Mode::RUSR | Mode::WUSR)?);
        let written = fill(&file, content, attributes)
            .and_then(|()| Ok(renameat(&self.directory, NEW, &self.directory, self.name)?));
        if written.is_err() {
            // A half-written file must not take room; whether that works changes nothing of the failure.
            unlinkat(&self.directory, NEW, AtFlags::empty()).ok();
        }
        written
    }

    fn is(&self, content: &[u8], attributes: Attributes) -> io::Result<bool> {
        let Some(mut file) = self.open()? else { return Ok(false) };
        let data = file.metadata()?;
        let found = Attributes { mode: data.permissions().mode() & 0o7777, uid: data.uid(), gid: data.gid() };
        if found != attributes || data.len() != content.len() as u64 {
            return Ok(false);
        }
        let mut there = Vec::new();
        file.read_to_end(&mut there)?;
        Ok(there == content)
    }
}

fn fill(mut file: &File, content: &[u8], attributes: Attributes) -> io::Result<()> {
    file.write_all(content)?;
    fchown(file, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
    fchmod(file, Mode::from_raw_mode(attributes.mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn own(mode: u32) -> Attributes {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Attributes { mode, uid, gid }
    }

    fn put(root: &Path, path: &str, content: &str, mode: u32) -> io::Result<()> {
        Place::below(root, Path::new(path))?.replace(content.as_bytes(), own(mode))
    }

    #[test]
    fn a_file_gets_its_directories_mode_and_content() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "/a/b/c", "one", 0o600).unwrap();
        let path = root.path().join("a/b/c");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let inode = fs::metadata(&path).unwrap().ino();
        put(root.path(), "/a/b/c", "one", 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "what is as it shall be is left alone");
        put(root.path(), "/a/b/c", "one", 0o644).unwrap();
        put(root.path(), "/a/b/c", "two", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(root.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn no_link_leads_out() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), root.path().join("absolute")).unwrap();
        symlink("../..", root.path().join("up")).unwrap();
        for path in ["/absolute/x", "/up/tmp/x", "/absolute/deep/x"] {
            assert!(put(root.path(), path, "x", 0o644).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        // A link to a directory beside it is fine.
        fs::create_dir(root.path().join("real")).unwrap();
        symlink("real", root.path().join("link")).unwrap();
        put(root.path(), "/link/x", "x", 0o644).unwrap();
        assert!(root.path().join("real/x").exists());
    }

    #[test]
    fn a_link_in_the_place_itself_is_replaced() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = outside.path().join("target");
        fs::write(&target, "theirs").unwrap();
        symlink(&target, root.path().join("x")).unwrap();
        put(root.path(), "/x", "ours", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
        assert!(fs::symlink_metadata(root.path().join("x")).unwrap().is_file());
    }

    #[test]
    fn a_directory_in_the_place_is_an_error_and_stays() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("x")).unwrap();
        assert!(put(root.path(), "/x", "x", 0o644).is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
