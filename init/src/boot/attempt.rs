//! The boot as the recorder counts it: begun in the initrd, before the root is touched.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use slots::{Recorder, RootHash, Verdict};

use super::BootDisk;
use super::drivers::Drivers;
use crate::{console, trace};

/// Where this boot is recorded, for last words.
static RECORDER: OnceLock<std::path::PathBuf> = OnceLock::new();

/// Counts the boot. An error is the reason why it must not go on.
pub(crate) fn begin(disk: &BootDisk, root_hash: RootHash, _drivers: &mut Drivers) -> Result<(), String> {
    let Some(path) = &disk.recorder else {
        console::warning("the disk has no recorder partition: failed boots are not counted");
        return Ok(());
    };
    RECORDER.set(path.clone()).ok();
    let verdict = open(path).and_then(|mut recorder| {
        let verdict = recorder.update(|slots| slots.begin_boot(disk.slot, root_hash, true));
        let verdict = verdict.map_err(io::Error::other)?;
        recorder.device().sync_data()?;
        Ok(verdict)
    });
    match verdict {
        Ok(Verdict::Go { .. }) => Ok(()),
        Ok(Verdict::GiveUp { to }) => Err(format!("slot {to}")),
        Ok(Verdict::Stop { attempts }) => Err(format!("the last {attempts} boots failed")),
        Err(error) => {
            console::warning(format_args!("cannot count this boot on {}: {error}", path.display()));
            Ok(())
        }
    }
}

/// Writes down that this boot has failed, and why.
pub(crate) fn failed(reason: &str) {
    let Some(path) = RECORDER.get() else { return };
    let written = open(path).and_then(|mut recorder| {
        recorder.append(trace::since_boot_us() * 1000, reason).map_err(io::Error::other)?;
        recorder.device().sync_data()
    });
    if let Err(error) = written {
        console::warning(format_args!("cannot record this on {}: {error}", path.display()));
    }
}

fn open(path: &Path) -> io::Result<Recorder<File>> {
    Recorder::open(File::options().read(true).write(true).open(path)?).map_err(io::Error::other)
}
