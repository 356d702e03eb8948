//! Reads tar streams from strangers: ustar, GNU long names, PAX records.
//!
//! Bounded in memory whatever the stream says. Sparse files, multi-volume archives and unknown types are errors; global
//! PAX headers are skipped, as container engines do. Form: POSIX.1-2017 `pax`, and the GNU tar manual's "Basic Tar
//! Format".

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::Error;
use crate::writer::fill;

const BLOCK: usize = 512;
/// Upper bound of long names and PAX records, the same as in Go's `archive/tar`.
const MAX_EXTENSION: u64 = 1 << 20;

/// One entry; its content is read through [`Reader::content`]. Nothing of it has been judged.
#[derive(Debug)]
pub struct Entry {
    /// Its path as the archive has it.
    pub path: Vec<u8>,
    /// What a link leads to.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// One more name of another entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// Reads an archive entry by entry.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    offset: u64,
    /// Bytes of the current entry's content that have not been read.
    content: u64,
    /// Bytes that fill its last block.
    padding: u64,
}

/// What extension headers said about the entry that follows.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Begins at the first header.
    pub fn new(input: R) -> Self {
        Self { input, offset: 0, content: 0, padding: 0 }
    }

    /// The next entry; `None` at the end of the archive. What was not read of the last content is skipped.
    ///
    /// # Errors
    /// When the archive cannot be read, is damaged, or holds what is not supported.
    #[expect(clippy::should_implement_trait, reason = "an entry's content is read before the next entry")]
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = self.number(&header[124..136])?;
            let kind = match header[156] {
                b'L' => {
                    extensions.path = Some(until_zero(&self.extension(size)?).to_vec());
                    continue;
                }
                b'K' => {
                    extensions.link = Some(until_zero(&self.extension(size)?).to_vec());
                    continue;
                }
                b'x' => {
                    let records = self.extension(size)?;
                    extensions.read(&records).map_err(|reason| self.bad(reason))?;
                    continue;
                }
                b'g' => {
                    self.extension(size)?;
                    continue;
                }
                0 if until_zero(&header[..100]).ends_with(b"/") => Kind::Directory,
                0 | b'0' | b'7' => Kind::File,
                b'1' => Kind::HardLink,
                b'2' => Kind::Symlink,
                b'3' => Kind::Char,
                b'4' => Kind::Block,
                b'5' => Kind::Directory,
                b'6' => Kind::Fifo,
                b'S' => return Err(self.bad("sparse files are not supported")),
                _ => return Err(self.bad("entries of this type are not supported")),
            };
            if kind == Kind::File {
                self.expect(extensions.size.unwrap_or(size));
            }
            return self.entry(&header, kind, extensions).map(Some);
        }
    }

    /// Reads the current entry's content.
    pub fn content(&mut self) -> impl Read {
        Content(self)
    }

    /// How many bytes of that are left.
    pub fn left(&self) -> u64 {
        self.content
    }

    /// Reads the stream to its very end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn drain(mut self) -> Result<(), Error> {
        let drained = io::copy(&mut self.input, &mut io::sink());
        drained.map_err(|source| self.failed(source)).map(|_| ())
    }

    fn entry(&self, header: &[u8; BLOCK], kind: Kind, extensions: Extensions) -> Result<Entry, Error> {
        let field = |from: usize, to: usize| self.number(&header[from..to]);
        let id = |said: Option<u32>, from: usize| match said {
            Some(id) => Ok(id),
            None => {
                u32::try_from(field(from, from + 8)?).map_err(|_| self.bad("owner or group is too large"))
            }
        };
        let device = |from: usize| match kind {
            Kind::Char | Kind::Block => {
                u32::try_from(field(from, from + 8)?).map_err(|_| self.bad("device number is too large"))
            }
            _ => Ok(0),
        };
        let mtime = match extensions.mtime {
            Some(mtime) => mtime,
            None => (i64::try_from(field(136, 148)?).map_err(|_| self.bad("time is too large"))?, 0),
        };
        let path = extensions.path.unwrap_or_else(|| {
            let mut path = Vec::new();
            if header[257..263] == *b"ustar\0" && header[345] != 0 {
                path.extend_from_slice(until_zero(&header[345..500]));
                path.push(b'/');
            }
            path.extend_from_slice(until_zero(&header[..100]));
            path
        });
        Ok(Entry {
            path,
            link: extensions.link.unwrap_or_else(|| until_zero(&header[157..257]).to_vec()),
            kind,
            mode: u16::try_from(field(100, 108)? & 0o7777).unwrap_or_default(),
            uid: id(extensions.uid, 108)?,
            gid: id(extensions.gid, 116)?,
            mtime,
            device: (device(329)?, device(337)?),
            xattrs: extensions.xattrs,
        })
    }

    /// The next header; `None` at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut header = [0; BLOCK];
        let read = fill(&mut self.input, &mut header);
        let read = read.map_err(|source| self.failed(source))?;
        self.offset += read as u64;
        if read == 0 || header == [0; BLOCK] {
            return Ok(None);
        }
        if read < BLOCK {
            return Err(self.bad("the stream ends in a header"));
        }
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) })
            .sum();
        if self.number(&header[148..156])? != sum {
            return Err(self.bad("the header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// An octal number, or a binary one if its first bit is set (GNU).
    fn number(&self, field: &[u8]) -> Result<u64, Error> {
        if let [first, rest @ ..] = field
            && first & 0x80 != 0
        {
            if first & 0x40 != 0 {
                return Err(self.bad("a number is negative"));
            }
            let mut value = u64::from(first & 0x3f);
            for byte in rest {
                let shifted = value.checked_mul(256).ok_or_else(|| self.bad("a number is too large"))?;
                value = shifted | u64::from(*byte);
            }
            return Ok(value);
        }
        let digits =
            field.trim_ascii_start().split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
        digits.iter().try_fold(0u64, |value, digit| match digit {
            b'0'..=b'7' => Ok(value << 3 | u64::from(digit - b'0')),
            _ => Err(self.bad("a number is not octal")),
        })
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > MAX_EXTENSION {
            return Err(self.bad("a long name or PAX header is larger than 1 MiB"));
        }
        self.expect(size);
        let mut bytes = Vec::new();
        let read = self.content().read_to_end(&mut bytes);
        read.map_err(|source| self.failed(source))?;
        Ok(bytes)
    }

    fn expect(&mut self, size: u64) {
        self.content = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        for _ in 0..2 {
            let skipped = io::copy(&mut Content(self), &mut io::sink());
            skipped.map_err(|source| self.failed(source))?;
            self.content = std::mem::take(&mut self.padding);
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::TarRead { offset: self.offset, source }
    }

    fn bad(&self, reason: &'static str) -> Error {
        Error::Tar { offset: self.offset, reason }
    }
}

/// The content of one entry: exactly as long as its header said, or an error.
struct Content<'a, R>(&'a mut Reader<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.0.content).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.0.input.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the tar stream ends in a file's content",
            ));
        }
        self.0.content -= read as u64;
        self.0.offset += read as u64;
        Ok(read)
    }
}

impl Extensions {
    /// PAX records: `LENGTH KEY=VALUE\n`, where LENGTH counts all of it.
    fn read(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        const DAMAGED: &str = "a PAX record is damaged";
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or(DAMAGED)?;
            let length: usize = parse(&records[..space]).ok_or(DAMAGED)?;
            let record = records.get(space + 1..length).ok_or(DAMAGED)?;
            records = &records[length..];
            let record = record.strip_suffix(b"\n").ok_or(DAMAGED)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(DAMAGED)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                self.xattrs.insert(name.to_vec(), value.to_vec());
                continue;
            }
            let text = (!value.is_empty()).then_some(value);
            match key {
                b"path" => self.path = text.map(<[u8]>::to_vec),
                b"linkpath" => self.link = text.map(<[u8]>::to_vec),
                b"size" => self.size = text.map(|text| parse(text).ok_or(DAMAGED)).transpose()?,
                b"uid" => self.uid = text.map(|text| parse(text).ok_or(DAMAGED)).transpose()?,
                b"gid" => self.gid = text.map(|text| parse(text).ok_or(DAMAGED)).transpose()?,
                b"mtime" => self.mtime = text.map(|text| time(text).ok_or(DAMAGED)).transpose()?,
                _ if key.starts_with(b"GNU.sparse.") => return Err("sparse files are not supported"),
                _ => {}
            }
        }
        Ok(())
    }
}

fn parse<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// A decimal number of seconds, maybe negative, maybe with a fraction.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let dot = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let seconds: i64 = parse(&text[..dot])?;
    let mut digits = text.get(dot + 1..).unwrap_or_default().to_vec();
    digits.resize(9, b'0');
    let nanoseconds: u32 = parse(&digits)?;
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, expected) in [
            ("12", Some((12, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.0000000019", Some((12, 1))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("", None),
            ("1.x", None),
            ("--1", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn records_are_counted_in_bytes() {
        let mut extensions = Extensions::default();
        extensions.read("13 path=ä/b\n25 SCHILY.xattr.user.a=\n\n".as_bytes()).unwrap();
        assert_eq!(extensions.path.as_deref(), Some("ä/b".as_bytes()));
        assert_eq!(extensions.xattrs[&b"user.a"[..]], b"\n");
        for bad in ["5 a=b", "99 path=x\n", "0 path=x\n", "path=x\n", "8 pathx\n", "10 size=x\n"] {
            assert!(Extensions::default().read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
