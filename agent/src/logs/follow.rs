//! What is new in the log of one service: `NAME.log`, and older files `NAME.log.1` and so on. The shim writes whole lines,
//! and renames the files when the newest is full.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::place::Place;

/// The longest time that a file may begin with.
const TIME: usize = 64;

/// The logs in `directory`: services and their newest files.
pub(crate) fn logs_in(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut logs: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name.strip_suffix(".log")?.to_owned(), entry.path()))
        })
        .collect();
    logs.sort();
    logs
}

/// The files of one log.
#[derive(Debug)]
pub(crate) struct Follower<'a> {
    newest: &'a Path,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(newest: &'a Path) -> Self {
        Self { newest }
    }

    /// Whole lines after `place`, about `most` bytes of them at most, and the place after them. `None`: nothing is new.
    pub(crate) fn next(&self, place: Option<&Place>, most: usize) -> Option<(Vec<u8>, Place)> {
        // Opened, they stay what they are while they are renamed.
        let mut files = self.open();
        let known = place.and_then(|place| files.iter().position(|(begin, _)| *begin == place.file));
        let mut offset = place.filter(|_| known.is_some()).map_or(0, |place| place.offset);
        for (begin, file) in files.drain(known.unwrap_or(0)..) {
            match lines(&file, offset, most) {
                Ok(lines) if !lines.is_empty() => {
                    let offset = offset + lines.len() as u64;
                    return Some((lines, Place { file: begin, offset }));
                }
                // One that cannot be read holds up none of the others.
                Ok(_) | Err(_) => offset = 0,
            }
        }
        None
    }

    /// All files, oldest first, each with what it begins with. Those without a line yet are left out.
    fn open(&self) -> Vec<(String, File)> {
        let mut files = Vec::new();
        let mut path = self.newest.to_owned();
        for number in 1.. {
            let Ok(file) = File::open(&path) else { break };
            if let Ok(Some(begin)) = begin(&file) {
                // Renamed while the files were opened, it is met a second time.
                if files.last().is_none_or(|(last, _)| *last != begin) {
                    files.push((begin, file));
                }
            }
            let mut name = self.newest.as_os_str().to_owned();
            name.push(format!(".{number}"));
            path = name.into();
        }
        files.reverse();
        files
    }
}

fn begin(file: &File) -> io::Result<Option<String>> {
    let mut bytes = [0; TIME];
    let length = file.read_at(&mut bytes, 0)?;
    let begin = bytes[..length].split(|byte| *byte == b' ' || *byte == b'\n').next();
    Ok(begin.filter(|begin| !begin.is_empty()).map(|begin| String::from_utf8_lossy(begin).into_owned()))
}

/// Whole lines from `offset` on; part of a line when a line is longer than all that may be read.
fn lines(file: &File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let left = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(most).min(most)];
    let length = file.read_at(&mut bytes, offset)?;
    bytes.truncate(length);
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => bytes.truncate(end + 1),
        None if length < most => bytes.clear(),
        None => {}
    }
    Ok(bytes)
}
