//! `volumes` of a service: named ones, directories of the node, memory.

use serde_json::{Value as Json, json};
use userdata::{At, KeySpec as Key, Mark, Use};

use super::values::{json as as_is, parse_size};
use crate::container::Propagation;
use crate::machine::take;

/// Something mounted into a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// What.
    pub kind: VolumeKind,
    /// Name or path; absent: a volume without a name.
    pub source: Option<String>,
    /// Where in the container.
    pub target: String,
    /// It cannot be written.
    pub read_only: bool,
    /// What more is said of it.
    pub options: VolumeOptions,
    /// Where it stands.
    pub mark: Mark,
    normal: Json,
}

/// What may be said of a volume beside its two ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeOptions {
    /// What the image has there is not copied into a new volume.
    pub nocopy: bool,
    /// A directory of the node that is missing is an error.
    pub must_exist: bool,
    /// Options of a tmpfs.
    pub tmpfs: Vec<String>,
    /// How mounts that are made later reach it.
    pub propagation: Propagation,
    /// What a node cannot do of it.
    pub refused: Option<&'static str>,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VolumeKind {
    /// A volume.
    #[default]
    Volume,
    /// A file or directory of the node.
    Bind,
    /// Memory.
    Tmpfs,
}

impl Volume {
    pub(super) fn json(&self) -> Json {
        self.normal.clone()
    }
}

pub(super) fn volumes(at: &At<'_>) -> Vec<Volume> {
    let mut volumes = Vec::new();
    for item in at.list().into_iter().flatten() {
        volumes.extend(if item.is_map() { long(&item) } else { short(&item) });
    }
    volumes
}

/// `[SOURCE:]TARGET[:OPTIONS]`
fn short(at: &At<'_>) -> Option<Volume> {
    let text = at.text()?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] if target.starts_with('/') => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => {
            at.error_with_hint(format!("'{text}' is not a volume"), "SOURCE:TARGET or SOURCE:TARGET:ro");
            return None;
        }
    };
    let known = [
        "ro",
        "rw",
        "z",
        "Z",
        "nocopy",
        "cached",
        "delegated",
        "consistent",
        "rshared",
        "rslave",
        "rprivate",
        "shared",
        "slave",
        "private",
    ];
    let unknown = options.split(',').find(|option| !option.is_empty() && !known.contains(option));
    if let Some(option) = unknown {
        at.error(format!("'{option}' is not an option of a volume"));
    }
    let target = container_path(at, target)?;
    let kind = match source {
        Some(source) => judge_source(at, source)?,
        None => VolumeKind::Volume,
    };
    let source =
        source.map(|source| if kind == VolumeKind::Bind { normal_path(source) } else { source.to_owned() });
    let options = if options.is_empty() { "rw" } else { options };
    let normal =
        source.as_ref().map_or_else(|| target.clone(), |source| format!("{source}:{target}:{options}"));
    let has = |option: &str| options.split(',').any(|given| given == option);
    let propagation = options.split(',').filter_map(propagation).next_back().unwrap_or_default();
    let refused = (kind != VolumeKind::Bind && propagation != Propagation::Private).then_some(NO_PROPAGATION);
    let more = VolumeOptions { nocopy: has("nocopy"), propagation, refused, ..VolumeOptions::default() };
    let (read_only, mark) = (has("ro"), at.node.mark);
    Some(Volume { kind, source, target, read_only, options: more, mark, normal: json!(normal) })
}

const NO_PROPAGATION: &str =
    "only what is mounted of the node has mounts below it: no volume is 'rslave' or 'rshared'";

/// What is mounted below it counts, too: there is no other way here, so those words mean the same.
fn propagation(word: &str) -> Option<Propagation> {
    match word {
        "rprivate" | "private" => Some(Propagation::Private),
        "rslave" | "slave" => Some(Propagation::Slave),
        "rshared" | "shared" => Some(Propagation::Shared),
        _ => None,
    }
}

#[derive(Default)]
struct Draft {
    kind: VolumeKind,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    options: VolumeOptions,
}

const BIND: [Key<VolumeOptions>; 4] = [
    take(
        "create_host_path",
        |at, options| options.must_exist = at.truth() == Some(false),
        "`false`: a directory that is missing is an error. Default `true`: it is made.",
    ),
    take(
        "propagation",
        |at, options| match at.text().map(propagation) {
            Some(Some(given)) => options.propagation = given,
            Some(None) => at.error("must be 'rprivate', 'rslave' or 'rshared'"),
            None => {}
        },
        "How mounts that are made later reach it. `rprivate`, the default: not at all. `rslave`: those of the node are in the \
         container, too. `rshared`: and those of the container are on the node; it has the node's users then.",
    ),
    Key { name: "selinux", use_: Use::Quiet, doc: "" },
    Key { name: "recursive", use_: Use::Quiet, doc: "" },
];

const NAMED: [Key<VolumeOptions>; 3] = [
    take(
        "nocopy",
        |at, options| options.nocopy = at.truth().unwrap_or_default(),
        "`true`: what the image has there is not copied into a new volume.",
    ),
    take(
        "subpath",
        |_, options| options.refused = Some("'subpath' is not supported by this version"),
        "A directory in the volume.",
    ),
    Key { name: "labels", use_: Use::Quiet, doc: "" },
];

const TMPFS: [Key<VolumeOptions>; 2] = [
    take(
        "size",
        |at, options| match at.text().map(parse_size) {
            Some(Some(size)) => options.tmpfs.push(format!("size={size}")),
            Some(None) => at.error_with_hint("not a size", "bytes, or a number with k, m or g"),
            None => {}
        },
        "The most that it holds. Default: half of the memory.",
    ),
    take(
        "mode",
        |at, options| match at.text().map(|text| u32::from_str_radix(text.trim_start_matches("0o"), 8)) {
            Some(Ok(mode)) if mode <= 0o7777 => options.tmpfs.push(format!("mode={mode:o}")),
            Some(_) => at.error("must be permission bits as octal digits, as in 0770"),
            None => {}
        },
        "Permission bits as octal digits. Default `1777`.",
    ),
];

fn long(at: &At<'_>) -> Option<Volume> {
    let options = |name| Key { name, use_: Use::Quiet, doc: "" };
    let table: [Key<Draft>; 9] = [
        take(
            "type",
            |at, draft: &mut Draft| {
                let words = [
                    ("volume", VolumeKind::Volume),
                    ("bind", VolumeKind::Bind),
                    ("tmpfs", VolumeKind::Tmpfs),
                ];
                draft.kind = at.word(&words).unwrap_or_default();
            },
            "Default `volume`.",
        ),
        take(
            "source",
            |at, draft| draft.source = at.text().map(str::to_owned),
            "Name of the volume, or path on the node.",
        ),
        take(
            "target",
            |at, draft| draft.target = at.text().and_then(|target| container_path(at, target)),
            "Path in the container. Required.",
        ),
        take(
            "read_only",
            |at, draft| draft.read_only = at.truth().unwrap_or_default(),
            "`true`: it cannot be written.",
        ),
        options("consistency"),
        take("bind", |at, draft| at.section("'bind'", &BIND, &mut draft.options), "Options of a bind."),
        take(
            "volume",
            |at, draft| at.section("'volume'", &NAMED, &mut draft.options),
            "Options of a volume.",
        ),
        take("tmpfs", |at, draft| at.section("'tmpfs'", &TMPFS, &mut draft.options), "Options of a tmpfs."),
        Key { name: "image", use_: Use::Refused, doc: "" },
    ];
    let mut draft = Draft::default();
    at.section("a volume", &table, &mut draft);
    if at.get("target").is_none() {
        at.error("a volume has no 'target'");
    }
    if let (Some(source), Some(at)) = (&draft.source, at.get("source")) {
        let kind = judge_source(&at, source)?;
        if kind != draft.kind {
            at.error(match draft.kind {
                VolumeKind::Bind => "a bind needs an absolute path",
                VolumeKind::Volume => "the name of a volume has no '/'",
                VolumeKind::Tmpfs => "a tmpfs has no source",
            });
        }
    } else if draft.kind == VolumeKind::Bind && at.get("source").is_none() {
        at.error("a bind has no 'source'");
    }
    Some(Volume {
        kind: draft.kind,
        source: draft.source,
        target: draft.target?,
        read_only: draft.read_only,
        options: draft.options,
        mark: at.node.mark,
        normal: as_is(at.node),
    })
}

/// Sockets by which other container engines are commanded.
const ENGINES: [&str; 4] = ["docker.sock", "containerd.sock", "podman.sock", "crio.sock"];

/// Whether a source is a name or a path; an error when it is neither or not on a node.
fn judge_source(at: &At<'_>, source: &str) -> Option<VolumeKind> {
    let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if ENGINES.iter().any(|socket| source.ends_with(socket)) {
        at.error_with_hint(
            format!("'{source}' is the socket of another container engine, and there is none on a node"),
            "remove it; the node itself is asked through its API",
        );
    } else if source.starts_with('/') {
        if source.split('/').all(|part| part != "..") {
            return Some(VolumeKind::Bind);
        }
        at.error(format!("'{source}' must be an absolute path without '..'"));
    } else if source.starts_with(['.', '~']) || source.contains('/') {
        at.error_with_hint(
            format!("'{source}' is a path beside the compose file, and there is none on a node"),
            "use a named volume, or an absolute path and 'write_files'",
        );
    } else if source.starts_with(|c: char| c.is_ascii_alphanumeric()) && source.chars().all(word) {
        return Some(VolumeKind::Volume);
    } else {
        at.error(format!("'{source}' is not the name of a volume"));
    }
    None
}

pub(super) fn container_path(at: &At<'_>, path: &str) -> Option<String> {
    if path.starts_with('/') && path.split('/').all(|part| part != "..") {
        return Some(normal_path(path));
    }
    at.error(format!("'{path}' must be an absolute path in the container, without '..'"));
    None
}

/// Without slashes that say nothing.
fn normal_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    format!("/{}", parts.join("/"))
}
