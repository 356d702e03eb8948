//! Container images: made from Debian packages (`image-build image`), and baked into the root (`build --image`).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

mod bake;
mod definition;
mod layer;
mod layout;
mod spec;
mod write;

pub(crate) use bake::bake;
pub(crate) use spec::ImageSpec;

use crate::packages::Packages;
use crate::progress::Progress;
use crate::project;
use definition::Definition;
use layer::{Below, Layer};
use write::Writing;

/// Arguments of `image`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the image is made of
    #[arg(value_name = "DEFINITION.toml")]
    definition: PathBuf,
    /// Where the OCI image layout goes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where packages are kept [default: cache in the project]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// Runs the command. The versions of the packages are kept beside the definition, in a file that ends in `.lock`.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let definition = Definition::read(&args.definition)?;
    let project = project::find()?;
    let epoch = project::epoch(&project)?;
    let cache = args.cache.clone().unwrap_or_else(|| project.join("cache"));
    let progress = Progress::new(definition.layer.len() as u64 + 1);

    progress.step("fetching the image's packages");
    let mut packages = Packages::open(&cache, &args.definition.with_extension("lock"))?;
    let names = definition.layer.iter().flat_map(|layer| &layer.packages);
    packages.fetch(names.map(String::as_str))?;

    let mut below = Below::new();
    let mut writing = Writing::begin(&args.out)?;
    for (index, layer) in definition.layer.iter().enumerate() {
        progress.step(&format!("writing the image's layer {}", index + 1));
        let packages = packages.fetch(layer.packages.iter().map(String::as_str))?;
        let assembled = Layer::assemble(layer, &packages, &mut below);
        let assembled =
            assembled.with_context(|| format!("{} layer {}", args.definition.display(), index + 1))?;
        writing.layer(&assembled, epoch)?;
    }
    writing.finish(&definition, &args.out)?;
    drop(progress);
    eprintln!("{} is an OCI image layout", args.out.display());
    Ok(ExitCode::SUCCESS)
}
