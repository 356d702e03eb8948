//! The `run` command: boots a build in QEMU with its console on this terminal.
//!
//! The artifacts are never written to: the guest gets a private copy of the disk and of the firmware's variables.
//! A host that cannot do something (no QEMU, no firmware) is told so before anything starts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use regex::bytes::Regex;

mod accelerator;
mod console;
mod disk;
mod machine;
mod seed;

use accelerator::Accelerator;
use console::Outcome;
use machine::{Boot, Firmware, Machine, Network, Platform, PortForward, Tap};

/// Arguments of `run`.
///
/// Exit status: 0 when the guest powered off or `--until` matched, 3 when the time was up, 4 when its kernel
/// panicked, 1 for everything else.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 powered off or matched, 3 time-out, 4 guest panic, 1 other errors.\n\
                        On a terminal, ctrl-a x ends the guest and ctrl-a c opens QEMU's monitor.")]
pub(crate) struct Args {
    /// Boot the disk image through UEFI (the default)
    #[arg(long, group = "mode")]
    disk: bool,
    /// Boot kernel and initrd directly, with the disk attached
    #[arg(long, group = "mode")]
    direct: bool,
    /// Boot kernel and the initrd that carries the root, without a disk
    #[arg(long, group = "mode")]
    netboot: bool,
    /// Boot the uncompressed kernel on QEMU's microvm, without firmware and PCI, with the disk attached
    #[arg(long, group = "mode")]
    microvm: bool,
    /// Give the guest a real machine's disks and adapters (SATA, e1000e) instead of virtual ones
    #[arg(long, conflicts_with = "microvm")]
    hardware: bool,
    /// Directory of the build
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Give the guest this file as its user-data
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// How the user-data reaches the guest
    #[arg(long, value_enum, default_value_t = Seed::Vfat)]
    seed: Seed,
    /// Forward a TCP port of 127.0.0.1 to the guest
    #[arg(long = "port", value_name = "HOST:GUEST")]
    ports: Vec<PortForward>,
    /// The guest's memory in MiB
    #[arg(long, value_name = "N", default_value_t = 512)]
    memory: u32,
    /// The guest's processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u32,
    /// Boot this disk image in place, and write to it, instead of a copy of the build's
    #[arg(long, value_name = "FILE")]
    disk_image: Option<PathBuf>,
    /// Grow the disk to this size (with K, M, G or T)
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_size)]
    disk_size: u64,
    /// Keep the disk and the firmware's variables in the build's directory, and go on from there the next time
    #[arg(long, conflicts_with = "disk_image")]
    keep: bool,
    /// Attach no disk
    #[arg(long, conflicts_with_all = ["disk", "disk_image", "keep"])]
    no_disk: bool,
    /// Attach no network
    #[arg(long, conflicts_with = "ports")]
    no_network: bool,
    /// Plug a link of the guest into this tap device of the host, instead of QEMU's own network
    #[arg(long = "tap", value_name = "NAME[,MAC]", conflicts_with_all = ["ports", "no_network"])]
    taps: Vec<Tap>,
    /// Have a slot that a device can be plugged into while the guest runs (QEMU's bus `later`)
    #[arg(long)]
    hot_plug: bool,
    /// Let the firmware say this of the machine (an argument of QEMU's -smbios)
    #[arg(long, value_name = "FIELDS")]
    smbios: Vec<String>,
    /// Let the hardware clock begin at this time (UTC), as in 2026-12-31T23:59:00, instead of the right one
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    clock: Option<String>,
    /// Attach one more raw disk
    #[arg(long = "drive", value_name = "FILE")]
    drives: Vec<PathBuf>,
    /// Add to the kernel command line (not with --disk, whose command line is sealed)
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
    /// End the guest when a line of the console matches
    #[arg(long, value_name = "REGEX")]
    until: Option<Regex>,
    /// End the guest after so many seconds
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// Write the console to this file, too
    #[arg(long, value_name = "FILE")]
    serial: Option<PathBuf>,
    /// Let the guest go on after a kernel panic (it reboots by itself)
    #[arg(long)]
    ignore_panic: bool,
    /// End when the guest reboots
    #[arg(long)]
    no_reboot: bool,
    /// Run on KVM or by emulation
    #[arg(long, value_enum, default_value_t = accelerator::Choice::Auto)]
    accel: accelerator::Choice,
}

/// How user-data reaches the guest.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Seed {
    /// NoCloud on a FAT disk
    Vfat,
    /// NoCloud on an ISO 9660 disk (needs genisoimage or xorriso)
    Iso,
    /// On the kernel command line
    Cmdline,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let work = tempfile::tempdir().context("cannot make a temporary directory")?;
    let machine = plan_machine(args, work.path())?;
    let until = args.until.clone();
    let limits = console::Limits {
        until,
        timeout: args.timeout.map(Duration::from_secs),
        end_on_panic: !args.ignore_panic,
        serial: args.serial.clone(),
    };
    let outcome = console::attend(&mut machine.command(), &limits)?;
    Ok(match outcome {
        Outcome::PoweredOff | Outcome::Matched => ExitCode::SUCCESS,
        Outcome::TimedOut => {
            eprintln!("image-build: the guest did not get there in time");
            ExitCode::from(3)
        }
        Outcome::Panicked => {
            eprintln!("image-build: the guest's kernel panicked");
            ExitCode::from(4)
        }
        Outcome::Interrupted => ExitCode::FAILURE,
    })
}

/// Turns the arguments into a machine, with everything it needs made below `work`.
fn plan_machine(args: &Args, work: &Path) -> anyhow::Result<Machine> {
    machine::find_qemu()?;
    let mut extra = args.append.clone().unwrap_or_default();
    let mut drives = Vec::new();
    if !args.netboot && !args.no_disk {
        drives.push(prepare_disk(args, work)?);
    }
    if let Some(file) = &args.user_data {
        let user_data =
            std::fs::read(file).with_context(|| format!("cannot read user-data {}", file.display()))?;
        match args.seed {
            Seed::Vfat => drives.push(seed::vfat(&user_data, work)?),
            Seed::Iso => drives.push(seed::iso(&user_data, work)?),
            Seed::Cmdline => extra = format!("{extra} {}", seed::kernel_parameter(&user_data)?),
        }
    }
    drives.extend(args.drives.iter().cloned());

    let kernel = args.out.join("direct/vmlinuz");
    let accelerator = accelerator::choose(args.accel, &kernel)?;
    let boot = if args.microvm {
        if accelerator == Accelerator::Tcg {
            extra = format!("{extra} {}", machine::time_stamp_counter());
        }
        direct_boot(&args.out.join("microvm"), "vmlinux", extra.trim())?
    } else if args.direct || args.netboot {
        let kind = if args.direct { "direct" } else { "netboot" };
        direct_boot(&args.out.join(kind), "vmlinuz", extra.trim())?
    } else if extra.trim().is_empty() {
        Boot::Uefi(firmware(args, work)?)
    } else {
        bail!(
            "a disk boots with the command line in its kernel image: use --direct or --netboot to add to it"
        );
    };
    Ok(Machine {
        platform: match (args.microvm, args.hardware) {
            (true, _) => Platform::Microvm,
            (_, true) => Platform::Hardware,
            _ => Platform::Q35,
        },
        accelerator,
        boot,
        memory: args.memory,
        cpus: args.cpus,
        drives,
        network: match args.taps.as_slice() {
            [] if args.no_network => Network::None,
            [] => Network::User(args.ports.clone()),
            taps => Network::Taps(taps.to_vec()),
        },
        smbios: args.smbios.clone(),
        clock: args.clock.clone(),
        hot_plug: args.hot_plug,
        reboots: !args.no_reboot,
    })
}

/// The disk the guest may write to.
fn prepare_disk(args: &Args, work: &Path) -> anyhow::Result<PathBuf> {
    let disk = match &args.disk_image {
        Some(disk) => disk.clone(),
        None => {
            let disk = if args.keep { args.out.join("disk.raw") } else { work.join("disk.raw") };
            if !disk.exists() {
                disk::copy_sparse(&args.out.join("holdfast.raw"), &disk)?;
            }
            disk
        }
    };
    disk::grow(&disk, args.disk_size)?;
    Ok(disk)
}

/// The firmware, with variables the guest may write to.
fn firmware(args: &Args, work: &Path) -> anyhow::Result<Firmware> {
    let installed = machine::find_firmware()?;
    let variables =
        if args.keep { args.out.join("uefi-variables.fd") } else { work.join("uefi-variables.fd") };
    if !variables.exists() {
        std::fs::copy(&installed.variables, &variables)
            .with_context(|| format!("cannot copy {}", installed.variables.display()))?;
    }
    Ok(Firmware { code: installed.code, variables })
}

/// Kernel, initrd and command line from `dir`.
fn direct_boot(dir: &Path, kernel: &str, extra: &str) -> anyhow::Result<Boot> {
    let (kernel, initrd, cmdline) = (dir.join(kernel), dir.join("initrd.img"), dir.join("cmdline"));
    let cmdline = std::fs::read_to_string(&cmdline)
        .with_context(|| format!("cannot read {}: run `image-build build` first", cmdline.display()))?;
    Ok(Boot::Kernel { kernel, initrd, cmdline: format!("{} {extra}", cmdline.trim()).trim().to_owned() })
}

/// A date, maybe with a time of day, as QEMU takes it; QEMU sees whether there is such a day.
fn parse_time(text: &str) -> Result<String, String> {
    let form = Regex::new(r"^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d)?$").map_err(|error| error.to_string())?;
    let message = "expected a date, maybe with a time of day, as in 2026-12-31T23:59:00";
    if form.is_match(text.as_bytes()) { Ok(text.to_owned()) } else { Err(message.to_owned()) }
}

/// A size in bytes with an optional binary suffix.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match text.get(digits.len()..) {
        Some("") => 0,
        Some("K") => 10,
        Some("M") => 20,
        Some("G") => 30,
        Some("T") => 40,
        _ => return Err("more than one suffix".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number, maybe with K, M, G or T".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "larger than a disk can be".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_maybe_with_a_time_of_day() {
        for (text, valid) in [
            ("1970-01-01", true),
            ("2026-12-31T23:59:00", true),
            ("2026-12-31T23:59", false),
            ("now", false),
            ("utc,clock=vm", false),
        ] {
            assert_eq!(parse_time(text).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_suffixes() {
        for (text, size) in
            [("0", Some(0)), ("512", Some(512)), ("2M", Some(2 << 20)), ("64G", Some(64 << 30))]
        {
            assert_eq!(parse_size(text).ok(), size, "{text}");
        }
        for text in ["", "G", "1GG", "1X", "-1", "99999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
