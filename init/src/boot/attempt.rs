//! The boot as the recorder counts it: begun in the initrd before the root is touched, so that whatever happens from
//! there on is known at the next boot.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use slots::{MAX_FAILURES, RootHash, Slot, Slots, Verdict};

use super::{BootDisk, disk};
use crate::boot::Drivers;
use crate::gate::esp;
use crate::{console, recorder, trace};

/// The recorder of this boot, for last words.
static RECORDER: OnceLock<PathBuf> = OnceLock::new();

/// What it takes to give a slot up: the boot loader's variables and its partition.
const ESP_DRIVERS: [&str; 4] = ["efivarfs", "vfat", "nls_ascii", "nls_cp437"];

/// What is to be done with this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Go on; if it fails, another slot is there to go back to, or not.
    Go { fallback: bool },
    /// The slot was given up: reboot into the other one.
    GivenUp { to: Slot },
    /// It failed too often and there is nothing else to boot.
    Stop { attempts: u32 },
}

/// Remembers where last words go.
pub(super) fn remember(disk: &BootDisk) {
    if let Some(path) = &disk.recorder {
        // It is the same one whoever sets it first.
        RECORDER.set(path.clone()).ok();
    }
}

/// Counts a boot of `root_hash` from the disk. Without a recorder that works it goes on uncounted.
pub(super) fn begin(disk: &BootDisk, root_hash: RootHash, drivers: &mut Drivers) -> Fate {
    let Some(path) = &disk.recorder else {
        console::warning("the disk has no recorder partition: failed boots are not counted");
        return Fate::Go { fallback: false };
    };
    remember(disk);
    let (verdict, fallback) = match count(path, disk, root_hash) {
        Ok(counted) => counted,
        Err(error) => {
            console::warning(format_args!("cannot count this boot on {}: {error}", path.display()));
            return Fate::Go { fallback: false };
        }
    };
    match verdict {
        Verdict::Go { attempt } => {
            if attempt > 1 {
                let failed = attempt.saturating_sub(1);
                let slot = disk.slot;
                console::warning(format_args!(
                    "slot {slot} has not come up {failed} of {MAX_FAILURES} times"
                ));
            }
            Fate::Go { fallback }
        }
        Verdict::GiveUp { to } => {
            drivers.load(&ESP_DRIVERS);
            if let Err(error) = esp::give_up(disk.esp.as_deref()) {
                console::error(format_args!("cannot tell the boot loader to boot slot {to}: {error}"));
            }
            Fate::GivenUp { to }
        }
        Verdict::Stop { attempts } => Fate::Stop { attempts },
    }
}

/// Counts the boot, and tells whether the other slot could be booted instead.
fn count(path: &Path, disk: &BootDisk, root_hash: RootHash) -> io::Result<(Verdict, bool)> {
    let mut recorder = recorder::open(path)?;
    let other = recorder.slots().get(disk.slot.other()).root_hash;
    let bootable = other.is_some_and(|other| disk::find_root(&other).is_some());
    let verdict = recorder.update(|slots: &mut Slots| slots.begin_boot(disk.slot, root_hash, bootable));
    let verdict = verdict.map_err(io::Error::other)?;
    recorder.device().sync_data()?;
    Ok((verdict, bootable && recorder.slots().has_fallback(disk.slot)))
}

/// `disk` with the slot in which a root that is on no disk was meant to be: the one not known to hold another.
pub(super) fn missing(disk: BootDisk, root_hash: RootHash) -> BootDisk {
    let slots = disk.recorder.as_deref().and_then(|path| Some(*recorder::open(path).ok()?.slots()));
    let slots = slots.unwrap_or_default();
    let known = [Slot::A, Slot::B].into_iter().find(|slot| slots.get(*slot).root_hash == Some(root_hash));
    let slot = known.unwrap_or(if slots.get(Slot::A).proven { Slot::B } else { Slot::A });
    BootDisk { slot, ..disk }
}

/// Writes down that this boot has failed, and why.
pub(crate) fn failed(reason: &str) {
    let Some(path) = RECORDER.get() else { return };
    let written = recorder::open(path).and_then(|mut recorder| {
        let now = trace::since_boot_us().saturating_mul(1000);
        recorder.append(now, reason).map_err(io::Error::other)?;
        recorder.device().sync_data()
    });
    if let Err(error) = written {
        console::warning(format_args!("cannot record this on {}: {error}", path.display()));
    }
}
