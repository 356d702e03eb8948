//! Images that come from files: archives of OCI image layouts, directories of them, and what `docker save` writes.
//!
//! An archive is read once, as it comes, because it may come from far away and names at its end what was at its
//! beginning. So whatever may be a layer is written as one, under no name, in the directory that is cleared at every
//! start; when everything was read, the image says which of these are its layers. They get their places when each is
//! what the image's configuration says. Until then the store has nothing of it, and nothing that an archive calls itself
//! becomes a path.
//!
//! * `source`: what is there; `archive`, `folder`: where in it an image may be
//! * `arriving`: what comes, counted; `desk`: where layers are written

mod archive;
mod arriving;
mod desk;
mod folder;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use config::{ImageSource, Import};
use images::{Config, FindError, Hashing, Image, Reference};

use super::layer::{self, LayerError, Unnamed};
use super::progress::Task;
use super::pull::{PullError, Pulling};
use super::{Store, StoreError};
use crate::console;
use crate::http::HttpError;
use archive::Archive;
use arriving::Arriving;
use desk::Desk;
use folder::Folder;
use source::Source;

pub(super) use source::Refused;

/// Why an image is not imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("cannot open it")]
    Open(#[source] io::Error),
    #[error("it is neither a file nor a directory")]
    Special,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("it cannot be read to its end")]
    Read(#[source] io::Error),
    #[error("it is no archive of an image")]
    Tar(#[source] erofs::Error),
    #[error("its entry '{path}' {problem}")]
    Entry { path: String, problem: &'static str },
    #[error("it has too many entries, or too much in them that is neither image nor layer")]
    TooMuch,
    #[error("its {path} is damaged: its digest is {found}")]
    Blob { path: String, found: String },
    #[error("it is neither an OCI image layout nor what 'docker save' writes: it has no {0}")]
    Unknown(&'static str),
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("it does not have its layer {0}")]
    Missing(String),
    #[error("cannot take its layer {layer}")]
    Layer { layer: String, source: LayerError },
    #[error("its SHA-256 is {found}, and the configuration says {wanted}")]
    Other { found: String, wanted: String },
    #[error("'sha256' is that of a file, and it is a directory")]
    Directory,
    #[error("it is {found}, and {wanted} is asked for")]
    Digest { found: String, wanted: String },
    /// What was said of the same before.
    #[error("{0}")]
    Refused(String),
    #[error("there is no room for it")]
    Full { size: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// Whether there was no room.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Layer { source, .. } => source.is_full(),
            Self::Store(error) => error.is_full(),
            _ => false,
        }
    }

    /// Whether the same content is refused again.
    fn is_of_content(&self) -> bool {
        match self {
            Self::Tar(_)
            | Self::Entry { .. }
            | Self::TooMuch
            | Self::Blob { .. }
            | Self::Unknown(_)
            | Self::Find(_)
            | Self::Missing(_)
            | Self::Other { .. }
            | Self::Digest { .. } => true,
            Self::Layer { source, .. } => {
                !matches!(source, LayerError::Full { .. } | LayerError::Seal { .. } | LayerError::File(_))
            }
            _ => false,
        }
    }
}

/// An image whose layers are here or written.
#[derive(Debug)]
struct Found {
    digest: String,
    config: Config,
    /// Diff ids, lowest first.
    layers: Vec<String>,
    /// Those of them that have no place yet.
    new: BTreeMap<String, Unnamed>,
}

impl Pulling {
    /// What `reference` is to be imported from, if it is.
    pub(super) fn import_of(&self, reference: &Reference) -> Option<&Import> {
        self.imports.iter().find(|import| import.is(reference))
    }

    /// Whether an image cannot be had without the network.
    pub(super) fn takes_network(&self, reference: &Reference) -> bool {
        let import = self.import_of(reference);
        import.is_none_or(|import| matches!(import.from, ImageSource::Url(_)))
    }

    /// Imports an image.
    pub(super) fn import(&self, import: &Import, reference: &Reference) -> Result<Image, PullError> {
        let task = Task::begin(&reference.to_string());
        self.store.open().map_err(StoreError::from)?;
        let (room, identity) = (self.store.room().map_err(StoreError::from)?, import.identity());
        let no_room = || PullError::NoRoom { needed: self.sizes.of_import(&identity), free: room };
        if self.sizes.of_import(&identity) > room {
            return Err(no_room());
        }
        let found = self.find(import, reference, &task);
        // What was written and is not needed goes at once: it may be much.
        self.store.open().map_err(StoreError::from)?;
        match found {
            Ok(image) => {
                task.done("imported", &image.digest);
                Ok(image)
            }
            Err(ImportError::Full { size }) => {
                self.sizes.learn_of(&identity, size);
                Err(no_room())
            }
            Err(source) => Err(PullError::Import { from: import.from.to_string(), source }),
        }
    }

    /// Finds the image, and keeps it.
    fn find(&self, import: &Import, reference: &Reference, task: &Task) -> Result<Image, ImportError> {
        let asked = format!("{reference} {}", import.identity());
        let source = Source::open(&import.from, &self.client)?;
        if let Some(reason) = self.refused.reason(&asked, &source) {
            return Err(ImportError::Refused(reason));
        }
        let (found, stamp) = match source {
            Source::Folder(_) if import.sha256.is_some() => return Err(ImportError::Directory),
            Source::Folder(folder) => {
                task.expect_import(&import.from.to_string(), None);
                let mut desk = Desk::new(&self.store);
                (Folder(folder).image(&import.name.to_string(), &mut desk, task), None)
            }
            Source::Archive { content, size, stamp } => {
                task.expect_import(&import.from.to_string(), size);
                (self.unpack(import, content, task), stamp)
            }
        };
        let kept = found.and_then(|found| self.keep(found, import, reference));
        if let (Err(error), Some(stamp)) = (&kept, stamp)
            && error.is_of_content()
        {
            self.refused.learn(&asked, stamp, console::chain(error).to_string());
        }
        kept
    }

    /// Finds the image in an archive.
    fn unpack(&self, import: &Import, content: Box<dyn Read>, task: &Task) -> Result<Found, ImportError> {
        let mut desk = Desk::new(&self.store);
        let mut arriving = Arriving::new(content, task);
        let mut packed = BufReader::with_capacity(layer::AT_ONCE, Hashing::new(&mut arriving));
        let read = Archive::read(&mut packed, &mut desk);
        if let Err(error @ ImportError::Full { .. }) = read {
            return Err(error);
        }
        let rest = io::copy(&mut packed, &mut io::sink());
        let found = packed.into_inner().digest();
        // Whoever read on did not know why it ended.
        if let Some(error) = arriving.failure() {
            return Err(ImportError::Read(error));
        }
        // Another file than was meant is that, whatever it looks like.
        if let Some(wanted) = import.sha256.as_ref().filter(|wanted| found != format!("sha256:{wanted}")) {
            let found = found.trim_start_matches("sha256:").to_owned();
            return Err(ImportError::Other { found, wanted: wanted.clone() });
        }
        let archive = read?;
        rest.map_err(ImportError::Read)?;
        archive.image(&import.name.to_string(), &mut desk)
    }

    /// Gives the layers their places, and the image its name.
    fn keep(&self, found: Found, import: &Import, reference: &Reference) -> Result<Image, ImportError> {
        let Found { digest, config, layers, new } = found;
        if let Some(wanted) = reference.digest.as_ref().filter(|wanted| **wanted != digest) {
            return Err(ImportError::Digest { found: digest, wanted: wanted.clone() });
        }
        for (diff_id, layer) in new {
            let file = self.store.layer(&diff_id).unwrap_or_default();
            let sealed = layer.place(&file, self.store.seal).map_err(|source| of_layer(&diff_id, source))?;
            self.store.change(|index| drop(index.layers.insert(diff_id, sealed)))?;
        }
        let image = Image { digest, layers, config };
        self.store.change(|index| {
            let (name, pinned) = (import.name.to_string(), import.name.pinned(&image.digest).to_string());
            index.imports.insert(name.clone(), import.identity());
            index.images.extend([name, pinned].map(|name| (name, image.clone())));
        })?;
        Ok(image)
    }
}

/// Takes from `find` the layers that the store does not have, each of which has to be what its diff id says.
fn take(
    store: &Store,
    diff_ids: impl Iterator<Item = String>,
    mut find: impl FnMut(usize) -> Result<Unnamed, ImportError>,
) -> Result<(Vec<String>, BTreeMap<String, Unnamed>), ImportError> {
    let index = store.index();
    let (layers, mut new) = (diff_ids.collect::<Vec<_>>(), BTreeMap::new());
    for (number, diff_id) in layers.iter().enumerate() {
        if !new.contains_key(diff_id) && !store.holds(&index, diff_id) {
            let layer = find(number)?;
            layer.is(diff_id).map_err(|source| of_layer(diff_id, source))?;
            new.insert(diff_id.clone(), layer);
        }
    }
    Ok((layers, new))
}

fn of_layer(layer: &str, source: LayerError) -> ImportError {
    ImportError::Layer { layer: layer.to_owned(), source }
}
