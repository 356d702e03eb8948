//! Where layers are written before it is known whose they are.

use std::io::Read;

use super::ImportError;
use crate::store::Store;
use crate::store::layer::{LayerError, Unnamed};

#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) store: &'a Store,
    /// How many there were, and the bytes of those that are here.
    count: usize,
    bytes: u64,
}

impl<'a> Desk<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, count: 0, bytes: 0 }
    }

    /// Writes what `packed` holds, `size` bytes. Gives its digest, and the layer or why it is none.
    pub(super) fn write(
        &mut self,
        packed: impl Read,
        size: u64,
    ) -> Result<(String, Result<Unnamed, LayerError>), ImportError> {
        self.count += 1;
        let work = self.store.work().join(format!("import-{}", self.count));
        let written = Unnamed::write(packed, size, &work, self.store.free);
        let written = written.map_err(|source| match source {
            LayerError::Full { size } => ImportError::Full { size: self.bytes.saturating_add(size) },
            source => super::of_layer(&format!("number {}", self.count), source),
        })?;
        if let Ok(layer) = &written.1 {
            self.bytes += layer.size;
        }
        Ok(written)
    }
}
