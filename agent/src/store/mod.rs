//! Images that were pulled: `/var/lib/holdfast/images`, an image store like the one in the root, that grows and shrinks.
//!
//! Nothing in it is believed because it is there. A layer counts when the index has a record of it and its file has the
//! fs-verity digest of that record, which was measured when both of the image's digests had been checked; the shim asks
//! the same again before it mounts, and the kernel checks each block that is read. So a file that is half written, left
//! over or altered is pulled anew and never used. Layers are shared between images by their diff ids.
//!
//! * `registry`, `challenge`, `blob`: what registries are asked, and what they may answer
//! * `layer`: from a blob to a sealed file; `pull`: a whole image; `room`: whether it fits; `pace`: whether it comes at all
//! * `import`: images that come from files
//! * `wanted`: which images a configuration needs, and where they are; `fetch`: pulls what is missing until it is here
//! * `damage`: what becomes of a layer whose blocks have changed; `scrub`: finds such layers; `collect`: what nobody needs goes

#[cfg(all(test, feature = "bench"))]
mod bench;
mod blob;
mod challenge;
mod collect;
mod damage;
mod fetch;
mod import;
mod layer;
mod pace;
mod progress;
mod pull;
mod registry;
mod room;
mod scrub;
#[cfg(test)]
mod tests;
mod wanted;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use images::{Image, Index, Sealed};
use plan::{ReadError, paths};
use rustix::io::Errno;
use sys::{fsverity, verity_digest};

pub(crate) use collect::Needed;
pub(crate) use damage::{scrub_now, watch};
pub(crate) use fetch::Fetch;
pub(crate) use pull::Pulling;
pub(crate) use wanted::{OnNode, Place, Pulled, Wish, wishes};

use collect::Unfinished;

use crate::console;
use crate::file::{self, FileError, cannot};

/// Seals a file and says what it is then.
type Seal = fn(&Path) -> io::Result<Sealed>;
/// Bytes that are free where a file is.
type Free = fn(&File) -> io::Result<u64>;

/// Held by whoever changes the index.
static INDEX: Mutex<()> = Mutex::new(());

/// The store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    seal: Seal,
    measure: fn(&File) -> io::Result<String>,
    free: Free,
}

/// Why the store cannot be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot write the index of images as JSON")]
    Encode(#[source] serde_json::Error),
}

impl StoreError {
    /// Whether there was no room.
    fn is_full(&self) -> bool {
        matches!(self, Self::File(error) if error.is_full())
    }
}

impl Store {
    /// That of the node.
    pub(crate) fn of_node() -> Self {
        Self { directory: paths::IMAGES.into(), seal, measure: verity_digest::measure, free: layer::free }
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it has, by its own account. One that cannot be read is an empty one: everything is pulled again.
    pub(crate) fn index(&self) -> Index {
        let path = self.index_path();
        match plan::read_json(&path) {
            Ok(index) => index,
            Err(ReadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Index::default()
            }
            Err(error) => {
                console::error(format_args!("{}; images are pulled again", console::chain(&error)));
                Index::default()
            }
        }
    }

    fn index_path(&self) -> PathBuf {
        self.directory.join("index.json")
    }

    /// Bytes that there are for layers: they leave something to all others.
    fn room(&self) -> Result<u64, FileError> {
        let free = File::open(&self.directory).and_then(|directory| (self.free)(&directory));
        let free = free.map_err(cannot("find out what is free at", &self.directory))?;
        Ok(free.saturating_sub(layer::RESERVE + layer::LOOK))
    }

    /// The file of a layer, whether it is there or not.
    fn layer(&self, diff_id: &str) -> Option<PathBuf> {
        images::layer_path(&self.directory, diff_id)
    }

    /// Whether a layer is there as it was recorded. Its blocks are not read: the kernel checks them when they are.
    fn holds(&self, index: &Index, diff_id: &str) -> bool {
        let found = index.layers.get(diff_id).zip(self.layer(diff_id));
        found.is_some_and(|(sealed, path)| {
            File::open(path)
                .and_then(|file| (self.measure)(&file))
                .is_ok_and(|verity| verity == sealed.verity)
        })
    }

    /// Whether all layers of an image are.
    fn holds_all(&self, index: &Index, image: &Image) -> bool {
        image.layers.iter().all(|diff_id| self.holds(index, diff_id))
    }

    /// Changes the index, at once.
    fn change(&self, change: impl FnOnce(&mut Index)) -> Result<(), StoreError> {
        let _turn = INDEX.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = self.index();
        change(&mut index);
        let text = serde_json::to_vec(&index).map_err(StoreError::Encode)?;
        Ok(file::replace(&self.index_path(), 0o600, &text)?)
    }

    /// Makes its directories and clears what an interrupted pull has left.
    pub(crate) fn open(&self) -> Result<(), FileError> {
        let work = self.work();
        match fs::remove_dir_all(&work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot("clear", &work)(error));
            }
            _ => {}
        }
        for directory in [work, self.directory.join("layers/sha256")] {
            fs::create_dir_all(&directory).map_err(cannot("make the directory", &directory))?;
        }
        Ok(())
    }

    /// The store, when anything was ever pulled.
    pub(crate) fn existing(self) -> io::Result<Self> {
        fs::metadata(&self.directory).map(|_| self)
    }

    /// Removes what generations do not need, and what an interrupted pull has left.
    pub(crate) fn tidy(&self, needed: &Needed) {
        let _turn = pull::turn();
        let tidied =
            self.open().map_err(StoreError::from).and_then(|()| self.collect(needed, Unfinished::Remove));
        if let Err(error) = tidied {
            console::warning(console::chain(&error));
        }
    }

    /// Where layers are written before they have their place.
    fn work(&self) -> PathBuf {
        self.directory.join("new")
    }
}

/// Seals a file with fs-verity.
fn seal(path: &Path) -> io::Result<Sealed> {
    // A program that is just being started may have the file of its parent open until it is.
    const ATTEMPTS: u32 = 50;
    let file = File::open(path)?;
    let mut attempt = 0;
    while let Err(error) = fsverity::enable(&file) {
        attempt += 1;
        if error.raw_os_error() != Some(Errno::TXTBSY.raw_os_error()) || attempt == ATTEMPTS {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(20));
    }
    file.sync_all()?;
    Ok(Sealed { verity: verity_digest::measure(&file)?, size: file.metadata()?.len() })
}
