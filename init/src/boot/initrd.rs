//! The first half of the boot, in the initrd: find the root, verify it, enter it.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use modules::Stage;
use plan::paths;
use rustix::mount::{MountFlags, mount, mount_move};
use slots::{MAX_FAILURES, RootHash, Slot};

use super::attempt::Fate;
use super::disk::RootOnDisk;
use super::drivers::Drivers;
use super::handoff::Handoff;
use super::{BootDisk, attempt, cmdline, disk, stop, verity};
use crate::trace::Trace;
use crate::watchdog::Watchdog;
use crate::{console, shutdown};

/// The root and its hash tree when they come with the initrd.
const CARRIED: [&str; 2] = ["/root.erofs", "/root.verity"];

/// Where the root is mounted before it becomes `/`.
const NEW_ROOT: &str = "/root";

/// SHA-256 with the processor's vector instructions: it checks the root and the signatures of the other modules in
/// less than half the time, and has to be there before them.
const HASH_DRIVER: &str = "sha256_ssse3";

/// Drivers of watchdogs, by name: they are loaded before those of other devices.
const WATCHDOGS: [&str; 2] = ["i6300esb", "wdat_wdt"];

/// How long to wait for the disk with the root: controllers and buses take their time.
const DISK_LIMIT: Duration = Duration::from_secs(10);

/// How often to look for it.
const DISK_PAUSE: Duration = Duration::from_millis(100);

/// The memory that must be free for anything more than this message, in KiB. A machine of 80 MiB has 13.5 MiB free
/// here and carries PID 1, the agent and a small container; with 76 MiB the kernel itself does not start.
const MEMORY_KIB: u64 = 12 * 1024;

/// Why the root could not be entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "{available} KiB of memory are free and {MEMORY_KIB} KiB are needed; give the machine more memory"
    )]
    Memory { available: u64 },
    #[error("cannot read the kernel command line")]
    Cmdline(#[source] io::Error),
    #[error("the kernel command line has no {}=: this is not a Holdfast boot entry", paths::CMDLINE_ROOT)]
    NoRootHash,
    #[error(transparent)]
    RootHash(slots::InvalidRootHash),
    #[error(
        "no disk has the root {root_hash} (disks seen: {seen}); attach the disk, or boot an entry that matches it"
    )]
    NotFound { root_hash: RootHash, seen: String },
    #[error("cannot attach {file} to a loop device")]
    Loop { file: &'static str, source: io::Error },
    #[error(transparent)]
    Verity(verity::Error),
    #[error("cannot mount the root from {device}")]
    Mount { device: PathBuf, source: io::Error },
    #[error("cannot enter the root: {operation}")]
    Enter { operation: &'static str, source: io::Error },
    #[error("slot {} has failed {MAX_FAILURES} times: it is given up for slot {to}", .to.other())]
    GivenUp { to: Slot },
    #[error("the last {attempts} boots did not come up, and there is no other version to boot")]
    Exhausted { attempts: u32 },
}

/// Enters the root; comes back only with the reason why it could not.
///
/// - Standard input and output are nothing: a console that nobody reads must not block PID 1.
/// - /proc, /sys, /dev and /run are mounted, and move along into the root.
/// - The watchdog is armed before anything that may hang.
/// - The root is whatever has the root hash of the command line: in this initrd, or on any disk.
/// - The boot is counted on the recorder before the root is touched: whatever happens from here on, it is known.
/// - Nothing of the root is used but through dm-verity.
/// - What the root's init has to know is left for it on /run.
pub(crate) fn enter_root(mut trace: Trace) -> ! {
    trace.reached("init-start");
    let mut drivers = Drivers::open();
    drivers.load(&[HASH_DRIVER]);
    let watchdog = arm_watchdog(&mut drivers);
    let mut fallback = false;
    let Err(error) = try_enter(trace.clone(), &mut drivers, watchdog.as_ref(), &mut fallback);
    let reason = console::chain(&error);
    attempt::failed(&reason);
    if matches!(error, Error::Verity(_) | Error::Mount { .. }) {
        trace.reached("corrupt");
    }
    if fallback {
        console::error(reason);
        trace.reached("fallback");
        shutdown::restart()
    }
    stop::stop(&reason, watchdog.as_ref())
}

/// `fallback` becomes true when this boot is counted and another version is there to be booted instead.
fn try_enter(
    mut trace: Trace,
    drivers: &mut Drivers,
    watchdog: Option<&Watchdog>,
    fallback: &mut bool,
) -> Result<Infallible, Error> {
    check_memory()?;
    let cmdline = fs::read_to_string("/proc/cmdline").map_err(Error::Cmdline)?;
    let root_hash = cmdline::value(&cmdline, paths::CMDLINE_ROOT).ok_or(Error::NoRootHash)?;
    let root_hash: RootHash = root_hash.parse().map_err(Error::RootHash)?;

    let carried = CARRIED.iter().all(|file| Path::new(file).exists());
    let (data, hashes, disk) = if carried {
        drivers.load(&["loop"]);
        // The state may be on a disk all the same.
        drivers.coldplug();
        (attach(CARRIED[0])?, attach(CARRIED[1])?, None)
    } else {
        let found = wait_for_root(&root_hash, drivers, watchdog);
        let missing = || disk::find_recorder().map(|disk| attempt::missing(disk, root_hash));
        if let Some(disk) = found.as_ref().map(|found| found.disk.clone()).ok().or_else(missing) {
            *fallback = count(&disk, root_hash, drivers).inspect_err(|error| {
                *fallback = matches!(error, Error::GivenUp { .. });
            })?;
        }
        let RootOnDisk { data, hashes, disk } = found?;
        (data, hashes, Some(disk))
    };
    drivers.stage(Stage::Root);
    let device = verity::open(&data, &hashes, &root_hash).map_err(Error::Verity)?;
    verity::set_read_ahead(&device, verity::BOOT_READ_AHEAD);
    mount_root(&device)?;
    // From here rather than from the root, where every byte of them would be hashed once more.
    drivers.stage(Stage::State);
    drivers.stage(Stage::Container);
    trace.reached("root-open");

    let passed = watchdog.map(Watchdog::pass).transpose();
    let watchdog = passed.map_err(|source| Error::Enter { operation: "passing the watchdog", source })?;
    let handoff = Handoff { root_hash, disk, watchdog, trace };
    handoff.leave().map_err(|source| Error::Enter { operation: "leaving word on /run", source })?;
    switch_root().map_err(|source| Error::Enter { operation: "making it /", source })?;
    let source = Command::new(paths::INIT).env_clear().exec();
    Err(Error::Enter { operation: "executing its init", source })
}

/// Counts this boot; gives whether another version is there to be booted instead if it fails.
fn count(disk: &BootDisk, root_hash: RootHash, drivers: &mut Drivers) -> Result<bool, Error> {
    match attempt::begin(disk, root_hash, drivers) {
        Fate::Go { fallback } => Ok(fallback),
        Fate::GivenUp { to } => Err(Error::GivenUp { to }),
        Fate::Stop { attempts } => Err(Error::Exhausted { attempts }),
    }
}

/// Refuses to go on with less memory than it takes: a clear message is better than an out-of-memory panic.
fn check_memory() -> Result<(), Error> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.split_ascii_whitespace().next()?.parse().ok());
    match available {
        Some(available) if available < MEMORY_KIB => Err(Error::Memory { available }),
        _ => Ok(()),
    }
}

/// Arms the hardware's watchdog, or the kernel's own when there is none.
fn arm_watchdog(drivers: &mut Drivers) -> Option<Watchdog> {
    while drivers.serve_one(|name| WATCHDOGS.contains(&name)) {}
    let armed = Watchdog::arm().or_else(|_| {
        drivers.load(&["softdog"]);
        Watchdog::arm()
    });
    armed.map_err(|error| console::warning(format_args!("no watchdog guards this boot: {error}"))).ok()
}

/// Waits until a disk with the root is there. Drivers are loaded one by one until it is found: each takes its time.
fn wait_for_root(
    root_hash: &RootHash,
    drivers: &mut Drivers,
    watchdog: Option<&Watchdog>,
) -> Result<RootOnDisk, Error> {
    let began = Instant::now();
    loop {
        if let Some(found) = disk::find_root(root_hash) {
            return Ok(found);
        }
        if drivers.serve_one(|_| true) {
            continue;
        }
        if began.elapsed() > DISK_LIMIT {
            let seen: Vec<_> = disk::disks().map(|disk| disk.display().to_string()).collect();
            let seen = if seen.is_empty() { "none".to_owned() } else { seen.join(" ") };
            return Err(Error::NotFound { root_hash: *root_hash, seen });
        }
        if let Some(watchdog) = watchdog {
            watchdog.pet();
        }
        thread::sleep(DISK_PAUSE);
    }
}

/// A file of the initrd as a read-only block device.
fn attach(file: &'static str) -> Result<PathBuf, Error> {
    fs::File::open(file)
        .and_then(|opened| sys::loop_device::attach(&opened, true))
        .map_err(|source| Error::Loop { file, source })
}

fn mount_root(device: &Path) -> Result<(), Error> {
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    fs::create_dir_all(NEW_ROOT)
        .and_then(|()| Ok(mount(device, NEW_ROOT, "erofs", flags, None)?))
        .map_err(|source| Error::Mount { device: device.into(), source })
}

/// Makes the root `/` (pivot_root does not work in an initramfs) and frees what the initrd held in memory.
fn switch_root() -> io::Result<()> {
    for system in ["/dev", "/proc", "/sys", "/run"] {
        mount_move(system, format!("{NEW_ROOT}{system}"))?;
    }
    for file in CARRIED.iter().chain(&["/init"]) {
        // What is not there need not be freed; the loop devices keep what they use.
        fs::remove_file(file).ok();
    }
    fs::remove_dir_all("/usr").ok();
    std::env::set_current_dir(NEW_ROOT)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")
}
