//! The `install` command.

use std::process::ExitCode;

/// Arguments of `install`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built in")
}
