//! The flight recorder as the running system uses it: decisions, and the lines that somebody will look for after a
//! crash. Lines go to the page cache, so PID 1 does not wait for the disk; only the end of a boot does.

use std::fs::File;
use std::io;
use std::path::Path;

use slots::{Recorder, Slots};

use crate::{console, trace};

/// The recorder, if the machine has one that works.
#[derive(Debug)]
pub(crate) struct FlightRecorder(Option<Recorder<File>>);

impl FlightRecorder {
    /// Opens it; a machine without one goes on without.
    pub(crate) fn open(device: Option<&Path>) -> Self {
        Self(device.and_then(|device| {
            let opened = open(device);
            opened
                .map_err(|error| console::warning(format_args!("cannot open {}: {error}", device.display())))
                .ok()
        }))
    }

    /// Adds a line.
    pub(crate) fn note(&mut self, text: &str) {
        self.attempt(|recorder| recorder.append(trace::since_boot_us().saturating_mul(1000), text));
    }

    /// Says that the boot that is going on is no failure of its slot. `init bless` may have changed the state since
    /// it was read, so it is read anew.
    pub(crate) fn forgive(&mut self) {
        self.attempt(|recorder| {
            recorder.reload()?;
            recorder.update(Slots::forgive)
        });
    }

    /// What is known of the slots.
    pub(crate) fn slots(&self) -> Option<&Slots> {
        self.0.as_ref().map(Recorder::slots)
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&self) {
        if let Some(recorder) = &self.0
            && let Err(error) = recorder.device().sync_data()
        {
            console::warning(format_args!("cannot write the recorder: {error}"));
        }
    }

    fn attempt(&mut self, change: impl FnOnce(&mut Recorder<File>) -> Result<(), slots::Error>) {
        if let Some(recorder) = &mut self.0
            && let Err(error) = change(recorder)
        {
            console::warning(console::chain(&error));
            self.0 = None;
        }
    }
}

/// Opens the recorder on a partition.
pub(crate) fn open(device: &Path) -> io::Result<Recorder<File>> {
    Recorder::open(File::options().read(true).write(true).open(device)?).map_err(io::Error::other)
}
