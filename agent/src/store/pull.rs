//! Pulls whole images: finds out what they are made of, and fetches the layers that are not here, two at a time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use config::{Import, Registry};
use images::oci::Layer;
use images::{Image, Reference};

use super::blob::{Blob, BlobError};
use super::collect::Unfinished;
use super::import::{ImportError, Refused};
use super::layer::{self, LayerError};
use super::progress::{self, Task};
use super::registry::{Endpoint, Manifest, RegistryError, Source, endpoints};
use super::room::Sizes;
use super::{Store, StoreError};
use crate::console;
use crate::http::Client;

/// Layers at once: one is unpacked while another is waited for. Each takes memory for its directory tree.
const AT_ONCE: usize = 2;

/// One pull at a time: what two would fetch is often the same.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until nothing is being pulled, and keeps it so.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("cannot find it")]
    Registry(#[from] RegistryError),
    #[error("cannot fetch its layer {digest}")]
    Blob { digest: String, source: BlobError },
    #[error("cannot take its layer {digest} from {base}")]
    Layer { digest: String, base: String, source: LayerError },
    #[error("cannot import it from {from}")]
    Import { from: String, source: ImportError },
    #[error("cannot keep it")]
    Store(#[from] StoreError),
    #[error(
        "there is no room for it on the state partition: it takes {} MiB or more, and there are {} MiB for images; \
         remove what is not needed there, or use a larger disk", .needed.div_ceil(1 << 20), .free >> 20
    )]
    NoRoom { needed: u64, free: u64 },
}

impl PullError {
    /// Whether there was no room.
    fn is_full(&self) -> bool {
        match self {
            Self::Layer { source, .. } => source.is_full(),
            Self::Store(error) => error.is_full(),
            Self::NoRoom { .. } => true,
            Self::Import { source, .. } => source.is_full(),
            Self::Registry(_) | Self::Blob { .. } => false,
        }
    }

    /// Whether another place may have it.
    fn is_of_place(&self) -> bool {
        match self {
            Self::Registry(_) | Self::Blob { .. } => true,
            Self::Layer { source, .. } => matches!(source, LayerError::Blob { .. }),
            Self::Import { .. } | Self::Store(_) | Self::NoRoom { .. } => false,
        }
    }
}

/// How images are pulled, by the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Pulling {
    pub(super) store: Store,
    pub(super) client: Client,
    registry: Registry,
    pub(super) imports: Vec<Import>,
    /// The wait after the first failure of a request; it doubles.
    pause: Duration,
    pub(super) sizes: Sizes,
    /// Imports that were refused.
    pub(super) refused: Refused,
}

impl Pulling {
    /// By the configuration's registries; `authorities` are those of the configuration, which the node may not trust yet.
    pub(crate) fn new(store: &Store, registry: &Registry, authorities: Option<&PathBuf>) -> Self {
        Self {
            store: store.clone(),
            client: Client::of_streams(authorities.map(PathBuf::as_path)),
            registry: registry.clone(),
            imports: Vec::new(),
            pause: Duration::from_secs(1),
            sizes: Sizes::default(),
            refused: Refused::default(),
        }
    }

    /// These come from files, and no registry is asked for them.
    pub(crate) fn importing(self, imports: &[Import]) -> Self {
        Self { imports: imports.to_vec(), ..self }
    }

    /// As little waiting as a test takes.
    #[cfg(test)]
    pub(super) fn impatient(self) -> Self {
        Self { pause: Duration::from_millis(1), ..self }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Pulls or imports an image and says what went wrong; gives whether it is here. `make_room` is called when there is none: once
    /// before another attempt, and once to leave to others what that has taken in vain.
    pub(crate) fn pull(&self, reference: &Reference, make_room: impl Fn(Unfinished)) -> bool {
        let _turn = turn();
        let name = reference.to_string();
        let mut pulled = self.image(reference);
        if pulled.as_ref().is_err_and(PullError::is_full) {
            make_room(Unfinished::Keep);
            pulled = self.image(reference);
        }
        if pulled.as_ref().is_err_and(PullError::is_full) {
            make_room(Unfinished::Remove);
        }
        if let Err(error) = &pulled {
            progress::failed(&name, &console::chain(error).to_string());
        }
        pulled.is_ok()
    }

    /// Pulls an image from the first place that has it, or imports it.
    pub(super) fn image(&self, reference: &Reference) -> Result<Image, PullError> {
        if let Some(import) = self.import_of(reference) {
            return self.import(import, reference);
        }
        let name = reference.to_string();
        let task = Task::begin(&name);
        self.store.open().map_err(StoreError::from)?;
        let endpoints = endpoints(&reference.host, &self.registry);
        let mut endpoints = endpoints.iter().peekable();
        loop {
            let Some(endpoint) = endpoints.next() else {
                // There is always the registry itself.
                let base = reference.host.clone();
                return Err(RegistryError::Missing { base, what: name }.into());
            };
            match self.image_from(endpoint, reference, &task) {
                Err(error) if error.is_of_place() && endpoints.peek().is_some() => {
                    let why = console::chain(&error);
                    console::warning(format_args!("image {name}: {why}; the next place is asked"));
                }
                Err(error) => return Err(error),
                Ok(image) => {
                    task.done("pulled", &image.digest);
                    return Ok(image);
                }
            }
        }
    }

    fn image_from(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        task: &Task,
    ) -> Result<Image, PullError> {
        let (client, repository) = (&self.client, reference.repository.as_str());
        let source = Source { client, endpoint, repository, pause: self.pause };
        let Manifest { digest, layers, config } = source.image(reference)?;
        self.layers(source, &layers, task)?;
        let image = Image { digest, layers: layers.into_iter().map(|layer| layer.diff_id).collect(), config };
        self.store.change(|index| {
            let pinned = reference.pinned(&image.digest).to_string();
            index.imports.remove(&reference.to_string());
            index.images.extend([reference.to_string(), pinned].map(|name| (name, image.clone())));
        })?;
        Ok(image)
    }

    /// Fetches the layers that are not here.
    fn layers(&self, source: Source<'_>, layers: &[Layer], task: &Task) -> Result<(), PullError> {
        let index = self.store.index();
        let mut seen = BTreeSet::new();
        let missing: Vec<&Layer> = layers
            .iter()
            .filter(|layer| seen.insert(&layer.diff_id) && !self.store.holds(&index, &layer.diff_id))
            .collect();
        let room = self.store.room().map_err(StoreError::from)?;
        let no_room = || PullError::NoRoom { needed: self.sizes.of(&missing), free: room };
        if self.sizes.of(&missing) > room {
            return Err(no_room());
        }
        let size = missing.iter().map(|layer| layer.blob.size()).fold(0, u64::saturating_add);
        task.expect(missing.len(), size, &source.endpoint.base);
        let queue = Mutex::new(missing.iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<(), PullError> {
            while let Some(layer) = next() {
                self.layer(source, layer, task).inspect_err(|_| while next().is_some() {})?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (1..AT_ONCE).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            others.fold(own, Result::and)
        })
        .map_err(|error| if error.is_full() { no_room() } else { error })
    }

    fn layer(&self, source: Source<'_>, layer: &Layer, task: &Task) -> Result<(), PullError> {
        let digest = layer.blob.digest().to_string();
        let hex = images::sha256_hex(&layer.diff_id).unwrap_or_default();
        let (work, file) =
            (self.store.work().join(hex), self.store.layer(&layer.diff_id).unwrap_or_default());
        let mut blob = Blob::new(source, task, &digest, layer.blob.size());
        let written = layer::write(&mut blob, layer, &work, &file, (self.store.seal, self.store.free));
        match &written {
            Ok(sealed) => self.sizes.learn(layer, sealed.size),
            Err(LayerError::Full { size }) => self.sizes.learn(layer, *size),
            Err(_) => {}
        }
        if let Some(source) = blob.failure() {
            return Err(PullError::Blob { digest, source });
        }
        let base = source.endpoint.base.clone();
        let sealed = written.map_err(|source| PullError::Layer { digest, base, source })?;
        Ok(self.store.change(|index| drop(index.layers.insert(layer.diff_id.clone(), sealed)))?)
    }
}
