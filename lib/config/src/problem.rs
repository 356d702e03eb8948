//! What can be wrong with a configuration, and where.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;

use serde::Serialize;

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

/// A place in a file. Both numbers count from 1; a column counts characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
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
    /// Which file.
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

/// Problems that are kept of one file. Nobody reads more, and hostile input must not flood the console.
const MAX_PROBLEMS: usize = 100;

/// Collects the problems of one file while it is read.
#[derive(Debug)]
pub(crate) struct Report {
    source: String,
    problems: RefCell<Vec<Problem>>,
    /// How many were not kept, and the worst of them.
    left_out: Cell<(usize, Option<Severity>)>,
}

impl Report {
    pub(crate) fn new(source: &str) -> Self {
        Self { source: source.to_owned(), problems: RefCell::default(), left_out: Cell::default() }
    }

    pub(crate) fn error(&self, mark: Option<Mark>, path: &str, message: impl Into<String>) {
        self.add(Severity::Error, mark, path, message.into(), None);
    }

    pub(crate) fn add(
        &self,
        severity: Severity,
        mark: Option<Mark>,
        path: &str,
        message: String,
        hint: Option<String>,
    ) {
        if self.is_full() {
            let (count, worst) = self.left_out.get();
            self.left_out.set((count + 1, Some(worst.map_or(severity, |worst| worst.min(severity)))));
        } else {
            let problem = Problem { hint, ..Problem::new(severity, &self.source, mark, path, message) };
            self.problems.borrow_mut().push(problem);
        }
    }

    /// Whether what is found from here on is only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.borrow().len() >= MAX_PROBLEMS
    }

    /// The problems in the order of the file, errors before others on one line.
    pub(crate) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|p| (p.line, p.severity, p.column));
        if let (count, Some(worst)) = self.left_out.get() {
            problems.push(Problem::new(worst, &self.source, None, "", format!("and {count} more problems")));
        }
        problems
    }
}
