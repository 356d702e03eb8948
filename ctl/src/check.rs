//! `holdfast check`.

use std::path::PathBuf;
use std::process::ExitCode;

use config::{Input, Judge, Problem, Severity};
use serde_json::json;

use crate::input::File;
use crate::output::{self, Format, fail, print};

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

/// Judges the files and prints what is found.
pub(crate) fn run(args: &Args) -> ExitCode {
    if let Some(key) = &args.explain {
        return match config::explain(key) {
            Some(text) => print(&text, ExitCode::SUCCESS),
            None => fail(&format!("there is no key '{key}'")),
        };
    }
    let paths = [&args.user_data, &args.vendor_data, &args.meta_data, &args.network_config];
    let files = paths.map(|path| File::read_optional(path.as_deref()));
    match files.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(files) => judge(args, &files),
        Err(why) => fail(&why),
    }
}

fn judge(args: &Args, files: &[Option<File>]) -> ExitCode {
    let named = |index: usize| files.get(index).and_then(Option::as_ref).map(File::named);
    let input = Input {
        user_data: named(0).unwrap_or_default(),
        vendor_data: named(1),
        meta_data: named(2),
        network_config: named(3),
        included: &[],
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
            let refused = if valid && outcome.desired.is_none() {
                "\na node of this version would refuse it"
            } else {
                ""
            };
            let shown = output::problems(&outcome.problems, &outcome.sources, output::style());
            shown + &summary(input.user_data.0, &outcome.problems) + refused
        }
    };
    print(&out, if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
            of("#cloud-config\nhostnam: a\ndisable_root: false\n"),
            "f: not valid: 1 error, 1 warning"
        );
    }
}
