//! `holdfast check`.

use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use config::{Problem, Severity};
use serde_json::json;

use crate::snippet::{Style, render};

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: each problem with its line
    #[default]
    Text,
    /// For programs: one JSON object
    Json,
}

/// Judges the file and prints what is found.
pub(crate) fn run(path: &Path, format: Format) -> ExitCode {
    let (name, read) = if path == Path::new("-") {
        ("<stdin>".to_owned(), read_limited(&mut io::stdin()))
    } else {
        (path.display().to_string(), std::fs::File::open(path).and_then(|mut file| read_limited(&mut file)))
    };
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("holdfast: cannot read {name}: {error}");
            return ExitCode::from(2);
        }
    };
    let (desired, problems) = config::check(&name, &bytes);
    let out = match format {
        Format::Json => json!({ "valid": desired.is_some(), "problems": problems }).to_string(),
        Format::Text => {
            let text = String::from_utf8_lossy(&bytes);
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
            let style = Style { colour: io::stdout().is_terminal() && !no_colour };
            let shown: String = problems.iter().map(|problem| render(problem, &text, style) + "\n").collect();
            shown + &summary(&name, &problems)
        }
    };
    match writeln!(io::stdout(), "{out}") {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("holdfast: cannot print: {error}");
            return ExitCode::from(2);
        }
        _ => {}
    }
    if desired.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// At most one byte more than a node takes, so that a larger file is seen to be too large.
fn read_limited(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(config::MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn summary(name: &str, problems: &[Problem]) -> String {
    let count = |severity, one: &str, many: &str| {
        let count = problems.iter().filter(|problem| problem.severity == severity).count();
        (count > 0).then(|| format!("{count} {}", if count == 1 { one } else { many }))
    };
    let counts: Vec<String> = [
        count(Severity::Error, "error", "errors"),
        count(Severity::Warning, "warning", "warnings"),
        count(Severity::NotApplicable, "key is not applicable", "keys are not applicable"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let verdict = if problems.iter().any(|p| p.severity == Severity::Error) { "not valid" } else { "valid" };
    if counts.is_empty() {
        format!("{name}: {verdict}")
    } else {
        format!("{name}: {verdict}: {}", counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts() {
        let of = |text: &str| summary("f", &config::check("f", text.as_bytes()).1);
        assert_eq!(of("#cloud-config\nhostname: a\n"), "f: valid");
        assert_eq!(of("#cloud-config\npackages: [a]\nruncmd: [a]\n"), "f: valid: 2 keys are not applicable");
        assert_eq!(of("#cloud-config\nhostnam: a\nntp: {a: b}\n"), "f: not valid: 1 error, 1 warning");
    }
}
