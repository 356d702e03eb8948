//! `holdfast plan`.

use std::path::PathBuf;
use std::process::ExitCode;

use config::{Changes, Input, Judge, Outcome, Severity};
use serde_json::json;

use crate::changes;
use crate::input::File;
use crate::output::{self, Format, fail, print};

/// Two configurations of one node.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How to print what is found
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The datasource's meta-data, which both have
    #[arg(long, value_name = "FILE")]
    meta_data: Option<PathBuf>,
    /// The user-data that runs
    old: PathBuf,
    /// The user-data that is to run
    new: PathBuf,
}

/// Compares both files and prints what a node would do.
pub(crate) fn run(args: &Args) -> ExitCode {
    let read = || {
        Ok((File::read(&args.old)?, File::read(&args.new)?, File::read_optional(args.meta_data.as_deref())?))
    };
    match read() {
        Ok((old, new, meta)) => plan(args.format, &old, &new, meta.as_ref()),
        Err::<_, String>(why) => fail(&why),
    }
}

fn plan(format: Format, old: &File, new: &File, meta: Option<&File>) -> ExitCode {
    let judge = |file: &File| {
        let input = Input { meta_data: meta.map(File::named), ..Input::user_data(&file.name, &file.bytes) };
        config::judge(&input, Judge::Vocabulary)
    };
    let (before, after) = (judge(old), judge(new));
    let (Some(from), Some(to)) = (&before.config, &after.config) else {
        eprint!("{}{}", errors(&before), errors(&after));
        return ExitCode::FAILURE;
    };
    let changes = Changes::between((from, &before.meta), (to, &after.meta));
    let out = match format {
        Format::Json => json!({
            "old": { "source": old.name },
            "new": { "source": new.name, "accepted_by_node": after.desired.is_some() },
            "services": changes.services,
            "node": changes.node,
        })
        .to_string(),
        Format::Text => {
            let refused = "\na node of this version would refuse the new file";
            changes::render(&changes) + if after.desired.is_some() { "" } else { refused }
        }
    };
    print(&out, ExitCode::SUCCESS)
}

fn errors(outcome: &Outcome) -> String {
    let errors = outcome.problems.iter().filter(|problem| problem.severity == Severity::Error);
    output::problems(errors, &outcome.sources, output::style())
}
