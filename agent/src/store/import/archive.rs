//! An archive with images, read once from its beginning to its end.
//!
//! What looks like JSON is kept in memory, all else is written as a layer or found to be none. What is none may be
//! there: old archives have a file `VERSION`. It matters only when the image says that it is one of its layers.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use erofs::tar::{Kind, Reader};
use images::layout::{self, BLOBS};
use images::{Found as Described, MAX_JSON, saved};

use super::arriving::MOST;
use super::desk::Desk;
use super::{Found, ImportError};
use crate::store::layer::{self, LayerError, Unnamed};

/// Each layer has up to three, and images have up to some hundred layers.
const MAX_ENTRIES: usize = 10_000;
/// Bytes of JSON: several images, each with manifest and configuration.
const MAX_TEXTS: u64 = 32 << 20;
/// How many links lead to a layer, at most: `docker save` has made one where two images share a layer.
const MAX_LINKS: usize = 4;

/// A file of it.
#[derive(Debug)]
enum Content {
    Text(Vec<u8>),
    Layer(Unnamed),
    Odd(LayerError),
}

#[derive(Debug, Default)]
pub(super) struct Archive {
    files: BTreeMap<String, Content>,
    /// Where links lead, by their paths.
    links: BTreeMap<String, String>,
    /// Paths by the digests of what is there.
    digests: BTreeMap<String, String>,
}

impl Archive {
    /// Reads the archive that `packed` holds.
    pub(super) fn read(packed: &mut impl BufRead, desk: &mut Desk<'_>) -> Result<Self, ImportError> {
        let unpacked = layer::unpacked(packed).map_err(ImportError::Read)?.take(MOST);
        let mut tar = Reader::new(BufReader::with_capacity(layer::AT_ONCE, unpacked));
        let (mut archive, mut entries, mut texts) = (Self::default(), 0, 0);
        while let Some(entry) = tar.next().map_err(ImportError::Tar)? {
            entries += 1;
            let path = clean(&entry.path, "")?;
            match entry.kind {
                Kind::Directory => {}
                Kind::Symlink => {
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    archive.links.insert(path.clone(), clean(&entry.link, folder)?);
                }
                Kind::HardLink => drop(archive.links.insert(path, clean(&entry.link, "")?)),
                Kind::File => {
                    let size = tar.left();
                    let (digest, content) = read(&mut tar.content(), size, desk)?;
                    if let Content::Text(text) = &content {
                        texts += text.len() as u64;
                    }
                    if path.strip_prefix(BLOBS).is_some_and(|hex| digest != format!("sha256:{hex}")) {
                        return Err(ImportError::Blob { path, found: digest });
                    }
                    archive.digests.insert(digest, path.clone());
                    archive.files.insert(path, content);
                }
                Kind::Char | Kind::Block | Kind::Fifo => {
                    return Err(ImportError::Entry { path, problem: "is neither file nor link" });
                }
            }
            if entries > MAX_ENTRIES || texts > MAX_TEXTS {
                return Err(ImportError::TooMuch);
            }
        }
        tar.drain().map_err(ImportError::Tar)?;
        Ok(archive)
    }

    /// The image that is called `name`, and its layers as far as the store does not have them.
    pub(super) fn image(mut self, name: &str, desk: &mut Desk<'_>) -> Result<Found, ImportError> {
        let store = desk.store;
        if let Some(index) = self.text(layout::INDEX) {
            let Described { digest, layers: described, config } = layout::image(index, name, |blob| {
                self.digests
                    .get(blob.digest().as_ref())
                    .and_then(|path| self.text(path))
                    .cloned()
                    .ok_or_else(gone)
            })?;
            let diff_ids = described.iter().map(|layer| layer.diff_id.clone());
            let (layers, new) = super::take(store, diff_ids, |number| {
                let digest = described[number].blob.digest().as_ref();
                let path = self.digests.get(digest).cloned();
                self.layer(path, digest, desk)
            })?;
            return Ok(Found { digest, config, layers, new });
        }
        let Some(manifest) = self.text(saved::MANIFEST) else {
            return Err(ImportError::Unknown(layout::INDEX));
        };
        let Described { digest, layers: described, config } =
            saved::image(manifest, name, |path| self.text(path).cloned().ok_or_else(gone))?;
        let diff_ids = described.iter().map(|layer| layer.diff_id.clone());
        let (layers, new) = super::take(store, diff_ids, |number| {
            let path = &described[number].path;
            self.layer(self.follow(path), path, desk)
        })?;
        Ok(Found { digest, config, layers, new })
    }

    fn text(&self, path: &str) -> Option<&Vec<u8>> {
        match self.files.get(&self.follow(path)?)? {
            Content::Text(text) => Some(text),
            Content::Layer(_) | Content::Odd(_) => None,
        }
    }

    /// The layer that is at `path`, and that the image calls `name`.
    fn layer(
        &mut self,
        path: Option<String>,
        name: &str,
        desk: &mut Desk<'_>,
    ) -> Result<Unnamed, ImportError> {
        match path.and_then(|path| self.files.remove(&path)) {
            Some(Content::Layer(layer)) => Ok(layer),
            Some(Content::Odd(source)) => Err(super::of_layer(name, source)),
            // It only looked like JSON: a layer begins with the name of its first file.
            Some(Content::Text(text)) => {
                let (_, layer) = desk.write(&text[..], text.len() as u64)?;
                layer.map_err(|source| super::of_layer(name, source))
            }
            None => Err(ImportError::Missing(name.to_owned())),
        }
    }

    /// The file that a path leads to.
    fn follow(&self, path: &str) -> Option<String> {
        let mut path = clean(path.as_bytes(), "").ok()?;
        for _ in 0..MAX_LINKS {
            match self.links.get(&path) {
                Some(next) if !self.files.contains_key(&path) => path.clone_from(next),
                _ => return Some(path),
            }
        }
        None
    }
}

/// The content of a file, and its digest.
fn read(content: &mut impl Read, size: u64, desk: &mut Desk<'_>) -> Result<(String, Content), ImportError> {
    let mut head = Vec::new();
    content.by_ref().take(1).read_to_end(&mut head).map_err(ImportError::Read)?;
    if size <= MAX_JSON && matches!(head[..], [b'{' | b'[']) {
        content.read_to_end(&mut head).map_err(ImportError::Read)?;
        return Ok((images::digest_of(&head), Content::Text(head)));
    }
    let (digest, layer) = desk.write(head.chain(content), size)?;
    Ok((digest, layer.map_or_else(Content::Odd, Content::Layer)))
}

/// A path as this archive's files have it, seen from `folder`.
fn clean(path: &[u8], folder: &str) -> Result<String, ImportError> {
    let text = String::from_utf8_lossy(path);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_some() => {}
            ".." => {
                let problem = "leads out of the archive";
                return Err(ImportError::Entry { path: text.into_owned(), problem });
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn gone() -> io::Error {
    io::ErrorKind::NotFound.into()
}
