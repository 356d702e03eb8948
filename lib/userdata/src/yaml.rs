//! One YAML document as a tree, within limits. Nothing here recurses: hostile input nests as deep as it likes.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::problem::{Mark, Report, Severity, SourceId};
use crate::tree::{Key, Kind, Node, Scalar, Value};

/// How deep lists and maps may nest.
pub const MAX_DEPTH: usize = 64;
/// How many values a configuration may have, all its parts together, after aliases are resolved.
pub const MAX_NODES: usize = 50_000;
/// How many aliases (`*name`) a configuration may have.
pub const MAX_ALIASES: usize = 256;

/// What is left of the limits that all parts of a configuration share.
#[derive(Clone, Debug)]
pub struct Budget {
    nodes: usize,
    aliases: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { nodes: MAX_NODES, aliases: MAX_ALIASES }
    }
}

/// What a key means that occurs twice in one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// An error.
    Refuse,
    /// A warning, and the last one counts: for files that a platform writes and the user cannot mend.
    LastWins,
}

/// Where a text stands: `line` is the line of its source that its first line is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The source.
    pub source: SourceId,
    /// The first line, from 1.
    pub line: u32,
}

/// Parses one YAML document. `None`, with an error in the report, when it is not YAML or breaks a limit; keys that
/// occur twice are reported and parsing goes on. An empty document is [`Value::Null`].
pub fn parse(
    text: &str,
    place: Place,
    duplicates: Duplicates,
    budget: &mut Budget,
    report: &Report,
) -> Option<Node> {
    let mut builder =
        Builder { place, duplicates, budget, report, open: Vec::new(), anchors: HashMap::new() };
    match builder.document(text) {
        Ok(root) => Some(root),
        Err(Stop { mark, message, hint }) => {
            report.add(Severity::Error, Some(mark), "", message, hint.map(str::to_owned));
            None
        }
    }
}

/// Why parsing cannot go on.
struct Stop {
    mark: Mark,
    message: String,
    hint: Option<&'static str>,
}

/// A list or map whose end is not reached.
struct Open {
    mark: Mark,
    anchor: usize,
    /// The nodes below it so far, and how deep the deepest is below it.
    nodes: usize,
    depth: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<(Key, Node)>,
    /// Where in `entries` each key is.
    index: HashMap<Arc<str>, usize>,
    /// The key whose value comes next.
    key: Option<PendingKey>,
    /// The maps that `<<` brings in.
    merged: Vec<Node>,
}

enum PendingKey {
    Key(Key),
    Merge(Mark),
}

#[derive(Clone)]
struct Anchor {
    node: Node,
    nodes: usize,
    depth: usize,
}

struct Builder<'a> {
    place: Place,
    duplicates: Duplicates,
    budget: &'a mut Budget,
    report: &'a Report,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchor>,
}

impl Builder<'_> {
    fn document(&mut self, text: &str) -> Result<Node, Stop> {
        let options = granit_parser::options! {
            emit_comments: false,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
            // As libyaml does it, which cloud-init and compose read with.
            block_scalar_eof_without_line_feed: true,
        };
        let mut root = None;
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| self.explain(&error))?;
            let mark = self.mark(&span);
            let done = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let value = self.scalar(&text, style, tag.as_deref(), mark)?;
                    self.count(1, mark)?;
                    self.value(Node { value, mark }, anchor, 1, 0)?
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.begin(mark, anchor, tag.as_deref(), "seq", OpenKind::List(Vec::new()))?;
                    None
                }
                Event::MappingStart(_, anchor, tag) => {
                    self.begin(mark, anchor, tag.as_deref(), "map", OpenKind::Map(OpenMap::default()))?;
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => self.end()?,
                Event::Alias(id) => self.alias(id, mark)?,
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(stop(
                        mark,
                        "there is more than one YAML document",
                        Some("remove the line '---'"),
                    ));
                }
                _ => None,
            };
            root = done.or(root);
        }
        let start = Mark { source: self.place.source, line: self.place.line, column: 1, width: 0 };
        Ok(root.unwrap_or(Node { value: Value::Null, mark: start }))
    }

    fn mark(&self, span: &Span) -> Mark {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (start, end) = (&span.start, &span.end);
        let width = if start.line() == end.line() { end.col().saturating_sub(start.col()).max(1) } else { 1 };
        Mark {
            source: self.place.source,
            line: number(start.line()).saturating_add(self.place.line).saturating_sub(1),
            column: number(start.col()).saturating_add(1),
            width: number(width),
        }
    }

    fn explain(&self, error: &ScanError) -> Stop {
        let at = *error.marker();
        let mark = self.mark(&Span::new(at, at));
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => too_deep(mark),
            ErrorKind::UnknownAnchor => {
                stop(mark, "not valid YAML: this alias has no anchor before it", None)
            }
            _ => stop(mark, &format!("not valid YAML: {}", error.info()), None),
        }
    }

    fn count(&mut self, nodes: usize, mark: Mark) -> Result<(), Stop> {
        let left = self.budget.nodes.checked_sub(nodes);
        self.budget.nodes = left.ok_or_else(|| {
            stop(mark, &format!("the configuration is too large: it has more than {MAX_NODES} values"), None)
        })?;
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, mark: Mark) -> Result<Value, Stop> {
        let plain = style == ScalarStyle::Plain;
        let kind = match tag.map(Tag::parts) {
            None if plain && Scalar::is_null(text) => return Ok(Value::Null),
            None if plain => Scalar::kind_of(text),
            None | Some(("!", "") | ("", "!")) => Kind::Text,
            Some((CORE, suffix)) => {
                let as_plain = Scalar::kind_of(text);
                match suffix {
                    "str" => Kind::Text,
                    "binary" => Kind::Binary,
                    "null" if Scalar::is_null(text) => return Ok(Value::Null),
                    "bool" if as_plain == Kind::Bool => Kind::Bool,
                    "int" if as_plain == Kind::Int => Kind::Int,
                    "float" if matches!(as_plain, Kind::Int | Kind::Float) => Kind::Float,
                    _ => return Err(bad_tag(tag, mark)),
                }
            }
            Some(_) => return Err(bad_tag(tag, mark)),
        };
        Ok(Value::Scalar(Scalar { text: text.into(), kind }))
    }

    fn begin(
        &mut self,
        mark: Mark,
        anchor: usize,
        tag: Option<&Tag>,
        core: &str,
        kind: OpenKind,
    ) -> Result<(), Stop> {
        if tag.is_some_and(|tag| {
            tag.parts() != (CORE, core) && tag.parts() != ("!", "") && tag.parts() != ("", "!")
        }) {
            return Err(bad_tag(tag, mark));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(too_deep(mark));
        }
        self.count(1, mark)?;
        if let Some(Open { kind: OpenKind::Map(OpenMap { key: None, .. }), .. }) = self.open.last() {
            return Err(stop(mark, "a list or map cannot be a key", None));
        }
        self.open.push(Open { mark: Mark { width: 1, ..mark }, anchor, nodes: 1, depth: 0, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<Option<Node>, Stop> {
        let Some(Open { mark, anchor, nodes, depth, kind }) = self.open.pop() else { return Ok(None) };
        let value = match kind {
            OpenKind::List(items) => Value::List(Arc::new(items)),
            OpenKind::Map(map) => Value::Map(Arc::new(map.finish())),
        };
        self.value(Node { value, mark }, anchor, nodes, depth + 1)
    }

    fn alias(&mut self, id: usize, mark: Mark) -> Result<Option<Node>, Stop> {
        let left = self.budget.aliases.checked_sub(1);
        self.budget.aliases =
            left.ok_or_else(|| stop(mark, &format!("more than {MAX_ALIASES} aliases"), None))?;
        let Some(anchor) = self.anchors.get(&id).cloned() else {
            return Err(stop(mark, "this alias stands inside of what it names", None));
        };
        self.count(anchor.nodes, mark)?;
        if self.open.len() + anchor.depth > MAX_DEPTH {
            return Err(too_deep(mark));
        }
        self.value(Node { mark, ..anchor.node }, 0, anchor.nodes, anchor.depth)
    }

    /// Puts a whole value where it belongs; gives it back when it is the document.
    fn value(&mut self, node: Node, anchor: usize, nodes: usize, depth: usize) -> Result<Option<Node>, Stop> {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor { node: node.clone(), nodes, depth });
        }
        let path = self.path();
        let Some(parent) = self.open.last_mut() else { return Ok(Some(node)) };
        parent.nodes += nodes;
        parent.depth = parent.depth.max(depth);
        match &mut parent.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map(map) => match map.key.take() {
                None => map.key = Some(key(node)?),
                Some(PendingKey::Merge(mark)) => map.merged.extend(merge_key(node, mark)?),
                Some(PendingKey::Key(key)) => {
                    let before = map.index.get(&key.text).copied();
                    match before.and_then(|at| map.entries.get_mut(at)) {
                        None => {
                            map.index.insert(Arc::clone(&key.text), map.entries.len());
                            map.entries.push((key, node));
                        }
                        Some(entry) => {
                            let message = format!(
                                "the key '{}' is given twice: first on line {}",
                                key.text, entry.0.mark.line
                            );
                            let severity = match self.duplicates {
                                Duplicates::Refuse => Severity::Error,
                                Duplicates::LastWins => Severity::Warning,
                            };
                            let path = path
                                .map_or_else(|| key.text.to_string(), |path| format!("{path}.{}", key.text));
                            self.report.add(severity, Some(key.mark), &path, message, None);
                            *entry = (key, node);
                        }
                    }
                }
            },
        }
        Ok(None)
    }

    /// The path of the innermost open list or map, only made when it is worth the time: when a duplicate may follow.
    fn path(&self) -> Option<String> {
        let map = match self.open.last() {
            Some(Open { kind: OpenKind::Map(map), .. }) => map,
            _ => return None,
        };
        let Some(PendingKey::Key(key)) = &map.key else { return None };
        if self.report.is_full() || !map.index.contains_key(&key.text) {
            return None;
        }
        let mut path = String::new();
        for open in self.open.iter().rev().skip(1).rev() {
            match &open.kind {
                OpenKind::List(items) => path.push_str(&format!("[{}]", items.len())),
                OpenKind::Map(OpenMap { key: Some(PendingKey::Key(key)), .. }) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key.text);
                }
                OpenKind::Map(_) => {}
            }
        }
        (!path.is_empty()).then_some(path)
    }
}

impl OpenMap {
    /// The entries: what `<<` brings in counts where the map itself and the maps before say nothing.
    fn finish(mut self) -> Vec<(Key, Node)> {
        for node in self.merged {
            let Value::Map(entries) = node.value else { continue };
            for (key, value) in entries.iter() {
                if !self.index.contains_key(&key.text) {
                    self.index.insert(Arc::clone(&key.text), self.entries.len());
                    self.entries.push((key.clone(), value.clone()));
                }
            }
        }
        self.entries
    }
}

const CORE: &str = "tag:yaml.org,2002:";

fn key(node: Node) -> Result<PendingKey, Stop> {
    match node.value {
        Value::Scalar(scalar) if &*scalar.text == "<<" => Ok(PendingKey::Merge(node.mark)),
        Value::Scalar(scalar) => Ok(PendingKey::Key(Key { text: scalar.text, mark: node.mark })),
        Value::Null => Ok(PendingKey::Key(Key { text: Arc::from("null"), mark: node.mark })),
        Value::List(_) | Value::Map(_) => Err(stop(node.mark, "a list or map cannot be a key", None)),
    }
}

fn merge_key(node: Node, mark: Mark) -> Result<Vec<Node>, Stop> {
    let wrong = || stop(mark, "'<<' takes a map or a list of maps", Some("as in '<<: *name'"));
    match node.value {
        Value::Map(_) => Ok(vec![node]),
        Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
            Ok(items.to_vec())
        }
        _ => Err(wrong()),
    }
}

fn stop(mark: Mark, message: &str, hint: Option<&'static str>) -> Stop {
    Stop { mark, message: message.to_owned(), hint }
}

fn too_deep(mark: Mark) -> Stop {
    stop(mark, &format!("lists and maps nest deeper than {MAX_DEPTH} levels"), None)
}

fn bad_tag(tag: Option<&Tag>, mark: Mark) -> Stop {
    let name = tag.map(Tag::original).unwrap_or_default();
    stop(mark, &format!("the tag '{name}' does not fit here"), Some("leave it out"))
}
