//! Loads what a kernel with modules has as modules.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use modules::Index;
use plan::paths;
use rustix::io::Errno;
use sys::console;

/// The modules of the image; none for a kernel that has everything built in.
#[derive(Default)]
pub(crate) struct Drivers {
    index: Index,
    loaded: BTreeSet<String>,
}

impl Drivers {
    pub(crate) fn open() -> Self {
        let path = Path::new(paths::MODULES).join("index.json");
        let index = if path.exists() { plan::read_json(&path).unwrap_or_default() } else { Index::default() };
        Self { index, loaded: BTreeSet::new() }
    }

    /// Loads those of `names` that the image has, and what they need. The check will say what did not come.
    pub(crate) fn load(&mut self, names: &[&str]) {
        for (name, module) in self.index.load_order(names.iter().copied()) {
            if !self.loaded.insert(name.to_owned()) || Path::new("/sys/module").join(name).exists() {
                continue;
            }
            let file = File::open(Path::new(paths::MODULES).join(&module.file));
            match file.map(|file| rustix::system::finit_module(&file, c"", 0)) {
                Ok(Ok(()) | Err(Errno::EXIST | Errno::NODEV)) => {}
                other => console::warning(format_args!("kernel-probe: module {name}: {other:?}")),
            }
        }
    }
}
