//! Loading kernel modules.

use std::ffi::CStr;
use std::fs::File;
use std::io;

use rustix::io::Errno;

/// `MODULE_INIT_COMPRESSED_FILE` (include/uapi/linux/module.h): the kernel unpacks the file itself.
const COMPRESSED_FILE: i32 = 4;

/// Loads a module. One that is there already is no error; one that somebody else is loading has been loaded on return.
pub fn insert(file: &File, compressed: bool, parameters: &CStr) -> io::Result<()> {
    let flags = if compressed { COMPRESSED_FILE } else { 0 };
    match rustix::system::finit_module(file, parameters, flags) {
        Err(Errno::EXIST) => Ok(()),
        result => Ok(result?),
    }
}
