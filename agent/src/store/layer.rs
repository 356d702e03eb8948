//! From the blob of a layer to its file: unpacked, checked and written as EROFS while it streams by, then sealed.
//!
//! The file has its place only when everything was right: both digests, and the seal. Until then it is in a directory
//! that is cleared at every start. Memory is bounded whatever the layer.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use images::Sealed;
use images::oci::Layer;
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
const AT_ONCE: usize = 128 << 10;
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
    let written = convert(packed, layer, &new, free);
    let sealed = written.and_then(|()| {
        new.sync_all().map_err(cannot("write", work))?;
        // Nobody may have it open for writing when it is sealed.
        drop(new);
        seal(work).map_err(|source| LayerError::Seal { path: work.to_owned(), source })
    });
    let sealed = sealed.inspect_err(|_| drop(fs::remove_file(work)))?;
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

fn convert(packed: impl Read, layer: &Layer, out: &File, free: Free) -> Result<(), LayerError> {
    let mut packed = BufReader::with_capacity(AT_ONCE, Hashing::new(packed));
    let mut unpacked = Sha256::new();
    let mut room = Room { file: out, free, written: 0, looked_at: 0, is_full: false };
    let result = unpack(&mut packed, layer, &mut room, &mut unpacked);
    if room.is_full {
        // What is still packed takes that much at least.
        let left = layer.blob.size().saturating_sub(packed.get_ref().read);
        return Err(LayerError::Full { size: room.written.saturating_add(left) });
    }
    // A blob that was changed on its way is that, whatever its content looks like.
    io::copy(&mut packed, &mut io::sink()).map_err(LayerError::Unpack)?;
    let found = super::hex(&packed.into_inner().hasher.finalize());
    if found != layer.blob.digest().as_ref() {
        return Err(LayerError::Blob { found });
    }
    result?;
    let found = super::hex(&unpacked.finalize());
    if found != layer.diff_id {
        return Err(LayerError::DiffId { found, wanted: layer.diff_id.clone() });
    }
    Ok(())
}

fn unpack(
    packed: &mut impl BufRead,
    layer: &Layer,
    room: &mut Room<'_>,
    hasher: &mut Sha256,
) -> Result<(), LayerError> {
    let magic = packed.fill_buf().map_err(LayerError::Unpack)?.get(..4).unwrap_or_default().to_owned();
    let tar: Box<dyn Read + '_> = match magic[..] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(packed)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::with_buffer(packed).map_err(LayerError::Unpack)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(LayerError::Unpack)?;
            Box::new(decoder)
        }
        _ => Box::new(packed),
    };
    let mut uuid = [0; 16];
    // As image-build does it: the same layer is the same file everywhere.
    let name = Sha256::digest(images::sha256_hex(&layer.diff_id).unwrap_or_default());
    uuid.iter_mut().zip(name).for_each(|(to, from)| *to = from);
    let options = erofs::Options { uuid, build_time: 0 };
    // Unpacking is fast only where there is room for much at once, and headers are small.
    let tar = BufReader::with_capacity(AT_ONCE, Into { inner: tar, hasher });
    erofs::layer(tar, room, options).map_err(LayerError::Tar)?;
    Ok(())
}

/// Takes the SHA-256 of what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    /// Bytes so far.
    read: u64,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), read: 0 }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// The same with somebody else's hasher.
struct Into<'a, R> {
    inner: R,
    hasher: &'a mut Sha256,
}

impl<R: Read> Read for Into<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
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
