//! `holdfast check`.

use std::io::{self, IsTerminal, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use config::{Input, Judge, Problem, Severity};
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

/// What belongs to user-data, and how it is judged.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How to print what is found
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The platform's vendor-data, which counts where user-data says nothing
    #[arg(long, value_name = "FILE")]
    vendor_data: Option<PathBuf>,
    /// The datasource's meta-data
    #[arg(long, value_name = "FILE")]
    meta_data: Option<PathBuf>,
    /// The datasource's network configuration, version 1 or 2
    #[arg(long, value_name = "FILE")]
    network_config: Option<PathBuf>,
    /// What a node of this version refuses is an error, not a warning
    #[arg(long)]
    node: bool,
    /// Say what becomes of one key, as in 'ntp' or 'services.NAME.ports'
    #[arg(long, value_name = "KEY", conflicts_with_all = ["vendor_data", "meta_data", "network_config", "user_data"])]
    explain: Option<String>,
    /// The file; '-' is standard input
    #[arg(required_unless_present = "explain")]
    user_data: Option<PathBuf>,
}

/// A file that was read.
struct Read {
    name: String,
    bytes: Vec<u8>,
}

/// Judges the files and prints what is found.
pub(crate) fn run(args: &Args) -> ExitCode {
    if let Some(key) = &args.explain {
        return match config::explain(key) {
            Some(text) => print(&text, ExitCode::SUCCESS),
            None => {
                eprintln!("holdfast: there is no key '{key}'");
                ExitCode::from(2)
            }
        };
    }
    match read_all(args) {
        Ok(files) => judge(args, &files),
        Err(error) => {
            eprintln!("holdfast: {error}");
            ExitCode::from(2)
        }
    }
}

fn judge(args: &Args, [user_data, vendor_data, meta_data, network_config]: &[Option<Read>; 4]) -> ExitCode {
    fn named(file: &Option<Read>) -> Option<(&str, &[u8])> {
        file.as_ref().map(|file| (file.name.as_str(), file.bytes.as_slice()))
    }
    let input = Input {
        user_data: named(user_data).unwrap_or_default(),
        vendor_data: named(vendor_data),
        meta_data: named(meta_data),
        network_config: named(network_config),
    };
    let outcome = config::judge(&input, if args.node { Judge::Node } else { Judge::Vocabulary });
    let valid = outcome.config.is_some();
    let out = match args.format {
        Format::Json => {
            let effective = outcome.config.as_ref().map(|config| config.effective(&outcome.meta));
            json!({
                "valid": valid,
                "problems": outcome.problems,
                "rejected_files": outcome.rejected_files,
                "effective": effective,
            })
            .to_string()
        }
        Format::Text => {
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
            let style = Style { colour: io::stdout().is_terminal() && !no_colour };
            let text = |problem: &Problem| {
                let source = outcome.sources.iter().find(|source| source.name == problem.source);
                source.map_or("", |source| &source.text)
            };
            let shown = |problem| render(problem, text(problem), style) + "\n";
            let refused = if valid && outcome.desired.is_none() {
                "\na node of this version would refuse it"
            } else {
                ""
            };
            let shown: String = outcome.problems.iter().map(shown).collect();
            shown + &summary(input.user_data.0, &outcome.problems) + refused
        }
    };
    print(&out, if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(out: &str, code: ExitCode) -> ExitCode {
    match writeln!(io::stdout(), "{out}") {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("holdfast: cannot print: {error}");
            ExitCode::from(2)
        }
        _ => code,
    }
}

fn read_all(args: &Args) -> Result<[Option<Read>; 4], String> {
    let paths = [&args.user_data, &args.vendor_data, &args.meta_data, &args.network_config];
    let mut files = [const { None }; 4];
    for (file, path) in files.iter_mut().zip(paths) {
        *file = path.as_deref().map(read).transpose()?;
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Read, String> {
    let (name, bytes) = if path == Path::new("-") {
        ("<stdin>".to_owned(), read_limited(&mut io::stdin()))
    } else {
        (path.display().to_string(), std::fs::File::open(path).and_then(|mut file| read_limited(&mut file)))
    };
    let bytes = bytes.map_err(|error| format!("cannot read {name}: {error}"))?;
    Ok(Read { name, bytes })
}

/// At most one byte more than a node takes, so that a larger file is seen to be too large.
fn read_limited(input: &mut impl io::Read) -> io::Result<Vec<u8>> {
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
        assert_eq!(
            of("#cloud-config\nhostnam: a\nntp: {servers: [b]}\n"),
            "f: not valid: 1 error, 1 warning"
        );
    }
}
