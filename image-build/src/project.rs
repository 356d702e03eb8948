//! The project that is built: where it is, and the time that its artifacts carry.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Finds the project from the current directory upwards, else from this program upwards (`target/release` is below it).
pub(crate) fn find() -> Result<PathBuf> {
    let here = env::current_dir().context("cannot tell the current directory")?;
    let program = env::current_exe().unwrap_or_default();
    let mut folders = here.ancestors().chain(program.ancestors());
    let found = folders.find(|folder| folder.join("rootfs/root.toml").is_file());
    found.map(Path::to_owned).context("cannot find rootfs/root.toml: run this inside the Holdfast project")
}

/// Seconds since the epoch that every artifact carries: `SOURCE_DATE_EPOCH`, else the time of the last commit.
pub(crate) fn epoch(project: &Path) -> Result<u64> {
    if let Ok(text) = env::var("SOURCE_DATE_EPOCH") {
        return text.parse().with_context(|| format!("SOURCE_DATE_EPOCH={text} is no number of seconds"));
    }
    let git = Command::new("git").arg("-C").arg(project).args(["log", "-1", "--format=%ct"]).output();
    let time = git.ok().and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok());
    time.context("cannot tell the time of the last commit: set SOURCE_DATE_EPOCH")
}
