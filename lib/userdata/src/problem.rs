//! What can be wrong with a configuration, and where.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use crate::watch::{Asked, Question};

/// Problems that are kept of each kind. Nobody reads more, and hostile input must not make them fill the memory.
const MAX_PROBLEMS: usize = 100;

/// Characters of a path and of a message that are kept: both may hold keys from outside, of any length.
const MAX_PATH: usize = 200;
const MAX_MESSAGE: usize = 500;

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The configuration is not applied.
    Error,
    /// It is applied, without what the problem names.
    Warning,
    /// It asks for something that a node does not have; it is applied without that.
    NotApplicable,
}

/// One of the texts that a configuration is put together from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u16);

/// A text that marks point into: a file, or a part that was encoded in it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in the problems.
    pub name: String,
    /// What its lines and columns count in. Empty when it is not text.
    pub text: Arc<str>,
}

/// A place in a source. Both numbers count from 1; a column counts characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Which text.
    pub source: SourceId,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
    /// How many characters of that line belong to it.
    pub width: u32,
}

/// One thing that is wrong, or that is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong. Never holds a value that may be a secret.
    pub message: String,
    /// The key: `services.web.image`; empty for the file as a whole.
    pub path: String,
    /// Which file, or which part of it.
    pub source: String,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
    /// What to do about it.
    pub hint: Option<String>,
    /// How many characters to underline.
    #[serde(skip)]
    pub width: u32,
}

impl Problem {
    /// An error at `mark` of `source`.
    pub fn error(source: &str, mark: Option<Mark>, path: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, source, mark, path, message.into())
    }

    /// A warning about `source` as a whole.
    pub fn warning(source: &str, path: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, source, None, path, message.into())
    }

    /// The same with advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn new(severity: Severity, source: &str, mark: Option<Mark>, path: &str, message: String) -> Self {
        Self {
            severity,
            message,
            path: path.to_owned(),
            source: source.to_owned(),
            line: mark.map(|m| m.line),
            column: mark.map(|m| m.column),
            hint: None,
            width: mark.map_or(0, |m| m.width),
        }
    }
}

impl std::fmt::Display for Problem {
    /// The console's form: `error|warning SOURCE:LINE:COLUMN KEY: TEXT`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.severity == Severity::Error { "error " } else { "warning " })?;
        f.write_str(&self.source)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if !self.path.is_empty() {
            f.write_char(' ')?;
            f.write_str(&self.path)?;
        }
        write!(f, ": {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// Collects the problems of a configuration while it is read, and the texts they stand in.
#[derive(Debug, Default)]
pub struct Report {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sources: Vec<Source>,
    problems: Vec<(SourceId, Problem)>,
    kept: [usize; 2],
    dropped: [usize; 2],
    /// Errors become warnings, and how many did.
    excusing: bool,
    excused: usize,
    /// What readers ask, for those who want to know.
    watched: Option<Vec<Question>>,
}

/// What a [`Report`] has in the end.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The problems in the order of the sources and their lines.
    pub problems: Vec<Problem>,
    /// The sources, for those who show the lines.
    pub sources: Vec<Source>,
    /// What the readers asked, when they were watched.
    pub questions: Vec<Question>,
}

impl Report {
    /// An empty one whose first source is `name`; more follow when that file has parts.
    pub fn new(name: &str) -> Self {
        let report = Self::default();
        report.source(name, Arc::from(""));
        report
    }

    /// One that also keeps what readers ask of the values.
    pub fn watching() -> Self {
        let report = Self::default();
        report.inner.borrow_mut().watched = Some(Vec::new());
        report
    }

    pub(crate) fn is_watching(&self) -> bool {
        self.inner.borrow().watched.is_some()
    }

    pub(crate) fn ask(&self, path: String, asked: Asked) {
        if let Some(watched) = &mut self.inner.borrow_mut().watched {
            watched.push(Question { path, asked });
        }
    }

    /// Makes `text` known under `name`.
    pub fn source(&self, name: &str, text: Arc<str>) -> SourceId {
        let mut inner = self.inner.borrow_mut();
        let id = SourceId(u16::try_from(inner.sources.len()).unwrap_or(u16::MAX));
        inner.sources.push(Source { name: name.to_owned(), text });
        id
    }

    /// Replaces the text of a source once it is decoded.
    pub(crate) fn set_text(&self, id: SourceId, text: Arc<str>) {
        if let Some(source) = self.inner.borrow_mut().sources.get_mut(usize::from(id.0)) {
            source.text = text;
        }
    }

    /// The name of a source.
    pub fn name(&self, id: SourceId) -> String {
        self.inner
            .borrow()
            .sources
            .get(usize::from(id.0))
            .map_or_else(String::new, |source| source.name.clone())
    }

    /// Adds an error. Without a mark it belongs to the first source.
    pub fn error(&self, mark: Option<Mark>, path: &str, message: impl Into<String>) {
        self.add(Severity::Error, mark, path, message.into(), None);
    }

    /// Adds a problem. Without a mark it belongs to the first source.
    pub fn add(
        &self,
        severity: Severity,
        mark: Option<Mark>,
        path: &str,
        message: String,
        hint: Option<String>,
    ) {
        self.add_to(mark.map(|m| m.source).unwrap_or_default(), severity, mark, path, message, hint);
    }

    /// Adds a problem of a whole source.
    pub fn add_to(
        &self,
        source: SourceId,
        severity: Severity,
        mark: Option<Mark>,
        path: &str,
        message: String,
        hint: Option<String>,
    ) {
        let name = self.name(source);
        let (path, message) = (&shortened(path, MAX_PATH), shortened(&message, MAX_MESSAGE));
        let mut inner = self.inner.borrow_mut();
        let excused = inner.excusing && severity == Severity::Error;
        inner.excused += usize::from(excused);
        let severity = if excused { Severity::Warning } else { severity };
        let kind = usize::from(severity != Severity::Error);
        if inner.kept[kind] == MAX_PROBLEMS {
            inner.dropped[kind] += 1;
        } else {
            inner.kept[kind] += 1;
            let problem = Problem { hint, ..Problem::new(severity, &name, mark, path, message) };
            inner.problems.push((source, problem));
        }
    }

    /// Whether so much is wrong that looking for more is of no use.
    pub fn is_full(&self) -> bool {
        self.inner.borrow().kept[0] == MAX_PROBLEMS
    }

    /// From now on errors are added as warnings, or no longer: for what the user did not write. Gives back how many
    /// there were since the last call.
    pub fn excuse(&self, excusing: bool) -> usize {
        let mut inner = self.inner.borrow_mut();
        inner.excusing = excusing;
        std::mem::take(&mut inner.excused)
    }

    /// How many errors were added.
    pub fn errors(&self) -> usize {
        let inner = self.inner.borrow();
        inner.kept[0] + inner.dropped[0]
    }

    /// Whether an error was added.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// The problems in the order of the sources, errors before others on one line.
    pub fn finish(self) -> Findings {
        let Inner { sources, mut problems, dropped, watched, .. } = self.inner.into_inner();
        problems.sort_by_key(|(source, p)| (*source, p.line, p.severity, p.column));
        let mut problems: Vec<Problem> = problems.into_iter().map(|(_, problem)| problem).collect();
        // Vendor-data is read twice: alone, and below the user's.
        problems.dedup();
        for (severity, count) in [Severity::Error, Severity::Warning].into_iter().zip(dropped) {
            if count > 0 {
                let name = sources.first().map_or("", |source| &source.name);
                problems.push(Problem::new(severity, name, None, "", format!("{count} more like these")));
            }
        }
        Findings { problems, sources, questions: watched.unwrap_or_default() }
    }
}

/// At most `length` characters on one line, and none that would control a terminal.
fn shortened(text: &str, length: usize) -> String {
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let end = text.char_indices().nth(length).map(|(at, _)| at);
    let mut short: String = text.chars().take(length).map(printable).collect();
    if end.is_some() {
        short.push_str("...");
    }
    short
}
