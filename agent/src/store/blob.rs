//! One blob of a registry, read as it comes. A connection that breaks is made again where it broke; one that is too slow
//! counts as broken.

use std::io::{self, Read};
use std::thread;

use super::pace::{Pace, SLOWEST, WINDOW};
use super::progress::Task;
use super::registry::{RegistryError, Source};
use crate::http::Stream;

/// How often a blob may break without getting anywhere.
const BREAKS: u32 = 5;
/// Having come this far since the last break counts as getting somewhere.
const PROGRESS: u64 = 1 << 20;

/// Why a blob cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{base} sends {found} bytes of it, and it has {size}")]
    Length { base: String, found: u64, size: u64 },
    #[error("{base} sends more than the {size} bytes that it has")]
    TooLong { base: String, size: u64 },
    #[error("{base} begins at another byte than it was asked to go on at")]
    Range { base: String },
    #[error("{base} ended the connection {breaks} times, the last time after {offset} of {size} bytes")]
    Broken { base: String, breaks: u32, offset: u64, size: u64 },
    #[error("{base} ended the connection {breaks} times, the last time after {offset} of {size} bytes")]
    Failed { base: String, breaks: u32, offset: u64, size: u64, source: io::Error },
    #[error("{base} sends less than {SLOWEST} bytes in {} s", WINDOW.as_secs())]
    Slow { base: String },
}

/// A blob that is being read.
pub(super) struct Blob<'a> {
    source: Source<'a>,
    task: &'a Task,
    digest: &'a str,
    size: u64,
    offset: u64,
    stream: Option<Stream>,
    breaks: u32,
    broke_at: u64,
    pace: Pace,
    failed: Option<BlobError>,
}

impl<'a> Blob<'a> {
    pub(super) fn new(source: Source<'a>, task: &'a Task, digest: &'a str, size: u64) -> Self {
        Self {
            source,
            task,
            digest,
            size,
            offset: 0,
            stream: None,
            breaks: 0,
            broke_at: 0,
            pace: Pace::from(0),
            failed: None,
        }
    }

    /// Why reading failed, when it was the registry's fault.
    pub(super) fn failure(&mut self) -> Option<BlobError> {
        self.failed.take()
    }

    fn base(&self) -> String {
        self.source.endpoint.base.clone()
    }

    /// The next bytes; none at the end of a whole blob.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, BlobError> {
        loop {
            if self.offset == self.size {
                return self.end();
            }
            let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..left).unwrap_or_default();
            let read = match self.stream.as_mut() {
                Some(stream) => stream.read(part),
                None => match self.open() {
                    Ok(()) => continue,
                    Err(BlobError::Registry(error)) if error.may_pass() => Err(io::Error::other(error)),
                    Err(error) => return Err(error),
                },
            };
            match read {
                Ok(0) => self.broke(None)?,
                Ok(count) => {
                    self.offset += count as u64;
                    self.task.add(count as u64);
                    if self.pace.is_too_slow(self.offset) {
                        return Err(BlobError::Slow { base: self.base() });
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.broke(Some(error))?,
            }
        }
    }

    fn open(&mut self) -> Result<(), BlobError> {
        let range = format!("bytes={}-", self.offset);
        let headers = [("Range", range.as_str())];
        let headers = if self.offset > 0 { &headers[..] } else { &[] };
        let what = format!("the blob {}", self.digest);
        let mut stream = self.source.get(&format!("blobs/{}", self.digest), headers, &what)?;
        if stream.status == 206 {
            let begins = format!("bytes {}-", self.offset);
            if !stream.header("content-range").is_some_and(|range| range.starts_with(&begins)) {
                return Err(BlobError::Range { base: self.base() });
            }
        } else {
            let length = stream.header("content-length").and_then(|length| length.parse().ok());
            if let Some(found) = length.filter(|length| *length != self.size) {
                return Err(BlobError::Length { base: self.base(), found, size: self.size });
            }
            // A registry that knows no ranges begins anew.
            let skipped = io::copy(&mut (&mut stream).take(self.offset), &mut io::sink());
            if skipped.ok() != Some(self.offset) {
                return self.broke(None);
            }
        }
        self.stream = Some(stream);
        self.pace = Pace::from(self.offset);
        Ok(())
    }

    /// Waits before the connection is made again, unless that has been done often enough.
    fn broke(&mut self, source: Option<io::Error>) -> Result<(), BlobError> {
        self.stream = None;
        if self.offset - self.broke_at >= PROGRESS {
            self.breaks = 0;
        }
        self.broke_at = self.offset;
        self.breaks += 1;
        let (base, breaks, offset, size) = (self.base(), self.breaks, self.offset, self.size);
        if self.breaks < BREAKS {
            thread::sleep(self.source.pause * 2_u32.pow(self.breaks - 1));
            return Ok(());
        }
        Err(match source {
            Some(source) => BlobError::Failed { base, breaks, offset, size, source },
            None => BlobError::Broken { base, breaks, offset, size },
        })
    }

    /// The end of the blob is also to be that of what is sent.
    fn end(&mut self) -> Result<usize, BlobError> {
        let Some(mut stream) = self.stream.take() else { return Ok(0) };
        match stream.read(&mut [0]) {
            Ok(1..) => Err(BlobError::TooLong { base: self.base(), size: self.size }),
            _ => Ok(0),
        }
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|error| {
            let text = io::Error::other(error.to_string());
            self.failed.get_or_insert(error);
            text
        })
    }
}
