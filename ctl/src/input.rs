//! Files that are named on the command line.

use std::io::{self, Read as _};
use std::path::Path;

/// A file that was read.
#[derive(Debug)]
pub(crate) struct File {
    /// Its name in messages.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl File {
    /// Reads a file; '-' is standard input.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let (name, bytes) = if path == Path::new("-") {
            ("<stdin>".to_owned(), read_limited(&mut io::stdin()))
        } else {
            let bytes = std::fs::File::open(path).and_then(|mut file| read_limited(&mut file));
            (path.display().to_string(), bytes)
        };
        let bytes = bytes.map_err(|error| format!("cannot read {name}: {error}"))?;
        Ok(Self { name, bytes })
    }

    /// Reads a file when one is given.
    pub(crate) fn read_optional(path: Option<&Path>) -> Result<Option<Self>, String> {
        path.map(Self::read).transpose()
    }

    /// Name and bytes, as the library takes them.
    pub(crate) fn named(&self) -> (&str, &[u8]) {
        (&self.name, &self.bytes)
    }
}

/// At most one byte more than a node takes, so that a larger file is seen to be too large.
fn read_limited(input: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(config::MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
