//! Limits of the disk: what lies below a directory of the state belongs to a project, whose space the kernel counts.
//!
//! A project's number is that of its directory's inode, so no two have the same, and nothing has to be remembered. A limit
//! that is left behind by a removed directory limits nothing: the next one with that inode gets its own.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, openat};
use sys::quota;

/// How deep a tree of directories is followed: each level holds two descriptors.
const MAX_DEPTH: usize = 200;

/// There is no such limit.
#[derive(Debug, thiserror::Error)]
#[error("cannot limit the space of {path}")]
pub(crate) struct QuotaError {
    path: PathBuf,
    source: io::Error,
}

/// Lets what is below `path` take `size` bytes, or all there is.
pub(crate) fn limit(path: &Path, size: Option<u64>) -> Result<(), QuotaError> {
    set(path, size).map_err(|source| QuotaError { path: path.to_owned(), source })
}

fn set(path: &Path, size: Option<u64>) -> io::Result<()> {
    let directory = openat(CWD, path, FLAGS | OFlags::DIRECTORY, Mode::empty())?;
    let directory = File::from(directory);
    let Some(size) = size else {
        // Where nothing was ever limited, or nothing can be, there is nothing to take back.
        return match quota::project(&directory) {
            Ok(0) | Err(_) => Ok(()),
            Ok(project) => quota::limit_project(&directory, project, 0),
        };
    };
    let project = u32::try_from(directory.metadata()?.ino()).map_err(io::Error::other)?;
    if quota::project(&directory)? != project {
        join(directory.try_clone()?.into(), project, 0)?;
    }
    quota::limit_project(&directory, project, size)
}

/// Links in it are not followed, and no pipe holds the shim up.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Makes a directory, and what is in it already, part of a project. The directory comes last: one that has the project has
/// been gone through.
fn join(directory: OwnedFd, project: u32, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("it has more than {MAX_DEPTH} directories in one another")));
    }
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type());
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let open = || openat(&directory, name, FLAGS, Mode::empty());
        match kind {
            FileType::Directory => join(open()?, project, depth + 1)?,
            FileType::RegularFile => quota::set_project(&open()?.into(), project)?,
            // The others take no space.
            _ => {}
        }
    }
    quota::set_project(&directory.into(), project)
}
