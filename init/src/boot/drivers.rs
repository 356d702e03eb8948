//! Kernel modules: by stage, by name, and by what hardware is there.
//!
//! Each signed module costs tens of millions of instructions to check: only what is needed is loaded, when it is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use modules::{Index, Module, Stage};
use plan::paths;
use rustix::io::Errno;

use crate::console;

/// The modules of this image, and which of them have been loaded.
#[derive(Debug, Default)]
pub(crate) struct Drivers {
    index: Index,
    tried: BTreeSet<String>,
}

impl Drivers {
    /// Reads the index. An image without one has everything built in.
    pub(crate) fn open() -> Self {
        let path = Path::new(paths::MODULES).join("index.json");
        if !path.exists() {
            return Self::default();
        }
        let index = plan::read_json(&path).unwrap_or_else(|error| {
            console::error(console::chain(&error));
            Index::default()
        });
        Self { index, tried: BTreeSet::new() }
    }

    /// Loads the modules of a stage.
    pub(crate) fn stage(&mut self, stage: Stage) {
        let names = self.index.stages.get(&stage).cloned().unwrap_or_default();
        self.load(&names.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Loads these modules and what they need. A failure is said and survived: what needs the module will fail.
    pub(crate) fn load(&mut self, names: &[&str]) {
        for (name, module) in self.index.load_order(names.iter().copied()) {
            if self.tried.insert(name.to_owned())
                && !Path::new("/sys/module").join(name).exists()
                && let Err(error) = insert(module)
            {
                console::warning(format_args!("cannot load kernel module {name}: {error}"));
            }
        }
    }

    /// Loads the driver of one more device, and what it needs; of those that are `wanted`. False when there is none
    /// left to load: new devices may come up later and ask for more.
    pub(crate) fn serve_one(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let next = |alias: &String| {
            let mut names = self.index.for_modalias(alias);
            names.find(|name| !self.tried.contains(*name) && wanted(name)).map(str::to_owned)
        };
        let Some(name) = modaliases().iter().find_map(next) else { return false };
        self.load(&[&name]);
        true
    }

    /// Loads what the devices that are there ask for, and again for the devices that this brings up.
    pub(crate) fn coldplug(&mut self) {
        while self.serve_one(|_| true) {}
    }
}

/// MODULE_INIT_COMPRESSED_FILE of linux/module.h: the kernel unpacks it.
const COMPRESSED_FILE: i32 = 4;

fn insert(module: &Module) -> std::io::Result<()> {
    let file = File::open(Path::new(paths::MODULES).join(&module.file))?;
    let flags = if module.file.ends_with(".xz") { COMPRESSED_FILE } else { 0 };
    match rustix::system::finit_module(&file, c"", flags) {
        // There already, or for a processor or device that this machine does not have.
        Err(Errno::EXIST | Errno::NODEV) => Ok(()),
        result => Ok(result?),
    }
}

/// The `modalias` of every device: a virtual machine's own first, because they cost the least to bring up.
fn modaliases() -> Vec<String> {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut buses: Vec<PathBuf> = list(Path::new("/sys/bus")).collect();
    buses.sort_by_key(|bus| !bus.ends_with("virtio"));
    buses
        .iter()
        .flat_map(|bus| list(&bus.join("devices")))
        .filter_map(|device| fs::read_to_string(device.join("modalias")).ok())
        .map(|alias| alias.trim_end().to_owned())
        .filter(|alias| !alias.is_empty())
        .collect()
}
