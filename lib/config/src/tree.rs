//! YAML as a tree whose every node knows its place in the file and whose scalars keep the text they were written as.
//!
//! A tree and not typed structs, because one pass over it finds all problems instead of the first, and because merging
//! (of several parts) works on trees. `serde-saphyr` parses, resolves aliases and merge keys, and enforces the limits.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{DefaultMessageFormatter, Error, Location, MessageFormatter, Options, Spanned};

use crate::problem::{Mark, Report, Severity};

/// Limits against hostile input: how deep, how many nodes after aliases are resolved, how many aliases.
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 50_000;
const MAX_ALIASES: usize = 256;

/// A value and where it is used (an alias: where the alias stands).
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) mark: Mark,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) mark: Mark,
}

/// Parses one YAML document. `None`, with a problem, when it is not YAML or breaks a limit.
pub(crate) fn parse(text: &str, report: &Report) -> Option<Node> {
    let parse =
        || serde_saphyr::from_str_with_options::<Raw>(text, options()).map_err(|error| explain(&error));
    // Nesting costs stack: 4 KiB a level when optimized, 45 KiB when not. A stack of its own makes the depth that is
    // allowed independent of who calls.
    let parsed = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, parse);
        thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(parse)
    });
    match parsed {
        Ok(raw) => Some(Builder { text, report }.node(raw)),
        Err((mark, message, hint)) => {
            report.add(Severity::Error, mark, "", message, hint.map(str::to_owned));
            None
        }
    }
}

fn options() -> Options {
    let mut options = Options::default();
    if let Some(budget) = &mut options.budget {
        budget.max_depth = MAX_DEPTH;
        budget.flow_nesting_limit = MAX_DEPTH;
        budget.max_nodes = MAX_NODES;
        budget.max_events = 4 * MAX_NODES;
        budget.max_aliases = MAX_ALIASES;
        budget.max_anchors = MAX_ALIASES;
        budget.max_merge_keys = MAX_ALIASES;
    }
    options.alias_limits.max_total_replayed_events = 2 * MAX_NODES;
    // Duplicates are found below, all of them and with the place of the first.
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.non_finite_float_policy = NonFiniteFloatPolicy::PassThrough;
    options.ignore_binary_tag_for_string = true;
    options.with_snippet = false;
    options
}

fn explain(error: &Error) -> (Option<Mark>, String, Option<&'static str>) {
    let (message, hint) = match error {
        Error::MultipleDocuments { .. } => {
            ("holds more than one YAML document".to_owned(), Some("remove the line '---'"))
        }
        Error::Budget { .. } => (
            format!(
                "the YAML is too large: at most {MAX_DEPTH} levels, {MAX_NODES} values and {MAX_ALIASES} aliases"
            ),
            None,
        ),
        other => (format!("not valid YAML: {}", DefaultMessageFormatter.format_message(other)), None),
    };
    (error.location().map(|location| mark(location, 1)), message, hint)
}

fn mark(location: Location, width: usize) -> Mark {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Mark { line: number(location.line()), column: number(location.column()), width: number(width as u64) }
}

/// The tree as the parser gives it.
struct Raw(Spanned<Kind>);

enum Kind {
    Null,
    /// A scalar that reads as text.
    Text(String),
    /// A scalar that reads as number or truth value: its text is in the source.
    Typed,
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Kind, E> {
        Ok(Kind::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Kind, E> {
        Ok(Kind::Typed)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Kind, E> {
        Ok(Kind::Typed)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Kind, E> {
        Ok(Kind::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::Typed)
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Kind, E> {
        Ok(Kind::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Kind::Map(map))
    }
}

struct Builder<'a> {
    text: &'a str,
    report: &'a Report,
}

impl Builder<'_> {
    fn node(&self, raw: Raw) -> Node {
        let Spanned { value, referenced, defined } = raw.0;
        let written = self.written(&defined);
        let width = written.lines().next().unwrap_or_default().trim_end().chars().count().max(1);
        let value = match value {
            Kind::Null => Value::Null,
            Kind::Text(text) => Value::Scalar(text),
            Kind::Typed => Value::Scalar(written.trim().to_owned()),
            Kind::List(items) => Value::List(items.into_iter().map(|item| self.node(item)).collect()),
            Kind::Map(entries) => Value::Map(self.entries(entries)),
        };
        let width = if matches!(value, Value::List(_) | Value::Map(_)) { 1 } else { width };
        Node { value, mark: mark(referenced, width) }
    }

    fn entries(&self, entries: Vec<(Raw, Raw)>) -> Vec<(Key, Node)> {
        let mut first = HashMap::new();
        let mut map: Vec<(Key, Node)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.node(key);
            let text = match key.value {
                Value::Scalar(text) => text,
                Value::Null => "null".to_owned(),
                Value::List(_) | Value::Map(_) => {
                    self.report.error(Some(key.mark), "", "a list or map cannot be a key");
                    continue;
                }
            };
            match first.insert(text.clone(), key.mark.line) {
                None => map.push((Key { text, mark: key.mark }, self.node(value))),
                Some(line) => {
                    let message = format!("the key '{text}' is given twice: first on line {line}");
                    self.report.error(Some(key.mark), &text, message);
                }
            }
        }
        map
    }

    /// What stands in the source at `location`.
    fn written(&self, location: &Location) -> &str {
        let span = location.span();
        let range = span.byte_offset().zip(span.byte_len()).and_then(|(offset, length)| {
            let start = usize::try_from(offset).ok()?;
            Some(start..start.checked_add(usize::try_from(length).ok()?)?)
        });
        range.and_then(|range| self.text.get(range)).unwrap_or_default()
    }
}
