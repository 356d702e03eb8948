//! An image that was found where several may be, and why there is none.

use std::io;

use serde::de::DeserializeOwned;

use crate::oci::{Configuration, Unfit};
use crate::{Config, digest_of};

/// Larger than any index, manifest or configuration.
pub const MAX_JSON: u64 = 4 << 20;

/// An image, and where its layers are (`L`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<L> {
    /// The digest that it is known by.
    pub digest: String,
    /// Lowest first.
    pub layers: Vec<L>,
    /// How to run it when the service says nothing.
    pub config: Config,
}

/// Why no image was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Something that is named is not there, or cannot be read.
    #[error("cannot read {what} of it")]
    Read {
        /// Which.
        what: String,
        /// What the reader said.
        source: io::Error,
    },
    /// Something is not what its name says.
    #[error("{what} of it is damaged: its digest is {found}")]
    Damaged {
        /// Which.
        what: String,
        /// The digest of what is there.
        found: String,
    },
    /// Something is no JSON, or says something else than it should.
    #[error("{what} of it cannot be understood")]
    Parse {
        /// Which.
        what: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// There is no image for this machine.
    #[error("{what} of it cannot be run here")]
    Unfit {
        /// Which part says so.
        what: String,
        /// Why.
        source: Unfit,
    },
    /// A part is of another kind than it should be.
    #[error("{what} of it is no image but {found}")]
    Kind {
        /// Which.
        what: String,
        /// Its media type.
        found: String,
    },
    /// There are several, and none has the name that is asked for.
    #[error("there are {count} images in it, and not one of them is called {name}; their names are: {names}")]
    Names {
        /// What was asked for.
        name: String,
        /// How many there are.
        count: usize,
        /// What they are called.
        names: String,
    },
    /// There is none at all.
    #[error("there is no image in it")]
    Empty,
}

/// Whether `said`, a full name or only a tag, means the image with the full name `name`.
pub(crate) fn means(said: &str, name: &str) -> bool {
    let tag = name.rsplit_once('/').and_then(|(_, last)| last.split_once(':')).map(|(_, tag)| tag);
    tag == Some(said) || crate::expand_reference(said) == name
}

pub(crate) fn no_such_name<'a>(name: &str, count: usize, names: impl Iterator<Item = &'a str>) -> FindError {
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    FindError::Names { name: name.to_owned(), count, names: names.join(", ") }
}

pub(crate) fn parse<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T, FindError> {
    serde_json::from_slice(text).map_err(|source| FindError::Parse { what: what.to_owned(), source })
}

/// A configuration that has a known digest.
pub(crate) fn configuration(text: &[u8], digest: &str, what: &str) -> Result<Configuration, FindError> {
    check(text, digest, what)?;
    parse(text, what)
}

pub(crate) fn check(text: &[u8], digest: &str, what: &str) -> Result<(), FindError> {
    let found = digest_of(text);
    if found == digest { Ok(()) } else { Err(FindError::Damaged { what: what.to_owned(), found }) }
}
