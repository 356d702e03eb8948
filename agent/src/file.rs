//! Files that are there whole or not at all, also after a power cut.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}")]
pub(crate) struct FileError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// Whether there was no room on the disk.
    pub(crate) fn is_full(&self) -> bool {
        self.source.kind() == io::ErrorKind::StorageFull
    }
}

/// Names the operation and the file of an error.
pub(crate) fn cannot(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError { what, path: path.to_owned(), source }
}

/// Makes a new file with this content and waits until it is on the disk.
pub(crate) fn create(path: &Path, mode: u32, content: &[u8]) -> Result<(), FileError> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(cannot("write", path))
}

/// Puts a file with this content in the place of the old one, at once. Nothing is written when it says the same.
pub(crate) fn replace(path: &Path, mode: u32, content: &[u8]) -> Result<(), FileError> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(cannot("make the directory", parent))?;
    let new = path.with_added_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot("remove", &new)(error)),
        _ => create(&new, mode, content)?,
    }
    fs::rename(&new, path).map_err(cannot("replace", path))?;
    sync_directory(parent)
}

/// Writes over a file without making a new one, because containers have this very file mounted.
pub(crate) fn overwrite(path: &Path, content: &[u8]) -> Result<(), FileError> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    // Without truncating first: whoever reads meanwhile finds old or new lines, never an empty file.
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
        file.write_all(content)?;
        file.set_len(content.len() as u64)
    };
    write().map_err(cannot("write", path))
}

/// Waits until the entries of a directory are on the disk.
pub(crate) fn sync_directory(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(cannot("sync", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_kept_when_it_says_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/keys");
        replace(&path, 0o600, b"a").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        replace(&path, 0o600, b"a").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        fs::write(path.with_added_extension("new"), "left over").unwrap();
        replace(&path, 0o600, b"b").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"b");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_mounted_file_stays_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        overwrite(&path, b"long content").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        overwrite(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn an_error_says_what_and_where() {
        let error = create(Path::new("/nowhere/x"), 0o600, b"").unwrap_err();
        assert_eq!(error.to_string(), "cannot write /nowhere/x");
    }
}
