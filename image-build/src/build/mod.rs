//! The `build` command: from the manifest and our binaries to every artifact.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use plan::paths;
use slots::UkiName;
use tempfile::TempDir;

mod artifacts;
mod disk;
mod identity;
mod initrd;
mod kernel;
mod manifest;
mod root;
mod state;
mod tree;

pub(crate) use artifacts::BuildManifest;
pub(crate) use manifest::{Compiled, KernelRule, Manifest};

use crate::images::{self, ImageSpec};
use crate::packages::{Package, Packages};
use crate::progress::Progress;
use crate::{project, run, uki};
use artifacts::Output;
use identity::{Identity, Role};
use kernel::Kernel;

/// What every kernel is told. `docs/architecture.md` says why.
const CMDLINE: &str =
    "console=tty0 console=ttyS0 panic=5 cryptomgr.notests no_timer_check printk.devkmsg=on loglevel=6";
/// Cargo's target, as `.cargo/config.toml` sets it.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Our commands for the machine that builds and manages.
const HOST_BINARIES: [&str; 2] = ["image-build", "holdfast"];
/// Steps that are shown.
const STEPS: u64 = 6;

/// Arguments of `build`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Version of the operating system
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// The kernel: debian-cloud, debian, vm or metal; the last two are made first unless the cache holds them
    #[arg(long, value_name = "NAME", default_value = "debian-cloud")]
    kernel: String,
    /// User-data to bake into the root
    #[arg(long, value_name = "USER-DATA")]
    config: Option<PathBuf>,
    /// An image to bake into the root, from an OCI image layout
    #[arg(long = "image", value_name = "NAME=OCI-LAYOUT-DIR[:TAG]")]
    images: Vec<ImageSpec>,
    /// Room for the root of each slot
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = run::parse_size)]
    slot_size: u64,
    /// Where the artifacts go [default: out in the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where packages are kept [default: cache in the project]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Where cargo put our binaries [default: the release directory of the project's target]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Another file for one of our binaries
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_binary)]
    bin: Vec<(String, PathBuf)>,
}

fn parse_binary(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or_else(|| format!("'{text}' is not NAME=FILE"))?;
    Ok((name.to_owned(), file.into()))
}

/// What comes from Debian beside the kernel.
struct Debian {
    loader: Vec<u8>,
    stub: Vec<u8>,
    /// For the root, in the manifest's order.
    packages: Vec<Package>,
    versions: BTreeMap<String, String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let project = project::find()?;
    let progress = Progress::new(STEPS);
    let identity = Identity { version: args.version.clone(), epoch: project::epoch(&project)? };
    UkiName::new(&identity.version, None).context("--version cannot be part of a file name")?;
    let user_data = args.config.as_deref().map(read_user_data).transpose()?;
    let folder = project.join("rootfs");
    let mut manifest = Manifest::read(&folder.join("root.toml"))?;
    manifest.add_firmware(&args.kernel)?;
    let default_out = project.join("out");
    let mut output = Output::open(args.out.as_deref().unwrap_or(&default_out))?;

    progress.step("fetching Debian's packages");
    let rule = manifest.kernel(&args.kernel)?;
    let cache = args.cache.clone().unwrap_or_else(|| project.join("cache"));
    let mut packages = Packages::open(&cache, &folder.join("packages.lock"))?;
    let mut debian = fetch(&manifest, &mut packages)?;
    let (package, kernel) = match rule {
        KernelRule::Packaged(rule) => {
            let package = packages.fetch_behind(&rule.package, "linux-image-")?;
            let kernel = Kernel::packaged(&package, &rule.image)?;
            (package, kernel)
        }
        KernelRule::Compiled(rule) => {
            let (package, made) =
                crate::kernel::get(&args.kernel, rule, &folder, &cache, &mut packages, &progress)?;
            (package, Kernel::compiled(&made)?)
        }
    };
    debian.versions.insert(package.name, package.version);

    progress.step("putting the root together");
    let bin_dir = args.bin_dir.clone().unwrap_or_else(|| project.join("target").join(TARGET).join("release"));
    let binaries = binaries(&manifest, &bin_dir, &args.bin)?;
    let (root_modules, initrd_modules) = kernel.module_files(&manifest, &manifest.demand(rule)?)?;
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let store = bake_images(&args.images)?;
    let parts = root::Parts {
        folder: &folder,
        packages: &debian.packages,
        binaries: &binaries,
        modules: root_modules,
        state_template: state::template(&identity)?,
        user_data,
        images: store.as_ref().map(TempDir::path),
    };
    let tree = root::assemble(&manifest, &identity, parts)?;

    progress.step("writing the root and its hash tree");
    output.make("root.erofs", |path| {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        tree.write_erofs(file, identity.uuid(Role::Root), identity.epoch)?;
        Ok(())
    })?;
    let root_path = output.path("root.erofs");
    let hashes = verity::tree(BufReader::new(File::open(&root_path)?), identity.uuid(Role::Verity))?;
    output.write("root.verity", &hashes.image)?;
    let verity_path = output.path("root.verity");

    progress.step("writing the kernel images");
    let init = read(&binaries[INIT])?;
    let cmdline = format!("{CMDLINE} {}={}", paths::CMDLINE_ROOT, hashes.root_hash);
    let initrd = initrd::make(&init, &initrd_modules)?;
    for folder in ["direct", "netboot"] {
        output.write(&format!("{folder}/vmlinuz"), &kernel.image)?;
        output.write(&format!("{folder}/cmdline"), cmdline.as_bytes())?;
    }
    output.write("kernel.config", &kernel.config)?;
    output.write("direct/initrd.img", &initrd)?;
    if let Some(elf) = &kernel.elf {
        output.write("microvm/vmlinux", elf)?;
        output.write("microvm/initrd.img", &initrd)?;
        output.write("microvm/cmdline", cmdline.as_bytes())?;
    }
    output.stream("netboot/initrd.img", |out| {
        Ok(initrd::write_netboot(out, &initrd, &root_path, &verity_path)?)
    })?;
    let uki = uki::assemble(
        &debian.stub,
        &[
            (".osrel", identity.os_release().as_bytes()),
            (".uname", kernel.release.as_bytes()),
            (".cmdline", cmdline.as_bytes()),
            (".linux", &kernel.image),
            (".initrd", &initrd),
        ],
    )?;
    output.write("holdfast.efi", &uki)?;

    progress.step("writing the disk");
    let content = disk::Content {
        root: &root_path,
        verity: &verity_path,
        root_hash: hashes.root_hash,
        uki: &uki,
        loader: &debian.loader,
    };
    output.make("holdfast.raw", |path| disk::write(path, &identity, args.slot_size, &content))?;

    progress.step("taking stock");
    copy_host_binaries(&mut output, &bin_dir)?;
    let built = BuildManifest {
        version: identity.version,
        root_hash: hashes.root_hash.to_string(),
        source_date_epoch: identity.epoch,
        kernel: kernel.release,
        artifacts: output.artifacts().clone(),
        packages: debian.versions,
    };
    output.write_manifest(&built)?;
    drop(progress);
    report(&built, &output);
    Ok(ExitCode::SUCCESS)
}

/// The manifest's name of PID 1.
const INIT: &str = "init";

fn fetch(manifest: &Manifest, packages: &mut Packages) -> Result<Debian> {
    let names =
        manifest.packages.iter().map(|rule| rule.name.as_str()).chain([manifest.boot.package.as_str()]);
    let mut fetched = packages.fetch(names)?;
    let versions = fetched.iter().map(|p| (p.name.clone(), p.version.clone())).collect();
    let boot = fetched.pop().context("the manifest names no boot loader")?;
    let mut boot_files = boot.files(&[&manifest.boot.loader, &manifest.boot.stub])?;
    let mut take = |path: &String| {
        boot_files.remove(path).with_context(|| format!("package {} has no {path}", boot.name))
    };
    Ok(Debian {
        loader: take(&manifest.boot.loader)?,
        stub: take(&manifest.boot.stub)?,
        packages: fetched,
        versions,
    })
}

/// Where each of the manifest's binaries comes from.
fn binaries(
    manifest: &Manifest,
    folder: &Path,
    others: &[(String, PathBuf)],
) -> Result<BTreeMap<String, PathBuf>> {
    let mut binaries: BTreeMap<String, PathBuf> =
        manifest.binaries.keys().map(|name| (name.clone(), folder.join(name))).collect();
    for (name, file) in others {
        let place = binaries.get_mut(name);
        place
            .with_context(|| format!("--bin {name}: rootfs/root.toml names no such binary"))?
            .clone_from(file);
    }
    for (name, path) in &binaries {
        let path = path.display();
        ensure!(
            fs::exists(path.to_string())?,
            "binary {name} is not at {path}: run 'cargo build --release --workspace'"
        );
    }
    ensure!(binaries.contains_key(INIT), "rootfs/root.toml names no binary 'init'");
    Ok(binaries)
}

/// User-data that the node will take: what its own parser says of the file is said here.
fn read_user_data(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (desired, problems) = config::check(&path.display().to_string(), &bytes);
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    ensure!(desired.is_some(), "{} is not valid: a node would not apply it", path.display());
    Ok(bytes)
}

/// An image store with the images that were asked for.
fn bake_images(images: &[ImageSpec]) -> Result<Option<TempDir>> {
    if images.is_empty() {
        return Ok(None);
    }
    let store = tempfile::tempdir()?;
    images::bake(images, store.path())?;
    Ok(Some(store))
}

fn copy_host_binaries(output: &mut Output, folder: &Path) -> Result<()> {
    for name in HOST_BINARIES {
        let from = folder.join(name);
        if from.exists() {
            // A new file in place of the old one: this program may be the old one.
            output.make(&format!("bin/{name}"), |path| Ok(fs::copy(&from, path).map(drop)?))?;
        }
    }
    Ok(())
}

/// The table of sizes, and what to do next.
#[expect(clippy::print_stdout, reason = "a command's result")]
fn report(built: &BuildManifest, output: &Output) {
    println!("Holdfast {}, root hash {}", built.version, built.root_hash);
    for (name, artifact) in &built.artifacts {
        println!("  {:>12}  {name}", decimal(artifact.size));
    }
    let disk = output.path("holdfast.raw");
    println!("boot it:  image-build run --out {}", output.path("").display());
    println!("see it:   image-build inspect {}", disk.display());
}

/// Bytes in decimal units, as sizes are given in the documentation.
fn decimal(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..1_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}
