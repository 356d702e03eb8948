//! Kernel modules that the agent itself needs: those of the file systems that user-data comes on, and of links that are
//! made.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::path::Path;

use modules::Module;
use plan::paths;

use crate::console;

/// Loads modules and what they need. One that fails is said; what needs it will fail, too.
pub(crate) fn load(names: &[&str]) {
    let path = Path::new(paths::MODULES).join("index.json");
    if !path.exists() {
        // A kernel with everything built in.
        return;
    }
    let index: modules::Index = match plan::read_json(&path) {
        Ok(index) => index,
        Err(error) => return console::warning(console::chain(&error)),
    };
    for (name, module) in index.load_order(names.iter().copied()) {
        if !Path::new("/sys/module").join(name).exists()
            && let Err(error) = insert(module, parameters(name))
        {
            console::warning(format_args!("cannot load kernel module {name}: {error}"));
        }
    }
}

/// The kernel unpacks the file itself (`include/uapi/linux/module.h`).
const MODULE_INIT_COMPRESSED_FILE: i32 = 4;

/// What a module is told. That of bonds makes one of its own accord otherwise.
fn parameters(name: &str) -> &'static CStr {
    if name == "bonding" { c"max_bonds=0" } else { c"" }
}

fn insert(module: &Module, parameters: &CStr) -> io::Result<()> {
    let file = File::open(Path::new(paths::MODULES).join(&module.file))?;
    let flags = if module.file.ends_with(".xz") { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    match rustix::system::finit_module(&file, parameters, flags) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        result => Ok(result?),
    }
}
