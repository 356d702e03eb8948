//! Kernels of our own: made of Debian's source and the fragments in `rootfs/kernel`, once for each set of inputs.
//!
//! A kernel is a function of its source package, its fragments, the compiler and the way it is called. The hash of these
//! names its directory in the cache, so that nothing stale is ever taken and nothing is made twice. What comes out is
//! identical to the bit wherever it is made, but for the signatures of modules: their key is thrown away.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::build::{Compiled, KernelRule, Manifest};
use crate::packages::{Package, Packages};
use crate::progress::Progress;
use crate::{hash, project};

mod compile;
mod fragment;

use compile::Tree;

/// Steps of making a kernel.
const STEPS: u64 = 4;

/// Arguments of `kernel`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which of the kernels that rootfs/root.toml makes: vm or metal
    #[arg(long, value_name = "NAME", default_value = "vm")]
    flavour: String,
    /// Where packages and kernels are kept [default: cache in the project]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// Runs the command.
#[expect(clippy::print_stdout, reason = "a command's result")]
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let project = project::find()?;
    let folder = project.join("rootfs");
    let manifest = Manifest::read(&folder.join("root.toml"))?;
    let KernelRule::Compiled(rule) = manifest.kernel(&args.flavour)? else {
        bail!("kernel {} comes from Debian as it is: there is nothing to make", args.flavour);
    };
    let cache = args.cache.clone().unwrap_or_else(|| project.join("cache"));
    let mut packages = Packages::open(&cache, &folder.join("packages.lock"))?;
    let progress = Progress::new(0);
    let (_, made) = get(&args.flavour, rule, &folder, &cache, &mut packages, &progress)?;
    drop(progress);
    println!("{}", made.display());
    Ok(ExitCode::SUCCESS)
}

/// The source package of a kernel, and the directory with what was made of it: from the cache, else made now.
pub(crate) fn get(
    name: &str,
    rule: &Compiled,
    folder: &Path,
    cache: &Path,
    packages: &mut Packages,
    progress: &Progress,
) -> Result<(Package, PathBuf)> {
    let package = packages.fetch([rule.source.as_str()])?;
    let package = package.into_iter().next().context("no package was fetched")?;
    let mut fragments = String::new();
    for fragment in &rule.fragments {
        let path = folder.join(fragment);
        fragments += &fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let kernels = cache.join("kernels");
    fs::create_dir_all(&kernels).with_context(|| format!("cannot make {}", kernels.display()))?;
    let key = key(&package, &fragments)?;
    let made = kernels.join(format!("{name}-{key}"));
    let lock = File::create(kernels.join(format!("{name}.lock")))?;
    lock.lock().with_context(|| format!("cannot lock {}", kernels.display()))?;
    if !made.exists() {
        make(&package, &fragments, &made, progress).with_context(|| format!("cannot make kernel {name}"))?;
    }
    Ok((package, made))
}

fn make(package: &Package, fragments: &str, made: &Path, progress: &Progress) -> Result<()> {
    let requests = fragment::parse(fragments)?;
    let work = made.with_extension("new");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    fs::create_dir_all(&work)?;
    // It is removed however this ends, and with it the key that modules were signed with.
    let source = tempfile::tempdir_in(made.parent().context("the cache is a directory")?)?;

    progress.more(STEPS);
    progress.step("unpacking the kernel's source");
    let tree = Tree::unpack(package, source.path())?;
    progress.step("configuring the kernel");
    tree.configure(fragments)?;
    let config = tree.read(".config")?;
    let dropped = fragment::dropped(&requests, &config);
    if !dropped.is_empty() {
        let dropped: Vec<_> = dropped.iter().map(ToString::to_string).collect();
        bail!("Kconfig does not do as the fragments ask:\n  {}", dropped.join("\n  "));
    }
    progress.step("compiling the kernel (about 15 minutes of a processor)");
    tree.compile(progress)?;
    progress.step("collecting the kernel");
    tree.collect(&work)?;
    fs::rename(&work, made).with_context(|| format!("cannot write {}", made.display()))
}

/// What stands for everything that goes into a kernel.
fn key(package: &Package, fragments: &str) -> Result<String> {
    let mut hasher = Sha256::new();
    for part in [package.sha256.as_str(), fragments, &compile::recipe(), &tools()?] {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    Ok(hash::hex(&hasher.finalize()[..8]))
}

/// The versions of those tools whose output is in the kernel.
fn tools() -> Result<String> {
    let mut versions = String::new();
    for tool in ["gcc", "ld", "lz4"] {
        let output = Command::new(tool).arg("--version").env("LC_ALL", "C").output().with_context(|| {
            format!("cannot run {tool}, which making a kernel takes: `make kernel` installs what is missing")
        })?;
        versions += String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default();
        versions.push('\n');
    }
    Ok(versions)
}
