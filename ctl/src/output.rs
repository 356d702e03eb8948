//! What is printed, and the exit code that goes with it.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use config::{Problem, Source};

use crate::snippet::{Style, render};

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs: one JSON object
    Json,
}

/// Prints to standard output and gives back `code`, or that of a failure.
pub(crate) fn print(out: &str, code: ExitCode) -> ExitCode {
    match writeln!(io::stdout(), "{out}") {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("holdfast: cannot print: {error}");
            ExitCode::from(2)
        }
        _ => code,
    }
}

/// Says why a command cannot be done. Exit code 2: wrong usage.
pub(crate) fn fail(why: &str) -> ExitCode {
    eprintln!("holdfast: {why}");
    ExitCode::from(2)
}

/// Problems with the lines they are on.
pub(crate) fn problems<'a>(
    problems: impl IntoIterator<Item = &'a Problem>,
    sources: &[Source],
    style: Style,
) -> String {
    let text = |problem: &Problem| {
        let source = sources.iter().find(|source| source.name == problem.source);
        source.map_or("", |source| &source.text)
    };
    problems.into_iter().map(|problem| render(problem, text(problem), style) + "\n").collect()
}

/// Colours for people who see them and have not said no (<https://no-color.org>).
pub(crate) fn style() -> Style {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    Style { colour: io::stdout().is_terminal() && !no_colour }
}
