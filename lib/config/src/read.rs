//! Reading a tree by tables: what each key of a section is, and how its value is taken.

use std::path::PathBuf;
use std::time::Duration;

use crate::desired::Located;
use crate::problem::{Mark, Report, Severity};
use crate::tree::{Key as Name, Node, Value};

/// One key of a section that is read into `T`.
#[derive(Debug)]
pub(crate) struct Key<T: 'static> {
    pub(crate) name: &'static str,
    pub(crate) use_: Use<T>,
    /// What it means, for the reference; for a refused key: why, and what to do.
    pub(crate) doc: &'static str,
}

/// What is done with a key.
#[derive(Debug)]
pub(crate) enum Use<T: 'static> {
    /// It is read.
    Read(fn(&At<'_>, &mut T)),
    /// It asks for what a node does not have; quiet when it asks for nothing.
    NotApplicable,
    /// It is known and not done by this version: a warning.
    Unsupported,
    /// It is known and would change what runs, so a file that has it is refused.
    Refused,
    /// It has no bearing on a node, or asks for what is so anyway.
    Quiet,
}

/// A value, its key path and where problems go.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: String,
    pub(crate) report: &'a Report,
}

impl<'a> At<'a> {
    pub(crate) fn new(node: &'a Node, path: &str, report: &'a Report) -> Self {
        Self { node, path: path.to_owned(), report }
    }

    pub(crate) fn error(&self, message: impl Into<String>) {
        self.report.error(Some(self.node.mark), &self.path, message);
    }

    pub(crate) fn error_with_hint(&self, message: impl Into<String>, hint: &str) {
        self.add(Severity::Error, self.node.mark, message.into(), hint);
    }

    pub(crate) fn warn(&self, message: impl Into<String>) {
        self.add(Severity::Warning, self.node.mark, message.into(), "");
    }

    fn add(&self, severity: Severity, mark: Mark, message: String, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.report.add(severity, Some(mark), &self.path, message, hint);
    }

    fn child(&self, node: &'a Node, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        At { node, path, report: self.report }
    }

    /// The entries of a map, each key with its place.
    pub(crate) fn map(&self) -> Option<Vec<(&'a str, Mark, At<'a>)>> {
        let Value::Map(entries) = &self.node.value else {
            self.error(format!("must be a map of keys and values, not {}", self.kind()));
            return None;
        };
        let entry =
            |(key, node): &'a (Name, Node)| (key.text.as_str(), key.mark, self.child(node, &key.text));
        Some(entries.iter().map(entry).collect())
    }

    /// The value of one key of a map.
    pub(crate) fn get(&self, key: &str) -> Option<At<'a>> {
        let Value::Map(entries) = &self.node.value else { return None };
        entries.iter().find(|(name, _)| name.text == key).map(|(_, node)| self.child(node, key))
    }

    /// The items of a list.
    pub(crate) fn list(&self) -> Option<Vec<At<'a>>> {
        let Value::List(items) = &self.node.value else {
            self.error(format!("must be a list, not {}", self.kind()));
            return None;
        };
        let item = |(index, node)| At { node, path: format!("{}[{index}]", self.path), report: self.report };
        Some(items.iter().enumerate().map(item).collect())
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// A scalar's text as it is written, so that `0644` and `yes` are not turned into something else.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(text) if text.contains('\0') => self.error("must not hold a NUL character"),
            Value::Scalar(text) => return Some(text),
            _ => self.error(format!("must be text, not {}", self.kind())),
        }
        None
    }

    /// Text with its place, for those who judge it later.
    pub(crate) fn located_text(&self) -> Option<Located<String>> {
        self.text().map(|text| Located { value: text.to_owned(), mark: self.node.mark })
    }

    pub(crate) fn texts(&self) -> Option<Vec<String>> {
        self.list()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// A truth value by YAML 1.1, which cloud-init and compose files are written for.
    pub(crate) fn truth(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => {
                self.error("must be true or false");
                None
            }
        }
    }

    /// A duration as compose writes it: `1m30s`, `500ms`.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let text = self.text()?;
        let duration = parse_duration(text);
        if duration.is_none() {
            self.error_with_hint(
                format!("'{text}' is not a duration"),
                "numbers with units us, ms, s, m or h: 10s, 1m30s",
            );
        }
        duration
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.error(format!("'{text}' is not supported: it must be {}", alternatives(&known)));
        }
        found
    }

    /// An absolute path without `..`.
    pub(crate) fn absolute_path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.starts_with('/') && text.split('/').all(|part| part != "..") {
            return Some(text.into());
        }
        self.error(format!("'{text}' must be an absolute path without '..'"));
        None
    }

    /// Reads a map by its table. A key without a value counts as absent (but must be known); `x-*` is the user's own.
    pub(crate) fn section<T>(&self, what: &str, table: &[Key<T>], into: &mut T) {
        for (name, mark, value) in self.map().unwrap_or_default() {
            if name.starts_with("x-") {
                continue;
            }
            let Some(key) = table.iter().find(|key| key.name == name) else {
                // Looking for a near name costs more than all the rest, so only where it will be read.
                let near = (!self.report.is_full()).then(|| nearest(name, table.iter().map(|key| key.name)));
                let near = near.flatten();
                let hint = near.map_or_else(String::new, |near| format!("did you mean '{near}'?"));
                value.add(Severity::Error, mark, format!("'{name}' is not a key of {what}"), &hint);
                continue;
            };
            match key.use_ {
                _ if value.is_null() => {}
                Use::Read(read) => read(&value, into),
                Use::Quiet => {}
                Use::NotApplicable | Use::Unsupported if value.asks_for_nothing() => {}
                Use::NotApplicable => {
                    let message = format!("'{name}' is not applicable on a node");
                    value.add(Severity::NotApplicable, mark, message, key.doc);
                }
                Use::Unsupported => {
                    let message = format!("'{name}' is not supported by this version and is left out");
                    value.add(Severity::Warning, mark, message, key.doc);
                }
                Use::Refused => {
                    let message = format!("'{name}' is not supported by this version");
                    value.add(Severity::Error, mark, message, key.doc);
                }
            }
        }
    }

    /// Whether a value is false, empty, or nothing.
    fn asks_for_nothing(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::Scalar(text) => {
                matches!(text.to_ascii_lowercase().as_str(), "false" | "no" | "off" | "n" | "")
            }
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    fn kind(&self) -> &'static str {
        match self.node.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// `'a', 'b' or 'c'`.
pub(crate) fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("'{one}'"),
        [first @ .., last] => format!("'{}' or '{last}'", first.join("', '")),
    }
}

/// The word nearest to `name` when it is near enough to be meant.
pub(crate) fn nearest<'w>(name: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    // Longer texts are no slip of the finger, and the distance costs the product of the lengths.
    let name: Vec<char> = name.chars().take(41).flat_map(char::to_lowercase).collect();
    if name.len() > 40 {
        return None;
    }
    let near = words.map(|word| (distance(&name, word), word)).min()?;
    (near.0 <= 1 + name.len() / 5).then_some(near.1)
}

/// Levenshtein's distance, with neighbours exchanged counted as one step.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().map(|c| if c == '-' { '_' } else { c }).collect();
    let a: Vec<char> = a.iter().map(|c| if *c == '-' { '_' } else { *c }).collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
    let mut rest = text;
    let mut micros = 0_u64;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let factor = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        micros = micros.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_composes() {
        for (text, millis) in
            [("10s", Some(10_000)), ("1m30s", Some(90_000)), ("500ms", Some(500)), ("0s", Some(0))]
        {
            assert_eq!(parse_duration(text).map(|d| d.as_millis()), millis, "{text}");
        }
        for text in ["", "10", "s", "10x", "-1s", "1 s", "1.5s", "99999999999999h", "1m30"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_slip_finds_its_word() {
        let words = ["services", "hostname", "network_mode", "image"];
        for (slip, word) in [
            ("servcies", Some("services")),
            ("host-name", Some("hostname")),
            ("network-mode", Some("network_mode")),
            ("imgae", Some("image")),
            ("packages", None),
            ("", None),
        ] {
            assert_eq!(nearest(slip, words.into_iter()), word, "{slip}");
        }
    }
}
