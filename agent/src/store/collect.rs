//! What nobody needs goes: images that neither the last two generations nor one that a link names were made from, and
//! files that belong to nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use images::Index;

use super::{Store, StoreError};
use crate::console;
use crate::file::cannot;

/// What generations need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    /// Digests of images.
    pub(crate) digests: BTreeSet<String>,
    /// Full names of images that are about to be needed.
    pub(crate) names: BTreeSet<String>,
    /// Files of layers.
    pub(crate) layers: BTreeSet<PathBuf>,
}

/// Layers of an image that has not been pulled to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    Keep,
    Remove,
}

impl Store {
    /// Removes what is not needed, and says how much it was. The caller sees to it that nothing is being pulled.
    pub(super) fn collect(&self, needed: &Needed, unfinished: Unfinished) -> Result<(), StoreError> {
        let old = self.index();
        let new = rest(&old, needed, unfinished, |diff_id| self.layer(diff_id));
        if new != old {
            self.change(|index| *index = new.clone())?;
        }
        let mut kept: BTreeSet<PathBuf> =
            new.layers.keys().filter_map(|diff_id| self.layer(diff_id)).collect();
        kept.extend(needed.layers.iter().cloned());
        let (mut files, mut bytes) = (0_usize, 0);
        for file in entries(&self.directory.join("layers/sha256")).filter(|file| !kept.contains(file)) {
            bytes += fs::metadata(&file).map_or(0, |metadata| metadata.len());
            fs::remove_file(&file).map_err(cannot("remove", &file))?;
            files += 1;
        }
        if files > 0 {
            console::notice(format_args!(
                "images: removed {files} layers that nothing needs, {} MiB",
                bytes >> 20
            ));
        }
        Ok(())
    }
}

/// What stays of an index.
fn rest(
    index: &Index,
    needed: &Needed,
    unfinished: Unfinished,
    file: impl Fn(&str) -> Option<PathBuf>,
) -> Index {
    let mut rest = index.clone();
    rest.images.retain(|name, image| needed.digests.contains(&image.digest) || needed.names.contains(name));
    rest.imports.retain(|name, _| rest.images.contains_key(name));
    let layers = |index: &Index| -> BTreeSet<String> {
        index.images.values().flat_map(|image| image.layers.iter().cloned()).collect()
    };
    let (before, after) = (layers(index), layers(&rest));
    rest.layers.retain(|diff_id, _| {
        after.contains(diff_id)
            || file(diff_id).is_some_and(|file| needed.layers.contains(&file))
            || (unfinished == Unfinished::Keep && !before.contains(diff_id))
    });
    rest
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use images::{Config, Image, Sealed};

    use super::*;

    #[test]
    fn what_is_needed_stays_with_all_of_its_layers() {
        let digest = |n: u8| format!("sha256:{}", char::from(b'0' + n).to_string().repeat(64));
        let image = |n: u8, layers: &[u8]| Image {
            digest: digest(n),
            layers: layers.iter().map(|n| digest(*n)).collect(),
            config: Config::default(),
        };
        let images = [("run", image(1, &[1, 2])), ("old", image(2, &[2, 3])), ("next", image(3, &[4]))];
        let sealed = Sealed { verity: String::new(), size: 0 };
        let index = Index {
            images: images.into_iter().map(|(name, image)| (name.to_owned(), image)).collect(),
            // 5 is needed by a generation alone, 6 is of an image that is not whole yet.
            layers: (1..=6).map(|n| (digest(n), sealed.clone())).collect(),
            imports: ["run", "old"].map(|name| (name.to_owned(), digest(9))).into(),
        };
        let needed = Needed {
            digests: [digest(1)].into(),
            names: ["next".to_owned()].into(),
            layers: [PathBuf::from(digest(5))].into(),
        };
        let left = |unfinished| {
            let rest = rest(&index, &needed, unfinished, |diff_id| Some(diff_id.into()));
            assert_eq!(rest.images.keys().collect::<Vec<_>>(), ["next", "run"]);
            assert_eq!(rest.imports.keys().collect::<Vec<_>>(), ["run"]);
            rest.layers.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(left(Unfinished::Remove), [1, 2, 4, 5].map(digest));
        assert_eq!(left(Unfinished::Keep), [1, 2, 4, 5, 6].map(digest));
    }
}
