//! Reading a tree by tables: what each key of a section is, and how its value is taken.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::problem::{Mark, Report, Severity};
use crate::tree::{Key, Kind, Node, Scalar, Value};
use crate::watch::{Asked, Fate, Known};

/// A value and where it was given, for problems that are found later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub mark: Mark,
}

/// One key of a section that is read into `T`.
#[derive(Debug)]
pub struct KeySpec<T: 'static> {
    /// The key.
    pub name: &'static str,
    /// What is done with it.
    pub use_: Use<T>,
    /// What it means, for the reference; for a refused key: why, and what to do.
    pub doc: &'static str,
}

/// What is done with a key.
#[derive(Debug)]
pub enum Use<T: 'static> {
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

impl<T> KeySpec<T> {
    fn known(&self) -> Known {
        let fate = match self.use_ {
            Use::Read(_) => Fate::Read,
            Use::NotApplicable => Fate::NotApplicable,
            Use::Unsupported => Fate::Unsupported,
            Use::Refused => Fate::Refused,
            Use::Quiet => Fate::Quiet,
        };
        Known { name: self.name.to_owned(), doc: self.doc, fate }
    }
}

/// A value, its key path and where problems go.
#[derive(Clone, Debug)]
pub struct At<'a> {
    /// The value.
    pub node: &'a Node,
    /// Where problems go.
    pub report: &'a Report,
    path: Option<Rc<Step>>,
}

/// The last step of a path. Paths are only spelled out for problems: a hostile file has long keys and many values.
#[derive(Debug)]
struct Step {
    parent: Option<Rc<Step>>,
    last: Last,
}

#[derive(Debug)]
enum Last {
    Key(Arc<str>),
    Index(usize),
}

impl<'a> At<'a> {
    /// The root of a tree.
    pub fn root(node: &'a Node, report: &'a Report) -> Self {
        Self { node, report, path: None }
    }

    /// The same place in another tree, for values that were rewritten.
    pub fn with_node<'b>(&self, node: &'b Node) -> At<'b>
    where
        'a: 'b,
    {
        At { node, report: self.report, path: self.path.clone() }
    }

    /// The path of keys: `services.web.ports[0]`.
    pub fn path(&self) -> String {
        let mut steps = Vec::new();
        let mut step = self.path.as_ref();
        while let Some(this) = step {
            steps.push(&this.last);
            step = this.parent.as_ref();
        }
        let mut path = String::new();
        for step in steps.into_iter().rev() {
            match step {
                Last::Index(index) => path.push_str(&format!("[{index}]")),
                Last::Key(key) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                }
            }
        }
        path
    }

    /// The key that this is the value of.
    pub fn key(&self) -> &str {
        match self.path.as_ref().map(|step| &step.last) {
            Some(Last::Key(key)) => key,
            _ => "",
        }
    }

    /// An error here.
    pub fn error(&self, message: impl Into<String>) {
        self.add(Severity::Error, self.node.mark, message, "");
    }

    /// An error here, with advice.
    pub fn error_with_hint(&self, message: impl Into<String>, hint: &str) {
        self.add(Severity::Error, self.node.mark, message, hint);
    }

    /// A warning here.
    pub fn warn(&self, message: impl Into<String>) {
        self.add(Severity::Warning, self.node.mark, message, "");
    }

    /// Says that this asks for what a node does not have.
    pub fn not_applicable(&self, message: impl Into<String>, hint: &str) {
        self.add(Severity::NotApplicable, self.node.mark, message, hint);
    }

    /// A problem of this key, at `mark`.
    pub fn add(&self, severity: Severity, mark: Mark, message: impl Into<String>, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.report.add(severity, Some(mark), &self.path(), message.into(), hint);
    }

    fn child(&self, node: &'a Node, last: Last) -> Self {
        At { node, report: self.report, path: Some(Rc::new(Step { parent: self.path.clone(), last })) }
    }

    /// The entries of a map, each key with its place.
    pub fn map(&self) -> Option<impl Iterator<Item = (&'a str, Mark, At<'a>)> + use<'a>> {
        let Value::Map(entries) = &self.node.value else {
            self.is_other("a map of keys and values");
            return None;
        };
        let at = self.clone();
        let entry = move |(key, node): &'a (Key, Node)| {
            (&*key.text, key.mark, at.child(node, Last::Key(Arc::clone(&key.text))))
        };
        Some(entries.iter().map(entry))
    }

    /// The value of one key of a map.
    pub fn get(&self, key: &str) -> Option<At<'a>> {
        let Value::Map(entries) = &self.node.value else { return None };
        let (key, node) = entries.iter().find(|(name, _)| &*name.text == key)?;
        Some(self.child(node, Last::Key(Arc::clone(&key.text))))
    }

    /// Where the key itself stands, when this is the value of one in `parent`.
    pub fn key_mark(&self, parent: &At<'_>) -> Mark {
        let Value::Map(entries) = &parent.node.value else { return self.node.mark };
        let entry = entries.iter().find(|(_, node)| std::ptr::eq(node, self.node));
        entry.map_or(self.node.mark, |(key, _)| key.mark)
    }

    /// The items of a list.
    pub fn list(&self) -> Option<impl Iterator<Item = At<'a>> + use<'a>> {
        let Value::List(items) = &self.node.value else {
            self.is_other("a list");
            return None;
        };
        let at = self.clone();
        Some(items.iter().enumerate().map(move |(index, node)| at.child(node, Last::Index(index))))
    }

    /// The items of a list, or the one value that stands in its place.
    pub fn list_or_one(&self) -> Vec<At<'a>> {
        if self.is_list() { self.list().into_iter().flatten().collect() } else { vec![self.clone()] }
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// A scalar's text as it is written, so that `0644` and `yes` are not turned into something else.
    pub fn text(&self) -> Option<&'a str> {
        self.ask(|| Asked::Text);
        self.plain_text()
    }

    fn plain_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.text.contains('\0') => {
                self.error("must not hold a NUL character")
            }
            Value::Scalar(scalar) => return Some(&scalar.text),
            _ => self.is_other("text"),
        }
        None
    }

    /// An error here: it is not even of the kind that is wanted.
    fn is_other(&self, wanted: &str) {
        self.ask(|| Asked::Other);
        self.error(format!("must be {wanted}, not {}", self.node.kind()));
    }

    fn ask(&self, asked: impl FnOnce() -> Asked) {
        if self.report.is_watching() {
            self.report.ask(self.path(), asked());
        }
    }

    /// Tells who watches that a map has these keys and no others; for readers that take it apart themselves.
    pub fn knows<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        let known = |name: &str| Known { name: name.to_owned(), doc: "", fate: Fate::Read };
        self.ask(|| Asked::Keys(names.into_iter().map(known).collect()));
    }

    /// A scalar.
    pub fn scalar(&self) -> Option<&'a Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Text with its place, for those who judge it later.
    pub fn located_text(&self) -> Option<Located<String>> {
        self.text().map(|text| Located { value: text.to_owned(), mark: self.node.mark })
    }

    /// A list of texts.
    pub fn texts(&self) -> Option<Vec<String>> {
        self.list()?.map(|item| item.text().map(str::to_owned)).collect()
    }

    /// A truth value by YAML 1.1, which cloud-init and compose files are written for.
    pub fn truth(&self) -> Option<bool> {
        self.ask(|| Asked::Truth);
        match self.plain_text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => {
                self.error("must be true or false");
                None
            }
        }
    }

    /// A whole number from `range`; quotes around it do not matter.
    pub fn int(&self, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.ask(|| Asked::Int(range.clone()));
        let scalar = Scalar { kind: Kind::Int, text: self.plain_text()?.into() };
        let int = scalar.int().and_then(|int| i64::try_from(int).ok()).filter(|int| range.contains(int));
        if int.is_none() {
            self.error(format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        int
    }

    /// A duration as compose writes it: `1m30s`, `500ms`.
    pub fn duration(&self) -> Option<Duration> {
        self.ask(|| Asked::Duration);
        let text = self.plain_text()?;
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
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        self.ask(|| Asked::Words(words.iter().map(|(word, _)| (*word).to_owned()).collect()));
        let text = self.plain_text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.error(format!("'{text}' is not supported: it must be {}", alternatives(&known)));
        }
        found
    }

    /// An absolute path without `..`.
    pub fn absolute_path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.starts_with('/') && text.split('/').all(|part| part != "..") {
            return Some(text.into());
        }
        self.error(format!("'{text}' must be an absolute path without '..'"));
        None
    }

    /// Reads a map by its table. A key without a value counts as absent (but must be known); `x-*` is the user's own.
    pub fn section<T>(&self, what: &str, table: &[KeySpec<T>], into: &mut T) {
        self.ask(|| Asked::Keys(table.iter().map(KeySpec::known).collect()));
        for (name, mark, value) in self.map().into_iter().flatten() {
            if name.starts_with("x-") {
                continue;
            }
            let Some(key) = table.iter().find(|key| key.name == name) else {
                // Looking for a near name costs more than all the rest, so only where it will be read.
                let near = (!self.report.is_full()).then(|| nearest(name, table.iter().map(|key| key.name)));
                let hint = near.flatten().map_or_else(String::new, |near| format!("did you mean '{near}'?"));
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
    pub fn asks_for_nothing(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::Scalar(scalar) => {
                matches!(scalar.text.to_ascii_lowercase().as_str(), "false" | "no" | "off" | "n" | "")
            }
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }
}

/// `'a', 'b' or 'c'`.
pub fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("'{one}'"),
        [first @ .., last] => format!("'{}' or '{last}'", first.join("', '")),
    }
}

/// The word nearest to `name` when it is near enough to be meant.
pub fn nearest<'w>(name: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
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
