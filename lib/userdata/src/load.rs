//! From bytes to parts to one tree: unpack, split, and merge what is `#cloud-config`.
//!
//! Addresses of `#include` are given to the caller, who fetches and gives the bytes back: there is no I/O here.

use std::borrow::Cow;
use std::sync::Arc;

use crate::apart::Piece;
use crate::format::{self, MAX_SIZE};
use crate::merge::{MergeError, Mergers};
use crate::mime::Headers;
use crate::problem::{Mark, Report, Severity, SourceId};
use crate::tree::{Key, Node, Value};
use crate::yaml::{self, Budget, Duplicates, Place};

/// How many parts user-data may have, included ones too.
pub const MAX_PARTS: usize = 256;

/// Who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The user: what cannot be done is refused.
    User,
    /// The platform (vendor-data): what cannot be done is reported.
    Vendor,
}

/// An address whose content belongs into the user-data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// `http` or `https`.
    pub url: String,
    /// Fetched once per instance, not at every boot (`#include-once`).
    pub once: bool,
    /// Where it is written.
    pub mark: Mark,
    pub(crate) nesting: u8,
    pub(crate) label: String,
}

/// Takes user-data apart and puts it together as one tree.
#[derive(Debug)]
pub struct Load<'r> {
    pub(crate) report: &'r Report,
    role: Role,
    launch_index: Option<i64>,
    items: Vec<Item>,
    pub(crate) parts: usize,
    pub(crate) bytes_left: usize,
    pub(crate) budget: Budget,
}

#[derive(Debug)]
pub(crate) enum Item {
    Config(Config),
    Refused { mark: Mark, label: String, what: String, advice: Option<&'static str> },
    Include(Include),
}

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) text: Arc<str>,
    pub(crate) place: Place,
    pub(crate) label: String,
    pub(crate) merge_type: Option<String>,
    pub(crate) launch_index: Option<i64>,
}

impl<'r> Load<'r> {
    /// Starts with nothing. `launch_index` is the instance's number among those that were started together; parts for
    /// other numbers are left out when it is known.
    pub fn new(report: &'r Report, role: Role, launch_index: Option<i64>) -> Self {
        Self {
            report,
            role,
            launch_index,
            items: Vec::new(),
            parts: 0,
            bytes_left: MAX_SIZE,
            budget: Budget::default(),
        }
    }

    /// Takes `bytes` apart. `source` stands for the whole in problems.
    pub fn add(&mut self, source: SourceId, bytes: &[u8]) {
        if bytes.len() > MAX_SIZE {
            let message = format!("user-data is larger than {} MiB", MAX_SIZE >> 20);
            self.report.add_to(source, Severity::Error, None, "", message, None);
            return;
        }
        let piece = Piece {
            bytes: Cow::Borrowed(bytes),
            place: Some(Place { source, line: 1 }),
            mark: Mark { source, line: 1, column: 1, width: 1 },
            label: String::new(),
            headers: Headers::default(),
            nesting: 0,
            whole: true,
        };
        let items = self.take_apart(piece);
        self.items.extend(items);
    }

    /// The addresses that are still to be fetched.
    pub fn includes(&self) -> impl Iterator<Item = &Include> {
        self.items.iter().filter_map(|item| match item {
            Item::Include(include) => Some(include),
            _ => None,
        })
    }

    /// Gives the content of the first of [`Self::includes`], which may name more of them, or why there is none.
    pub fn resolve(&mut self, content: Result<&[u8], &str>) {
        let Some(at) = self.items.iter().position(|item| matches!(item, Item::Include(_))) else { return };
        let Item::Include(include) = self.items.remove(at) else { return };
        let items = match content {
            Ok(bytes) if bytes.len() > self.bytes_left => {
                self.broken(include.mark, &include.label, &format::too_large());
                Vec::new()
            }
            Ok(bytes) => {
                self.bytes_left -= bytes.len();
                let source = self.report.source(&include.url, Arc::from(""));
                self.take_apart(Piece {
                    bytes: Cow::Borrowed(bytes),
                    place: Some(Place { source, line: 1 }),
                    mark: Mark { source, line: 1, column: 1, width: 1 },
                    label: include.url,
                    headers: Headers::default(),
                    nesting: include.nesting + 1,
                    whole: true,
                })
            }
            Err(reason) => {
                let message = format!("{} cannot be included: {reason}", include.url);
                self.report.add(self.severity(), Some(include.mark), "", message, None);
                Vec::new()
            }
        };
        self.items.splice(at..at, items);
    }

    /// Merges the parts. Addresses that were not fetched are left out, with a warning each. The tree is there also when
    /// the report has errors, as far as it could be made.
    pub fn merge(mut self) -> Node {
        let has_config = self.items.iter().any(|item| !matches!(item, Item::Refused { .. }));
        let mut merged: Option<Node> = None;
        for item in std::mem::take(&mut self.items) {
            match item {
                Item::Refused { mark, label, what, advice } => {
                    self.refuse(has_config, mark, &label, &what, advice)
                }
                Item::Include(include) => {
                    let message = format!("{} is not fetched here, and not judged", include.url);
                    self.report.add(Severity::Warning, Some(include.mark), "", message, None);
                }
                Item::Config(config) => {
                    let old = merged.take().unwrap_or_else(|| Node::empty_map(config.mark()));
                    merged = Some(self.merge_config(old, config));
                }
            }
        }
        merged.unwrap_or_else(|| Node::empty_map(Mark { line: 1, column: 1, ..Mark::default() }))
    }

    pub(crate) fn severity(&self) -> Severity {
        if self.role == Role::User { Severity::Error } else { Severity::Warning }
    }

    pub(crate) fn broken(&self, mark: Mark, label: &str, what: &str) {
        let label = if label.is_empty() { "user-data" } else { label };
        self.report.add(self.severity(), Some(mark), "", format!("{label} {what}"), None);
    }

    fn refuse(&self, has_config: bool, mark: Mark, label: &str, what: &str, advice: Option<&str>) {
        let severity =
            if has_config || self.role == Role::Vendor { Severity::NotApplicable } else { Severity::Error };
        let (label, end) = match (label.is_empty(), severity) {
            (true, Severity::Error) => ("user-data", "which cannot be used"),
            (true, _) => ("it", "which is not applicable on a node"),
            (false, _) => (label, "which is not applicable on a node"),
        };
        self.report.add(
            severity,
            Some(mark),
            "",
            format!("{label} is {what}, {end}"),
            advice.map(str::to_owned),
        );
    }

    fn merge_config(&mut self, old: Node, config: Config) -> Node {
        let mark = config.mark();
        let Some(node) =
            yaml::parse(&config.text, config.place, Duplicates::Refuse, &mut self.budget, self.report)
        else {
            return old;
        };
        let Value::Map(entries) = node.value else {
            if matches!(node.value, Value::Null) {
                let label = if config.label.is_empty() { "user-data" } else { &config.label };
                let hint = config.label.is_empty().then(|| "begin it with a line '#cloud-config'".to_owned());
                self.report.add(Severity::Warning, Some(mark), "", format!("{label} is empty"), hint);
            } else {
                self.broken(
                    node.mark,
                    &config.label,
                    &format!("must be a map of keys and values, not {}", node.kind()),
                );
            }
            return old;
        };
        let (rules, entries): (Vec<_>, Vec<_>) =
            Arc::unwrap_or_clone(entries).into_iter().partition(|(key, _)| is_merge_rule(key));
        let index = config.launch_index.or_else(|| launch_index(&entries));
        if index.zip(self.launch_index).is_some_and(|(part, ours)| part != ours) {
            return old;
        }
        let rule =
            |name| rules.iter().find(|(key, node)| &*key.text == name && !matches!(node.value, Value::Null));
        let rule = rule("merge_how").or_else(|| rule("merge_type")).map(|(_, node)| node);
        let new = Node { value: Value::Map(Arc::new(entries)), mark: node.mark };
        // Merging takes the old tree apart; when it fails nothing is applied anyway.
        match Mergers::new(rule, config.merge_type.as_deref())
            .and_then(|mergers| mergers.merge(old.clone(), new))
        {
            Ok(merged) => merged,
            Err(MergeError { mark: at, message }) => {
                let label =
                    if config.label.is_empty() { String::new() } else { format!("{}: ", config.label) };
                let message = format!("{label}{message}");
                self.report.add(self.severity(), Some(at.unwrap_or(mark)), "merge_how", message, None);
                old
            }
        }
    }
}

impl Config {
    fn mark(&self) -> Mark {
        Mark { source: self.place.source, line: self.place.line, column: 1, width: 1 }
    }
}

fn is_merge_rule(key: &Key) -> bool {
    matches!(&*key.text, "merge_how" | "merge_type")
}

fn launch_index(entries: &[(Key, Node)]) -> Option<i64> {
    entries
        .iter()
        .find(|(key, _)| &*key.text == "launch-index")
        .and_then(|(_, node)| node.text()?.parse().ok())
}
