//! Which images a configuration needs, and where they are: in the root, in the store, or yet to be pulled or imported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use config::{Desired, Import, Problem, PullPolicy, Service};
use images::{Image, Index, InvalidReference, Reference, Sealed};
use plan::{ServiceName, paths};

use super::Store;

/// An image that is asked for. Two services may ask for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) reference: Reference,
    pub(crate) policy: PullPolicy,
}

/// Images, by their full names, that were pulled for the configuration that is being made to run: those that are pulled
/// for every generation are pulled once for this one.
pub(crate) type Pulled = BTreeSet<String>;

/// Images that have to be pulled or imported first.
pub(crate) type Missing = Vec<Reference>;

/// Everything that is on the node.
#[derive(Debug)]
pub(crate) struct OnNode<'a> {
    pub(crate) baked: &'a Index,
    pub(crate) store: &'a Store,
    pub(crate) pulled: Index,
    /// What the configuration has imported.
    pub(crate) imports: &'a [Import],
}

/// An image and where its layers are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) image: &'a Image,
    pub(crate) store: &'a Path,
    pub(crate) sealed: &'a BTreeMap<String, Sealed>,
}

/// What the services ask for, `added` included. References that cannot be one are left to the planner, which says so.
pub(crate) fn wishes(desired: &Desired, added: Option<&(ServiceName, Service)>) -> Vec<Wish> {
    let services = desired.services.values().chain(added.map(|(_, service)| service));
    services.filter_map(|service| Wish::of(service).ok()).collect()
}

impl<'a> OnNode<'a> {
    pub(crate) fn look(baked: &'a Index, store: &'a Store, imports: &'a [Import]) -> Self {
        Self { baked, store, pulled: store.index(), imports }
    }

    /// An image by its name, else by its digest. What is to be imported is that, and nothing else of this name. What was
    /// pulled counts first when it is asked for anew each time.
    pub(crate) fn find(&self, wish: &Wish) -> Option<Place<'_>> {
        if let Some(import) = self.import_of(wish) {
            return self.imported(import, wish);
        }
        let baked = || {
            Some(Place {
                image: by_name(self.baked, &wish.reference)?,
                store: Path::new(paths::BAKED_IMAGES),
                sealed: &self.baked.layers,
            })
        };
        // What an earlier configuration has imported under this name is another image.
        let was_imported = self.pulled.imports.contains_key(&wish.reference.to_string());
        let pulled = || {
            let image = by_name(&self.pulled, &wish.reference).filter(|_| !was_imported)?;
            Some(self.in_store(image))
        };
        match wish.policy {
            PullPolicy::Always => pulled().or_else(baked),
            PullPolicy::Missing | PullPolicy::Never => baked().or_else(pulled),
        }
    }

    fn import_of(&self, wish: &Wish) -> Option<&Import> {
        self.imports.iter().find(|import| import.is(&wish.reference))
    }

    /// What was imported from where the configuration says.
    fn imported(&self, import: &Import, wish: &Wish) -> Option<Place<'_>> {
        let name = import.name.to_string();
        let image = self.pulled.images.get(&name)?;
        let is_it = self.pulled.imports.get(&name) == Some(&import.identity())
            && wish.reference.digest.as_ref().is_none_or(|digest| *digest == image.digest);
        is_it.then(|| self.in_store(image))
    }

    fn in_store<'i>(&'i self, image: &'i Image) -> Place<'i> {
        Place { image, store: self.store.directory(), sealed: &self.pulled.layers }
    }

    /// What has to be pulled or imported before these wishes can be had. What must not be pulled is left to the planner,
    /// too.
    pub(crate) fn missing(&self, wishes: &[Wish], pulled: &Pulled) -> Missing {
        let mut missing = Missing::new();
        let may_come = |wish: &&Wish| wish.policy != PullPolicy::Never || self.import_of(wish).is_some();
        for wish in wishes.iter().filter(may_come) {
            let is_here = || self.find(wish).is_some_and(|place| self.is_whole(&place));
            let is_due = wish.policy == PullPolicy::Always
                && wish.reference.digest.is_none()
                && !pulled.contains(&wish.reference.to_string());
            if (is_due || !is_here()) && !missing.contains(&wish.reference) {
                missing.push(wish.reference.clone());
            }
        }
        missing
    }

    fn is_whole(&self, place: &Place<'_>) -> bool {
        place.store != self.store.directory() || self.store.holds_all(&self.pulled, place.image)
    }

    /// The names of all images.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.baked.images.keys().chain(self.pulled.images.keys()).map(String::as_str)
    }
}

impl Wish {
    /// One of a service.
    pub(crate) fn of(service: &Service) -> Result<Self, InvalidReference> {
        Ok(Self { reference: Reference::parse(&service.image.value)?, policy: service.pull_policy })
    }

    /// What is wrong when there is no such image and it must not be pulled.
    pub(crate) fn unfulfilled(
        &self,
        on_node: &OnNode<'_>,
        source: &str,
        service: &Service,
        path: &str,
    ) -> Problem {
        let known: Vec<&str> = on_node.names().collect();
        let known = if known.is_empty() { "no images".to_owned() } else { known.join(", ") };
        let message = format!(
            "there is no image '{}' on this node, and 'pull_policy: never' keeps it from being pulled",
            self.reference
        );
        Problem::error(source, Some(service.image.mark), path, message)
            .with_hint(format!("on this node are {known}"))
    }
}

fn by_name<'i>(index: &'i Index, reference: &Reference) -> Option<&'i Image> {
    index.images.get(&reference.to_string()).or_else(|| {
        let digest = reference.digest.as_ref()?;
        let same = |name: &str| {
            Reference::parse(name).is_ok_and(|other| {
                (&other.host, &other.repository) == (&reference.host, &reference.repository)
            })
        };
        index
            .images
            .iter()
            .find(|(name, image)| image.digest == *digest && same(name))
            .map(|(_, image)| image)
    })
}
