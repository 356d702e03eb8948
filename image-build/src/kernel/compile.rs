//! The kernel's own build, called so that it makes the same thing everywhere.
//!
//! It sees none of the caller's environment but the search path, and no time, name or host but ours.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::packages::Package;
use crate::progress::Progress;

/// What a kernel says about who made it.
const IDENTITY: [(&str, &str); 4] = [
    ("KBUILD_BUILD_USER", "holdfast"),
    ("KBUILD_BUILD_HOST", "holdfast"),
    ("KBUILD_BUILD_VERSION", "1"),
    // Otherwise a source tree in a git repository gets a `+`.
    ("LOCALVERSION", ""),
];
/// Kconfig reads the requests from here; everything else is off.
const REQUESTS: &str = "holdfast.config";
const CONFIGURE: [&str; 1] = ["allnoconfig"];
const COMPILE: [&str; 2] = ["bzImage", "modules"];
/// Without modules there is no such target.
const COMPILE_WITHOUT_MODULES: [&str; 1] = ["bzImage"];
const INSTALL_MODULES: [&str; 3] = ["modules_install", "INSTALL_MOD_PATH=installed", "INSTALL_MOD_STRIP=1"];
/// The symbols are of no use without debug information, and three quarters of the file.
const STRIP: [&str; 2] = ["strip", "--strip-all"];

/// Everything about the way the kernel is made, for the cache's key.
pub(super) fn recipe() -> String {
    format!(
        "{IDENTITY:?} {CONFIGURE:?} {COMPILE:?} {COMPILE_WITHOUT_MODULES:?} {INSTALL_MODULES:?} {STRIP:?}"
    )
}

/// An unpacked source tree.
#[derive(Debug)]
pub(super) struct Tree {
    path: PathBuf,
    /// When the source was published, as `date` prints it.
    date: String,
}

impl Tree {
    /// Unpacks the tarball that is in Debian's source package.
    pub(super) fn unpack(package: &Package, folder: &Path) -> Result<Self> {
        let mut published = None;
        package.with_data(|tar| {
            for entry in tar::Archive::new(tar).entries()? {
                let entry = entry?;
                let path = entry.path()?.to_string_lossy().into_owned();
                if path.contains("usr/src/linux-source-") && path.ends_with(".tar.xz") {
                    published = Some(entry.header().mtime()?);
                    let plain = liblzma::read::XzDecoder::new(BufReader::new(entry));
                    tar::Archive::new(plain).unpack(folder).context("cannot unpack it")?;
                }
            }
            Ok(())
        })?;
        let published =
            published.with_context(|| format!("package {} holds no kernel source", package.name))?;
        let path = fs::read_dir(folder)?.next().context("the kernel's source is empty")??.path();
        let date =
            Command::new("date").args(["-u", "-d", &format!("@{published}")]).env("LC_ALL", "C").output();
        let date = String::from_utf8(date.context("cannot run date")?.stdout)?.trim().to_owned();
        Ok(Self { path, date })
    }

    /// Makes `.config` of the requests.
    pub(super) fn configure(&self, requests: &str) -> Result<()> {
        fs::write(self.path.join(REQUESTS), requests)?;
        let mut make = self.make(&CONFIGURE);
        make.env("KCONFIG_ALLCONFIG", REQUESTS);
        self.run(make, |_| {})
    }

    /// Compiles kernel and modules.
    pub(super) fn compile(&self, progress: &Progress) -> Result<()> {
        let targets: &[&str] = if self.has_modules()? { &COMPILE } else { &COMPILE_WITHOUT_MODULES };
        let mut done = 0;
        self.run(self.make(targets), |line| {
            done += 1;
            progress.detail(done, line.trim());
        })
    }

    /// Puts what an image takes into `folder`: `vmlinuz`, `vmlinux` (for monitors that start it without firmware),
    /// `release`, `config`, and with modules `modules` as they are installed.
    pub(super) fn collect(&self, folder: &Path) -> Result<()> {
        let copy = |from: &str, to: &str| {
            let from = self.path.join(from);
            fs::copy(&from, folder.join(to)).with_context(|| format!("cannot copy {}", from.display()))
        };
        copy("arch/x86/boot/bzImage", "vmlinuz")?;
        copy("include/config/kernel.release", "release")?;
        copy(".config", "config")?;
        if self.has_modules()? {
            self.run(self.make(&INSTALL_MODULES), |_| {})?;
            let installed = self.path.join("installed/lib/modules");
            let installed = fs::read_dir(&installed)?.next().context("no module was installed")??.path();
            fs::rename(installed, folder.join("modules"))?;
            return Ok(());
        }
        let [program, option] = STRIP;
        let mut strip = self.command(program);
        strip.arg(option).arg("-o").arg(folder.join("vmlinux")).arg("vmlinux");
        self.run(strip, |_| {})
    }

    /// A file of the tree.
    pub(super) fn read(&self, name: &str) -> Result<String> {
        let path = self.path.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn has_modules(&self) -> Result<bool> {
        Ok(self.read(".config")?.lines().any(|line| line == "CONFIG_MODULES=y"))
    }

    fn make(&self, targets: &[&str]) -> Command {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut make = self.command("make");
        make.arg(format!("-j{jobs}")).args(targets);
        make
    }

    /// A program in surroundings that are the same everywhere.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(IDENTITY).envs([("LC_ALL", "C"), ("TZ", "UTC"), ("KBUILD_BUILD_TIMESTAMP", &self.date)]);
        command
    }

    /// Runs a command in the tree; each line of its output is handed to `said`. A failure shows the end of its errors.
    fn run(&self, mut command: Command, mut said: impl FnMut(&str)) -> Result<()> {
        let program = command.get_program().display().to_string();
        let errors = self.path.join("errors.log");
        command.current_dir(&self.path).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(&errors)?);
        let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
        let output = child.stdout.take().context("a pipe was asked for")?;
        for line in BufReader::new(output).lines() {
            said(&line?);
        }
        let status = child.wait().with_context(|| format!("cannot wait for {program}"))?;
        if !status.success() {
            let errors = fs::read_to_string(&errors).unwrap_or_default();
            let lines: Vec<_> = errors.lines().collect();
            let end = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
            bail!("{program} failed ({status}):\n{end}");
        }
        Ok(())
    }
}
