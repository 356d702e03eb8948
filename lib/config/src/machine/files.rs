//! `write_files`: files with their bytes, modes and owners.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use userdata::{At, KeySpec as Key, Kind, MAX_SIZE, Mark};

use super::{Machine, take};

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where: absolute, without `..`.
    pub path: String,
    /// What. With [`File::source`]: what is written when that cannot be fetched.
    pub content: Vec<u8>,
    /// Where the content is to be fetched.
    pub source: Option<Source>,
    /// Permission bits.
    pub mode: u32,
    /// User and group as they are written.
    pub owner: String,
    /// Numbers of user and group.
    pub ids: (u32, u32),
    /// It is added to what is there.
    pub append: bool,
    /// It is written last.
    pub defer: bool,
    /// Where it stands.
    pub mark: Mark,
}

/// Where a file's content is to be fetched.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// `http` or `https`.
    pub url: String,
    /// Headers of the request: they may be secret.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.url)
    }
}

/// Names that a node knows: it has no accounts.
const USERS: [(&str, u32); 2] = [("root", 0), ("nobody", 65534)];
const GROUPS: [(&str, u32); 3] = [("root", 0), ("nobody", 65534), ("nogroup", 65534)];

/// What cannot be written, with everything below it.
const READ_ONLY: [&str; 8] = ["usr", "bin", "sbin", "boot", "efi", "proc", "sys", "dev"];

#[derive(Default)]
struct Draft {
    path: Option<String>,
    content: Vec<u8>,
    is_binary: bool,
    encoding: Encoding,
    source: Option<Source>,
    mode: Option<u32>,
    owner: Option<(String, (u32, u32))>,
    append: bool,
    defer: bool,
    /// Why the path cannot be written.
    refused: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Encoding {
    base64: bool,
    gzip: bool,
}

pub(super) fn write_files(at: &At<'_>, machine: &mut Machine) {
    let mut left = MAX_SIZE;
    let mut files = Vec::new();
    for entry in at.list().into_iter().flatten() {
        match file(&entry, &mut left) {
            Ok(file) => files.push(file),
            Err(Rejected { path, reason }) => {
                machine.rejected_files.extend(path.map(|path| (path, reason)));
            }
        }
    }
    files.sort_by_key(|file: &File| file.defer);
    machine.files = files;
}

/// A file that is not written, when its entry says which it is.
struct Rejected {
    path: Option<String>,
    reason: &'static str,
}

fn file(at: &At<'_>, left: &mut usize) -> Result<File, Rejected> {
    let errors = at.report.errors();
    let table: [Key<Draft>; 8] = [
        take(
            "path",
            |at, draft: &mut Draft| match path(at) {
                Ok(path) => draft.path = Some(path),
                Err(reason) => draft.refused = Some(reason),
            },
            "Where: an absolute path, not below the node's own directories (`/usr`, `/bin`, `/dev` and so on). Required.",
        ),
        take(
            "content",
            |at, draft| {
                if let Some(text) = at.text() {
                    draft.content = text.as_bytes().to_vec();
                    draft.is_binary = at.scalar().is_some_and(|scalar| scalar.kind == Kind::Binary);
                }
            },
            "What. Without it the file is empty.",
        ),
        take(
            "encoding",
            |at, draft| draft.encoding = encoding(at).unwrap_or_default(),
            "`b64`, `gzip`, `gz+b64` and their other spellings. Default: as it is written.",
        ),
        take(
            "permissions",
            |at, draft| draft.mode = permissions(at),
            "Octal digits without set-id bits. Default `0644`.",
        ),
        take(
            "owner",
            |at, draft| draft.owner = owner(at),
            "`USER:GROUP` by number; of names only `root`, `nobody`, `nogroup`. Default `root:root`.",
        ),
        take(
            "append",
            |at, draft| draft.append = at.truth().unwrap_or_default(),
            "`true`: it is added to what is there.",
        ),
        take(
            "defer",
            |at, draft| draft.defer = at.truth().unwrap_or_default(),
            "`true`: it is written after the others.",
        ),
        take(
            "source",
            |at, draft| draft.source = source(at),
            "Where the content is fetched; when that fails, `content` is written.",
        ),
    ];
    let mut draft = Draft::default();
    at.section("a file", &table, &mut draft);
    if at.is_map() && at.get("path").is_none() {
        at.error("a file has no 'path'");
    }
    let rejected = |reason| Rejected {
        path: at.get("path").and_then(|path| path.node.text().map(str::to_owned)),
        reason,
    };
    let Some(path) = draft.path else { return Err(rejected(draft.refused.unwrap_or("no path"))) };
    let content = decode(draft.content, draft.is_binary, draft.encoding, left).map_err(|why| {
        let content = at.get("content");
        content.as_ref().unwrap_or(at).error(format!("the content of {path} {why}"));
    });
    let (owner, ids) = draft.owner.unwrap_or_else(|| ("root:root".to_owned(), (0, 0)));
    let Ok(content) = content else { return Err(rejected("content")) };
    if at.report.errors() > errors {
        return Err(rejected("an error in its entry"));
    }
    Ok(File {
        path,
        content,
        source: draft.source,
        mode: draft.mode.unwrap_or(0o644),
        owner,
        ids,
        append: draft.append,
        defer: draft.defer,
        mark: at.node.mark,
    })
}

/// An absolute path that can be written; else the reason in a few words.
pub(super) fn path(at: &At<'_>) -> Result<String, &'static str> {
    let path = at.absolute_path().and_then(|path| path.into_os_string().into_string().ok());
    let path = path.ok_or("not absolute")?;
    let first = path.split('/').find(|part| !matches!(*part, "" | "."));
    match first {
        None => at.error("'/' is a directory"),
        Some(first) if READ_ONLY.contains(&first) || first.starts_with("lib") => {
            let hint = "the node's own files are never changed: write below /etc, /var or /run";
            at.error_with_hint(format!("{path} is read-only: nothing below /{first} can be written"), hint);
            return Err("read-only");
        }
        Some(_) if path.ends_with('/') => at.error(format!("'{path}' is a directory")),
        Some(_) => return Ok(path),
    }
    Err("directory")
}

pub(super) fn encoding(at: &At<'_>) -> Option<Encoding> {
    let encoding = |base64, gzip| Encoding { base64, gzip };
    let words = [
        ("", encoding(false, false)),
        ("text/plain", encoding(false, false)),
        ("raw", encoding(false, false)),
        ("b64", encoding(true, false)),
        ("base64", encoding(true, false)),
        ("gz", encoding(false, true)),
        ("gzip", encoding(false, true)),
        ("gz+b64", encoding(true, true)),
        ("gz+base64", encoding(true, true)),
        ("gzip+b64", encoding(true, true)),
        ("gzip+base64", encoding(true, true)),
    ];
    let text = at.text()?.to_lowercase();
    let found = words.iter().find(|(word, _)| *word == text.trim()).map(|(_, encoding)| *encoding);
    if found.is_none() {
        at.error_with_hint("not a known encoding", "text/plain, b64, gzip and gz+b64 are");
    }
    found
}

/// Bytes from a scalar: `!!binary` first, then what `encoding` says. `left` bounds what gzip unpacks.
pub(super) fn decode(
    content: Vec<u8>,
    is_binary: bool,
    encoding: Encoding,
    left: &mut usize,
) -> Result<Vec<u8>, String> {
    let base64 = |bytes: Vec<u8>| {
        let text: Vec<u8> = bytes.into_iter().filter(|b| !b.is_ascii_whitespace()).collect();
        STANDARD.decode(text).map_err(|error| format!("is not valid base64: {error}"))
    };
    let mut bytes = content;
    if is_binary {
        bytes = base64(bytes)?;
    }
    if encoding.base64 {
        bytes = base64(bytes)?;
    }
    if encoding.gzip {
        let mut out = Vec::new();
        let read =
            flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(*left as u64 + 1).read_to_end(&mut out);
        read.map_err(|error| format!("is not valid gzip: {error}"))?;
        bytes = out;
    }
    *left = left.checked_sub(bytes.len()).ok_or_else(|| {
        format!("makes all contents larger than {} MiB when they are unpacked", MAX_SIZE >> 20)
    })?;
    Ok(bytes)
}

/// Octal digits, with or without quotes: `0644`, `'644'`, `0o644`. No set-id bits.
fn permissions(at: &At<'_>) -> Option<u32> {
    let text = at.text()?;
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| digits.len() <= 6 && *mode <= 0o7777);
    match mode {
        None => at.error_with_hint(format!("'{text}' is not a mode"), "octal digits, as in '0644'"),
        Some(mode) if mode & 0o6000 != 0 => at.error("must not have set-user-id or set-group-id bits"),
        Some(mode) => return Some(mode),
    }
    None
}

fn owner(at: &At<'_>) -> Option<(String, (u32, u32))> {
    let text = at.text()?;
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let id = |names: &[(&str, u32)], name: &str| {
        let named = names.iter().find(|(known, _)| *known == name).map(|(_, id)| *id);
        named.or_else(|| name.parse().ok())
    };
    let group = if group.is_empty() { "root" } else { group };
    match (id(&USERS, user), id(&GROUPS, group)) {
        (Some(uid), Some(gid)) => Some((format!("{user}:{group}"), (uid, gid))),
        (uid, _) => {
            let name = if uid.is_none() { user } else { group };
            at.error_with_hint(
                format!("there is no '{name}' on a node"),
                "give numbers, as in '101:101', or root",
            );
            None
        }
    }
}

fn source(at: &At<'_>) -> Option<Source> {
    let table: [Key<Source>; 2] = [
        take(
            "uri",
            |at, source: &mut Source| {
                if let Some(url) = at.text() {
                    if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
                        at.error("must begin with http:// or https://");
                    }
                    url.clone_into(&mut source.url);
                }
            },
            "`http://` or `https://`.",
        ),
        take(
            "headers",
            |at, source| {
                for (name, _, value) in at.map().into_iter().flatten() {
                    source.headers.extend(value.text().map(|text| (name.to_owned(), text.to_owned())));
                }
            },
            "Headers of the request.",
        ),
    ];
    let mut source = Source { url: String::new(), headers: Vec::new() };
    at.section("the source of a file", &table, &mut source);
    if source.url.is_empty() && at.get("uri").is_none() {
        at.error("has no 'uri'");
    }
    Some(source)
}
