//! Whether there is room for an image, as far as that can be known before its layers are here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use images::oci::Layer;

/// What layers take on the disk, as it was seen when there was no room for them: no registry is asked in vain for what
/// still does not fit.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes(Arc<Mutex<BTreeMap<String, u64>>>);

impl Sizes {
    /// This layer takes so much or more.
    pub(super) fn learn(&self, layer: &Layer, size: u64) {
        self.learn_of(&layer.diff_id, size);
    }

    /// The same of an import, by its identity.
    pub(super) fn learn_of(&self, identity: &str, size: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at_least = known.entry(identity.to_owned()).or_default();
        *at_least = size.max(*at_least);
    }

    /// What an import takes at least.
    pub(super) fn of_import(&self, identity: &str) -> u64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(identity).copied().unwrap_or_default()
    }

    /// What these layers take at least: when nothing else is known, as much as their blobs.
    pub(super) fn of(&self, layers: &[&Layer]) -> u64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size =
            |layer: &&Layer| known.get(&layer.diff_id).copied().unwrap_or_default().max(layer.blob.size());
        layers.iter().map(size).fold(0, u64::saturating_add)
    }
}
