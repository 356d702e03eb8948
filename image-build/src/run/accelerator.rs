//! Whether the guest runs on KVM or by emulation.
//!
//! The device node alone says little: inside other virtual machines it may exist and yet run no normal guest. So a
//! guest is tried: the build's own kernel, without a root, must get as far as its panic.

use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;

use super::machine::QEMU;

/// What the caller asks for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Choice {
    /// KVM when it really works
    Auto,
    /// KVM or nothing
    Kvm,
    /// Emulation
    Tcg,
}

/// How the guest's instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    Tcg,
}

/// A kernel is through in about a second where KVM works.
const TRIAL: Duration = Duration::from_secs(10);

/// Decides, trying `kernel` when it must.
pub(super) fn choose(choice: Choice, kernel: &Path) -> anyhow::Result<Accelerator> {
    match choice {
        Choice::Tcg => Ok(Accelerator::Tcg),
        Choice::Kvm if works(kernel)? => Ok(Accelerator::Kvm),
        Choice::Kvm => bail!("KVM does not run a guest here: try --accel tcg"),
        Choice::Auto if works(kernel)? => Ok(Accelerator::Kvm),
        Choice::Auto => {
            eprintln!("image-build: KVM does not run a guest here, emulating (slower)");
            Ok(Accelerator::Tcg)
        }
    }
}

/// Boots `kernel` without a root on KVM: it must panic and, told not to wait, end the guest.
fn works(kernel: &Path) -> anyhow::Result<bool> {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(false);
    }
    if !kernel.exists() {
        bail!("cannot find {}: run `image-build build` first", kernel.display());
    }
    let mut log = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut guest = Command::new(QEMU)
        .args(["-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "256"])
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-kernel"])
        .arg(kernel)
        .args(["-append", "panic=-1 cryptomgr.notests"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.try_clone().context("cannot share a temporary file")?)
        .spawn()
        .with_context(|| format!("cannot start {QEMU}"))?;
    let start = Instant::now();
    let worked = loop {
        if let Some(status) = guest.try_wait().context("cannot wait for QEMU")? {
            break status.success();
        }
        let mut said = String::new();
        log.rewind()?;
        log.read_to_string(&mut said)?;
        if said.contains("KVM internal error") || start.elapsed() > TRIAL {
            guest.kill().context("cannot end QEMU")?;
            guest.wait().context("cannot wait for QEMU")?;
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Ok(worked)
}
