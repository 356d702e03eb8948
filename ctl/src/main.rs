//! holdfast: the command for those who run nodes. Exit codes: 0 good, 1 the input has errors, 2 wrong usage.

mod changes;
mod check;
mod diff;
mod input;
mod output;
mod plan;
mod snippet;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// Checks and compares configurations of Holdfast nodes.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge user-data as a node would
    ///
    /// This is the node's own parser. It judges the whole vocabulary; what a node of this version refuses of it is a
    /// warning, or an error with --node. Exit code 0: the file is valid, maybe with warnings. 1: it has errors. 2: wrong
    /// usage, or a file cannot be read.
    Check(check::Args),
    /// Say what a node would start, stop and restart when NEW takes the place of OLD
    ///
    /// Both are user-data. Exit code 0: both are valid. 1: one has errors. 2: wrong usage, or a file cannot be read.
    Plan(plan::Args),
    /// Say what is different between two generations of a node
    ///
    /// A generation is a directory as a node writes it below /var/lib/holdfast/generations, or its number there. Exit
    /// code 0: both can be read. 2: wrong usage, or one cannot be read.
    Diff(diff::Args),
    /// Print the JSON schema of user-data, for editors
    ///
    /// For instance: holdfast schema > holdfast.json, and as a line of a file that is to be checked with it:
    /// # yaml-language-server: $schema=holdfast.json
    Schema,
    /// Print a completion script for a shell
    ///
    /// For instance: holdfast completion bash > ~/.local/share/bash-completion/completions/holdfast
    Completion {
        /// The shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Schema => output::print(&format!("{:#}", config::schema()), ExitCode::SUCCESS),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "holdfast", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
