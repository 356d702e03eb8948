//! From the first instruction to a host that can run services.
//!
//! Two halves, run by two programs that are the same: the initrd's init finds, verifies and enters the root
//! ([`initrd`]), the root's init prepares the host. In the first half an error is fatal and ends in the other slot or
//! in standing still; in the second every error costs what it concerns, is said, and the boot goes on.

mod attempt;
mod cmdline;
mod disk;
mod drivers;
mod handoff;
mod initrd;
mod stop;
mod verity;

use std::fs;
use std::io;
use std::path::PathBuf;

use plan::paths;
use rustix::mount::{MountFlags, mount};
use serde::{Deserialize, Serialize};
use slots::{RootHash, Slot};

use crate::state::State;
use crate::trace::Trace;
use crate::watchdog::Watchdog;
use crate::{console, host, state};
use handoff::Handoff;

pub(crate) use attempt::failed as record_failure;
pub(crate) use disk::{disks, partition_node, read_table};
pub(crate) use drivers::Drivers;
pub(crate) use verity::{READ_AHEAD, set_read_ahead};

/// What booting has found out and made: all that the runtime needs to go on.
#[derive(Debug)]
pub(crate) struct Booted {
    /// The verified root.
    pub(crate) root_hash: RootHash,
    /// The disk the root is on; none when it came with the initrd.
    pub(crate) disk: Option<BootDisk>,
    /// The watchdog, armed; somebody has to pet it from now on.
    pub(crate) watchdog: Option<Watchdog>,
    /// The boot's stages so far.
    pub(crate) trace: Trace,
    /// Where `/var` lives.
    pub(crate) state: State,
}

/// The disk that holds the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BootDisk {
    /// The whole disk, such as `/dev/vda`.
    pub(crate) device: PathBuf,
    /// The slot that was booted.
    #[serde(with = "handoff::slot")]
    pub(crate) slot: Slot,
    /// The recorder partition.
    pub(crate) recorder: Option<PathBuf>,
    /// The EFI system partition.
    pub(crate) esp: Option<PathBuf>,
}

/// Boots the node. In the initrd it comes back only as the root's init.
pub(crate) fn boot() -> Booted {
    match Handoff::take() {
        Ok(Some(handoff)) => prepare_host(handoff),
        Ok(None) => {
            if let Err(error) = early_mounts() {
                console::error(format_args!("cannot mount the kernel's file systems: {error}"));
            }
            initrd::enter_root(Trace::default())
        }
        Err(error) => stop::stop(&format!("cannot read what the initrd left on /run: {error}"), None),
    }
}

/// What the kernel offers as files, and a place for what is true until the next boot.
fn early_mounts() -> io::Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounts = [
        ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755"),
        ("proc", "/proc", quiet, c""),
        ("sysfs", "/sys", quiet, c""),
        ("tmpfs", "/run", quiet, c"mode=0755"),
    ];
    for (kind, target, flags, data) in mounts {
        fs::create_dir_all(target)?;
        mount(kind, target, kind, flags, Some(data))?;
    }
    host::no_standard_streams()?;
    fs::create_dir_all(paths::RUN)?;
    // There is no modprobe: without this a kernel with modules would try to start it for every name it does not know.
    match fs::write("/proc/sys/kernel/modprobe", "\n") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The second half, on the verified root.
///
/// - Nothing here can fail the boot: what does not work is said, and what does not need it runs.
/// - `/etc`, `/tmp` and `/run` are in memory and made anew; `/var` is the state, on disk if that is possible at all.
/// - Before the first container only what it needs is loaded and done; [`crate::late`] has the rest.
fn prepare_host(handoff: Handoff) -> Booted {
    let Handoff { root_hash, disk, watchdog, mut trace } = handoff;
    let watchdog = watchdog.and_then(|passed| {
        let taken = Watchdog::take(passed);
        taken.map_err(|error| console::error(format_args!("the watchdog is lost: {error}"))).ok()
    });
    if let Some(disk) = &disk {
        attempt::remember(disk);
    }
    trace.reached("root-verified");
    crate::fault::inject();
    host::prepare();
    let pet = || watchdog.as_ref().map(Watchdog::pet);
    pet();
    let state = state::open(disk.as_ref(), watchdog.as_ref());
    host::after_state();
    trace.reached("state-ready");
    if let Err(error) = trace.save() {
        console::warning(format_args!("cannot write {}: {error}", paths::BOOT_TRACE));
    }
    Booted { root_hash, disk, watchdog, trace, state }
}
