//! `write_files`.
//!
//! What several entries say of one path is put together first, so that the file is written once, whole. An entry that
//! adds to a file which is there already adds nothing when the file ends with it: the same configuration is applied
//! again at the next boot, and `/var` is kept.

use std::cell::LazyCell;
use std::io;
use std::path::Path;
use std::time::Duration;

use config::File;

use super::Failures;
use super::place::{Attributes, Place};
use crate::file;
use crate::http::{Client, Limits};
use crate::network::Network;

/// Files that containers have mounted, so they are written over, never replaced.
const MOUNTED: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// Why a file is not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}{hint}")]
struct WriteError {
    path: String,
    hint: &'static str,
    source: io::Error,
}

/// How long contents that are to be fetched wait for the network, all together: PID 1 waits for the agent meanwhile.
const NETWORK_LIMIT: Duration = Duration::from_secs(30);

/// Writes files.
pub(super) fn write<'a>(files: impl Iterator<Item = &'a File>, network: &Network, failures: &mut Failures) {
    let online = LazyCell::new(|| network.wait_online(NETWORK_LIMIT));
    // What the entry holds itself counts when it has no source, or that does not answer.
    let mut content = |file: &'a File| fetch(file, &online, failures).unwrap_or_else(|| file.content.clone());
    let files = whole(files.map(|file| (file, content(file))));
    for wanted in files {
        failures.check("write_files", put(Path::new("/"), &wanted));
    }
}

/// The content from where an entry says it is to be fetched. Headers may be secret, so nothing of them is said.
fn fetch(
    file: &File,
    online: &LazyCell<bool, impl FnOnce() -> bool>,
    failures: &mut Failures,
) -> Option<Vec<u8>> {
    let source = file.source.as_ref()?;
    if !**online {
        failures.add("write_files", format_args!("cannot fetch {}: there is no network", file.path));
        return None;
    }
    let headers: Vec<(&str, &str)> =
        source.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let response =
        failures.check("write_files", Client::new(Limits::default()).get(&source.url, &headers))?;
    Some(response.body)
}

/// One file, from all entries that name it.
#[derive(Debug)]
struct Whole<'a> {
    path: &'a str,
    content: Vec<u8>,
    /// The content comes behind what is there.
    append: bool,
    attributes: Attributes,
}

/// The entries by file, in the order in which the files are first named.
fn whole<'a>(entries: impl Iterator<Item = (&'a File, Vec<u8>)>) -> Vec<Whole<'a>> {
    let mut files: Vec<Whole<'a>> = Vec::new();
    for (entry, content) in entries {
        let (uid, gid) = entry.ids;
        let attributes = Attributes { mode: entry.mode, uid, gid };
        match files.iter_mut().find(|file| file.path == entry.path) {
            Some(file) if entry.append => {
                file.content.extend(content);
                file.attributes = attributes;
            }
            Some(file) => {
                *file = Whole { path: &entry.path, content, append: false, attributes };
            }
            None => files.push(Whole { path: &entry.path, content, append: entry.append, attributes }),
        }
    }
    files
}

fn put(root: &Path, wanted: &Whole<'_>) -> Result<(), WriteError> {
    let failed = |source: io::Error| WriteError {
        path: wanted.path.to_owned(),
        hint: match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => {
                " (write below /etc, /var, /run, /opt, /home, /root or /srv)"
            }
            _ => "",
        },
        source,
    };
    let place = Place::below(root, Path::new(wanted.path)).map_err(failed)?;
    let mut content = Vec::new();
    if wanted.append {
        content = place.read().map_err(failed)?.unwrap_or_default();
    }
    if !wanted.append || !content.ends_with(&wanted.content) {
        content.extend(&wanted.content);
    }
    if MOUNTED.contains(&wanted.path) {
        return file::overwrite(Path::new(wanted.path), &content)
            .map_err(|error| failed(io::Error::other(error)));
    }
    place.replace(&content, wanted.attributes).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(path: &str, content: &str, append: bool) -> File {
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        File {
            path: path.to_owned(),
            content: content.as_bytes().to_vec(),
            source: None,
            mode: 0o644,
            owner: String::new(),
            ids,
            append,
            defer: false,
            mark: Default::default(),
        }
    }

    fn all(entries: &[File]) -> Vec<Whole<'_>> {
        whole(entries.iter().map(|entry| (entry, entry.content.clone())))
    }

    fn content(root: &Path, entries: &[File]) -> String {
        for wanted in all(entries) {
            put(root, &wanted).unwrap();
        }
        fs::read_to_string(root.join("etc/x")).unwrap()
    }

    #[test]
    fn entries_of_one_path_are_put_together() {
        let root = tempfile::tempdir().unwrap();
        let entries = [
            entry("/etc/x", "lost", false),
            entry("/etc/x", "a", false),
            entry("/etc/x", "b", true),
            entry("/etc/y", "y", false),
        ];
        assert_eq!(content(root.path(), &entries), "ab");
        assert_eq!(content(root.path(), &entries), "ab");
        assert_eq!(all(&entries).len(), 2);
    }

    #[test]
    fn what_is_added_is_added_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/x"), "theirs\n").unwrap();
        let entries = [entry("/etc/x", "ours\n", true), entry("/etc/x", "more\n", true)];
        for _ in 0..2 {
            assert_eq!(content(root.path(), &entries), "theirs\nours\nmore\n");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let entries = [entry("/file/x", "", false)];
        let error = put(root.path(), &all(&entries)[0]).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /file/x");
    }
}
