//! Where an image is imported from, opened, and what tells it from what was there before: an archive that was refused is not
//! read again and again, which from an address would be all of it every two minutes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use config::ImageSource;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::ImportError;
use crate::http::{Client, Stream};

/// What is there.
pub(super) enum Source {
    Folder(File),
    Archive { content: Box<dyn Read>, size: Option<u64>, stamp: Option<String> },
}

impl Source {
    pub(super) fn open(from: &ImageSource, client: &Client) -> Result<Self, ImportError> {
        match from {
            ImageSource::Path(path) => {
                let file = open(path).map_err(ImportError::Open)?;
                let data = file.metadata().map_err(ImportError::Open)?;
                if data.is_dir() {
                    return Ok(Self::Folder(file));
                }
                if !data.is_file() {
                    return Err(ImportError::Special);
                }
                let stamp = format!(
                    "{} {} {} {}.{}",
                    data.dev(),
                    data.ino(),
                    data.len(),
                    data.mtime(),
                    data.mtime_nsec()
                );
                Ok(Self::Archive { content: Box::new(file), size: Some(data.len()), stamp: Some(stamp) })
            }
            ImageSource::Url(url) => {
                let answer = client.open(url, &[])?;
                if answer.status != 200 {
                    return Err(ImportError::Status(answer.status));
                }
                let size = answer.header("content-length").and_then(|length| length.parse().ok());
                let stamp = stamp(&answer);
                Ok(Self::Archive { content: Box::new(answer), size, stamp })
            }
        }
    }

    fn stamp(&self) -> Option<&str> {
        match self {
            Self::Folder(_) => None,
            Self::Archive { stamp, .. } => stamp.as_deref(),
        }
    }
}

/// What a server says so that one can tell (RFC 9110, section 8.8).
fn stamp(answer: &Stream) -> Option<String> {
    answer.header("etag").or_else(|| answer.header("last-modified")).map(str::to_owned)
}

/// Opens what a path names. Whoever filled a disk may have put anything there: nothing waits for a pipe, and no link
/// leads into a process.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?))
}

/// What was refused, by what was asked: what told it from others, and why.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Refused(Arc<Mutex<BTreeMap<String, (String, String)>>>);

impl Refused {
    /// Why the same was refused before.
    pub(super) fn reason(&self, asked: &str, source: &Source) -> Option<String> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (stamp, reason) = refused.get(asked)?;
        (Some(stamp.as_str()) == source.stamp()).then(|| reason.clone())
    }

    /// This was refused.
    pub(super) fn learn(&self, asked: &str, stamp: String, reason: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(asked.to_owned(), (stamp, reason));
    }
}
