//! From the blob of a layer to its file: unpacked, checked and written as EROFS while it streams by, then sealed.
//!
//! The file has its place only when everything was right: both digests, and the seal. Until then it is in a directory
//! that is cleared at every start. Memory is bounded whatever the layer.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use images::oci::Layer;
use images::{Hashing, Sealed};
use rustix::fs::fstatvfs;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::{Free, Seal};
use crate::file::{FileError, cannot, sync_directory};

/// What must stay free: generations, logs and what containers write need room, too.
pub(super) const RESERVE: u64 = 32 << 20;
/// How often that is looked at.
pub(super) const LOOK: u64 = 8 << 20;
/// How much is read, unpacked and hashed at once: as much as stays in the processor's cache.
pub(super) const AT_ONCE: usize = 128 << 10;
/// The most memory that zstd may ask for, as a power of two: 16 MiB. The levels that images are made with take 8 MiB.
const ZSTD_WINDOW: u32 = 24;

/// Why a layer has no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error("what was sent has the digest {found}")]
    Blob { found: String },
    #[error("it unpacks to {found}, and the image's configuration says {wanted}")]
    DiffId { found: String, wanted: String },
    #[error("it cannot be unpacked")]
    Unpack(#[source] io::Error),
    #[error("it is no layer")]
    Tar(#[source] erofs::Error),
    #[error("there is no room for it on the state partition")]
    Full { size: u64 },
    #[error("cannot seal {path} with fs-verity")]
    Seal { path: PathBuf, source: io::Error },
    #[error(transparent)]
    File(#[from] FileError),
}

impl LayerError {
    /// Whether there was no room.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Seal { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::File(error) => error.is_full(),
            _ => false,
        }
    }
}

/// Writes the layer that `packed` holds to `file`, by way of `work`.
pub(super) fn write(
    packed: impl Read,
    layer: &Layer,
    work: &Path,
    file: &Path,
    (seal, free): (Seal, Free),
) -> Result<Sealed, LayerError> {
    let new = create(work)?;
    let sealed = convert(packed, layer.blob.size(), uuid(&layer.diff_id), &new, free).and_then(|content| {
        // A blob that was changed on its way is that, whatever its content looks like.
        if content.blob != layer.blob.digest().as_ref() {
            return Err(LayerError::Blob { found: content.blob });
        }
        is_wanted(&content.unpacked?, &layer.diff_id)?;
        place(new, work, file, seal)
    });
    sealed.inspect_err(|_| drop(fs::remove_file(work)))
}

/// A layer that is written, and of which nothing is known but what is in it: what asks for it comes later.
#[derive(Debug)]
pub(super) struct Unnamed {
    diff_id: String,
    work: PathBuf,
    /// Size of its file.
    pub(super) size: u64,
}

impl Unnamed {
    /// Writes what `packed` holds, `size` bytes of it, to `work`. When it is no layer, that is told beside the digest.
    pub(super) fn write(
        packed: impl Read,
        size: u64,
        work: &Path,
        free: Free,
    ) -> Result<(String, Result<Self, LayerError>), LayerError> {
        let new = create(work)?;
        let content = convert(packed, size, [0; 16], &new, free);
        if content.as_ref().map_or(true, |content| content.unpacked.is_err()) {
            fs::remove_file(work).map_err(cannot("remove", work))?;
        }
        let Content { blob, unpacked } = content?;
        let size = new.metadata().map_err(cannot("look at", work))?.len();
        Ok((blob, unpacked.map(|diff_id| Self { diff_id, work: work.to_owned(), size })))
    }

    /// Whether it is the layer with this diff id.
    pub(super) fn is(&self, diff_id: &str) -> Result<(), LayerError> {
        is_wanted(&self.diff_id, diff_id)
    }

    /// Gives it its name and its place in `file`.
    pub(super) fn place(&self, file: &Path, seal: Seal) -> Result<Sealed, LayerError> {
        let open = File::options().read(true).write(true).open(&self.work);
        let mut new = open.map_err(cannot("open", &self.work))?;
        erofs::set_uuid(&mut new, uuid(&self.diff_id)).map_err(cannot("write", &self.work))?;
        place(new, &self.work, file, seal)
    }
}

fn is_wanted(found: &str, wanted: &str) -> Result<(), LayerError> {
    if found == wanted {
        return Ok(());
    }
    Err(LayerError::DiffId { found: found.to_owned(), wanted: wanted.to_owned() })
}

/// Gives a layer that is written to `work` its place, sealed.
fn place(new: File, work: &Path, file: &Path, seal: Seal) -> Result<Sealed, LayerError> {
    new.sync_all().map_err(cannot("write", work))?;
    // Nobody may have it open for writing when it is sealed.
    drop(new);
    let sealed = seal(work).map_err(|source| LayerError::Seal { path: work.to_owned(), source })?;
    fs::rename(work, file).map_err(cannot("move a layer to", file))?;
    sync_directory(file.parent().unwrap_or(Path::new("/")))?;
    Ok(sealed)
}

fn create(path: &Path) -> Result<File, FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot("remove", path)(error)),
        _ => {}
    }
    File::options().read(true).write(true).create_new(true).open(path).map_err(cannot("make", path))
}

/// What was in a blob.
#[derive(Debug)]
struct Content {
    /// Its digest.
    blob: String,
    /// The digest of what it unpacks to, when that is a layer.
    unpacked: Result<String, LayerError>,
}

/// Writes the layer that `packed`, `size` bytes, holds.
fn convert(
    packed: impl Read,
    size: u64,
    uuid: [u8; 16],
    out: &File,
    free: Free,
) -> Result<Content, LayerError> {
    let mut packed = BufReader::with_capacity(AT_ONCE, Hashing::new(packed));
    let mut room = Room { file: out, free, written: 0, looked_at: 0, is_full: false };
    let unpacked = unpack(&mut packed, uuid, &mut room);
    if room.is_full {
        // What is still packed takes that much at least.
        let left = size.saturating_sub(packed.get_ref().bytes());
        return Err(LayerError::Full { size: room.written.saturating_add(left) });
    }
    io::copy(&mut packed, &mut io::sink()).map_err(LayerError::Unpack)?;
    Ok(Content { blob: packed.into_inner().digest(), unpacked })
}

fn unpack(packed: &mut impl BufRead, uuid: [u8; 16], room: &mut Room<'_>) -> Result<String, LayerError> {
    let mut tar = Hashing::new(unpacked(packed).map_err(LayerError::Unpack)?);
    // Unpacking is fast only where there is room for much at once, and headers are small.
    let reader = BufReader::with_capacity(AT_ONCE, &mut tar);
    erofs::layer(reader, room, erofs::Options { uuid, build_time: 0 }).map_err(LayerError::Tar)?;
    Ok(tar.digest())
}

/// What `packed` holds, by its first bytes.
pub(super) fn unpacked<'a>(packed: &'a mut impl BufRead) -> io::Result<Box<dyn Read + 'a>> {
    // They may come one by one.
    let mut magic = Vec::new();
    packed.by_ref().take(4).read_to_end(&mut magic)?;
    let kind = <[u8; 4]>::try_from(&magic[..]).unwrap_or_default();
    let packed = io::Cursor::new(magic).chain(packed);
    Ok(match kind {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(packed)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::with_buffer(packed)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        _ => Box::new(packed),
    })
}

/// The identity of a layer's file. As image-build does it: the same layer is the same file everywhere.
fn uuid(diff_id: &str) -> [u8; 16] {
    let mut uuid = [0; 16];
    let name = Sha256::digest(images::sha256_hex(diff_id).unwrap_or_default());
    uuid.iter_mut().zip(name).for_each(|(to, from)| *to = from);
    uuid
}

/// A file that grows only while there is room: a layer may unpack to any size.
#[derive(Debug)]
struct Room<'a> {
    file: &'a File,
    free: Free,
    written: u64,
    looked_at: u64,
    is_full: bool,
}

impl Room<'_> {
    fn look(&mut self) -> io::Result<()> {
        let free = (self.free)(self.file)?;
        self.looked_at = self.written;
        if free < RESERVE + LOOK {
            self.is_full = true;
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }
}

/// Bytes that are free where a file is.
pub(super) fn free(file: &File) -> io::Result<u64> {
    let stat = fstatvfs(file)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written == 0 || self.written - self.looked_at >= LOOK {
            self.look()?;
        }
        let count = self.file.write(bytes).inspect_err(|error| {
            self.is_full |= error.kind() == io::ErrorKind::StorageFull;
        })?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Room<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
