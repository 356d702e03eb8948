//! How far a receiver has come in each log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use config::Receiver;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::file::{FileError, cannot};

/// A place in the files of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The file, by what it begins with: its first time. Names move on when a log is rotated, and numbers of inodes are
    /// used again.
    pub(crate) file: String,
    /// Bytes of it that were sent.
    pub(crate) offset: u64,
}

/// The places of one receiver, in a file.
#[derive(Debug)]
pub(crate) struct Places {
    path: PathBuf,
    places: BTreeMap<String, Place>,
}

impl Places {
    /// Those of `receiver`, kept in `directory`. One that is new begins with everything that is there.
    pub(crate) fn of(directory: &Path, receiver: &Receiver) -> Self {
        let key = match receiver {
            Receiver::Syslog { .. } => receiver.to_string(),
            Receiver::Http { url, .. } => url.clone(),
        };
        let name: String = Sha256::digest(key).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let path = directory.join(format!("{name}.json"));
        let places = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { path, places: places.unwrap_or_default() }
    }

    pub(crate) fn get(&self, service: &str) -> Option<&Place> {
        self.places.get(service)
    }

    /// Keeps it; without waiting for the disk, as after a power cut some lines may be sent once more.
    pub(crate) fn set(&mut self, service: String, place: Place) -> Result<(), FileError> {
        self.places.insert(service, place);
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(cannot("make the directory", parent))?;
        let new = self.path.with_extension("new");
        let text = serde_json::json!(self.places).to_string();
        fs::write(&new, text).map_err(cannot("write", &new))?;
        fs::rename(&new, &self.path).map_err(cannot("replace", &self.path))
    }
}
