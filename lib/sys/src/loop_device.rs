//! Loop devices: a file as a block device (linux/loop.h).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::ioctl;

const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const LOOP_CONFIGURE: u64 = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;

#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// Attaches `file` to a free loop device with blocks of 4 KiB and gives its path. It stays until the machine ends;
/// the file may be unlinked.
pub fn attach(file: &File, read_only: bool) -> io::Result<PathBuf> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    // SAFETY: LOOP_CTL_GET_FREE takes no argument.
    let number = unsafe { ioctl::plain(&control, LOOP_CTL_GET_FREE, 0) }?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = File::options().read(true).write(true).open(&path)?;
    // SAFETY: a C struct of integers and bytes, for which all zeroes is valid.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = file.as_raw_fd().cast_unsigned();
    config.block_size = 4096;
    config.info.flags = if read_only { LO_FLAGS_READ_ONLY } else { 0 };
    const { assert!(size_of::<LoopConfig>() == 304) };
    // SAFETY: the struct is laid out as in linux/loop.h.
    unsafe { ioctl::with(&device, LOOP_CONFIGURE, &mut config) }?;
    Ok(path)
}
