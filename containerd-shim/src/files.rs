//! Secrets and configs: files in the shim's own memory, which `config.json` mounts into the container. They never touch the
//! disk here, and end with the shim.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use plan::container::{GivenContent, GivenFile};
use rustix::fs::{Mode, OFlags, fchmod};

/// The most that one may hold: they are memory.
const MAX_FILE: u64 = 16 << 20;

/// Why a file is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {path} for a secret or config")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot keep a secret or config as {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// Writes `files` where [`plan::paths::given_file`] says.
pub(crate) fn write(service: &str, files: &[GivenFile]) -> Result<(), FileError> {
    files.iter().try_for_each(|file| write_file(&plan::paths::given_file(service, &file.name), file))
}

fn write_file(path: &Path, file: &GivenFile) -> Result<(), FileError> {
    let read;
    let content = match &file.content {
        GivenContent::Text(text) => text.as_bytes(),
        GivenContent::File(from) => {
            read = read_file(from).map_err(|source| FileError::Read { path: from.clone(), source })?;
            &read
        }
    };
    create(path, file, content).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe must not hold the shim up.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(io::Error::other(format!("it must be a file of at most {} MiB", MAX_FILE >> 20)));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(content)
}

fn create(path: &Path, file: &GivenFile, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut new: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    new.write_all(content)?;
    fchown(&new, Some(file.owner.0), Some(file.owner.1))?;
    Ok(fchmod(&new, Mode::from_raw_mode(file.mode))?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn given(content: GivenContent) -> GivenFile {
        GivenFile { name: "0".to_owned(), content, mode: 0o440, owner: (0, 0) }
    }

    #[test]
    fn a_file_has_its_content_and_mode() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fs::write(&source, [0xff, 0]).unwrap();
        for (name, content, expected) in [
            ("text", GivenContent::Text("top".to_owned()), &b"top"[..]),
            ("file", GivenContent::File(source), &[0xff, 0]),
        ] {
            let path = directory.path().join("files").join(name);
            write_file(&path, &given(content)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), expected);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o440);
        }
    }

    #[test]
    fn what_is_no_file_is_refused_and_no_text_is_told() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path(), Path::new("/dev/zero"), Path::new("/nowhere")] {
            let error = write_file(&directory.path().join("x"), &given(GivenContent::File(path.into())));
            assert!(matches!(error, Err(FileError::Read { .. })), "{}", path.display());
        }
        assert!(!format!("{:?}", given(GivenContent::Text("top".to_owned()))).contains("top"));
    }
}
