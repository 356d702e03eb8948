//! The initrds: init with the modules that opening the root may take; for netboot with the root itself.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use plan::paths;

use super::kernel::Files;
use crate::cpio::Cpio;

/// Writes init and modules.
pub(crate) fn write(out: impl Write, init: &[u8], modules: &Files) -> io::Result<()> {
    begin(out, init, modules)?.finish().map(drop)
}

/// Writes init and modules, then root and hash tree as `/root.erofs` and `/root.verity`.
pub(crate) fn write_netboot(
    out: impl Write,
    init: &[u8],
    modules: &Files,
    root: &Path,
    verity: &Path,
) -> io::Result<()> {
    let mut cpio = begin(out, init, modules)?;
    for (name, path) in [("root.erofs", root), ("root.verity", verity)] {
        let file = File::open(path)?;
        cpio.file(name, false, file.metadata()?.len(), file)?;
    }
    cpio.finish().map(drop)
}

fn begin<W: Write>(out: W, init: &[u8], modules: &Files) -> io::Result<Cpio<W>> {
    let mut cpio = Cpio::new(out);
    let folder = paths::MODULES.trim_start_matches('/');
    cpio.file("init", true, init.len() as u64, init)?;
    for (end, _) in folder.match_indices('/').chain([(folder.len(), "")]) {
        cpio.directory(&folder[..end])?;
    }
    for (name, content) in modules {
        cpio.file(&format!("{folder}/{name}"), false, content.len() as u64, &content[..])?;
    }
    Ok(cpio)
}
