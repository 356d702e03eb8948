//! The `inspect` command.

use std::process::ExitCode;

/// Arguments of `inspect`.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built in")
}
