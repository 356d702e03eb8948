//! Builds, boots, installs and inspects Holdfast images. Needs no root, no loop devices and no container engine.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod build;
mod cpio;
mod disk;
mod esp;
mod glob;
mod hash;
mod images;
mod inspect;
mod install;
mod kernel;
mod packages;
mod progress;
mod project;
mod run;
mod slot;
mod uki;

/// Build, boot, install and inspect Holdfast images.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the disk image, the kernel image and the netboot pair
    Build(build::Args),
    /// Make an OCI image layout from Debian packages
    Image(images::Args),
    /// Make one of our own kernels, unless the cache holds it
    Kernel(kernel::Args),
    /// Boot a build in QEMU with its console on this terminal
    Run(run::Args),
    /// Put another build into a slot of a disk image
    Install(install::Args),
    /// Say what an artifact holds
    Inspect(inspect::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Build(args) => build::run(&args),
        Command::Image(args) => images::run(&args),
        Command::Kernel(args) => kernel::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Install(args) => install::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("image-build: {error:#}");
        ExitCode::FAILURE
    })
}
