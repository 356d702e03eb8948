//! The directory of an OCI image layout. It lies where somebody else writes: no link in it is followed.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use images::layout::{self, BLOBS, INDEX};
use images::{Found as Described, MAX_JSON};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::arriving::Arriving;
use super::desk::Desk;
use super::{Found, ImportError};
use crate::store::progress::Task;

#[derive(Debug)]
pub(super) struct Folder(pub(super) File);

impl Folder {
    /// The image that is called `name`, and its layers as far as the store does not have them.
    pub(super) fn image(&self, name: &str, desk: &mut Desk<'_>, task: &Task) -> Result<Found, ImportError> {
        let index = match self.text(INDEX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ImportError::Unknown(INDEX)),
            index => index.map_err(ImportError::Read)?,
        };
        let Described { digest, layers: described, config } =
            layout::image(&index, name, |blob| self.text(&path(blob.digest().as_ref())))?;
        let store = desk.store;
        let diff_ids = described.iter().map(|layer| layer.diff_id.clone());
        let (layers, new) = super::take(store, diff_ids, |number| {
            let blob = &described[number].blob;
            let path = path(blob.digest().as_ref());
            let file = self.open(&path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => ImportError::Missing(blob.digest().to_string()),
                _ => ImportError::Read(error),
            })?;
            let mut arriving = Arriving::new(Box::new(file), task);
            let written = desk.write(&mut arriving, blob.size());
            if let Some(error) = arriving.failure() {
                return Err(ImportError::Read(error));
            }
            let (found, layer) = written?;
            if found != blob.digest().as_ref() {
                return Err(ImportError::Blob { path, found });
            }
            layer.map_err(|source| super::of_layer(&found, source))
        })?;
        Ok(Found { digest, config, layers, new })
    }

    fn open(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(openat2(&self.0, Path::new(path), flags, Mode::empty(), resolve)?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::other(format!("{path} is no file")))
        }
    }

    fn text(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.open(path)?.take(MAX_JSON + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_JSON {
            return Err(io::Error::other(format!("{path} has more than {MAX_JSON} bytes")));
        }
        Ok(text)
    }
}

/// Where a blob is. What is no digest names nothing that is there.
fn path(digest: &str) -> String {
    format!("{BLOBS}{}", images::sha256_hex(digest).unwrap_or_default())
}
