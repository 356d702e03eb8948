//! `volumes` of a service: named ones, directories of the node, memory.

use serde_json::{Value as Json, json};
use userdata::{At, KeySpec as Key, Mark, Use};

use super::values::json as as_is;
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
    /// Where it stands.
    pub mark: Mark,
    normal: Json,
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
    let read_only = options.split(',').any(|option| option == "ro");
    Some(Volume { kind, source, target, read_only, mark: at.node.mark, normal: json!(normal) })
}

#[derive(Default)]
struct Draft {
    kind: VolumeKind,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
}

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
        options("bind"),
        options("volume"),
        options("tmpfs"),
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
