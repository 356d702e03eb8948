//! fs-verity: a file that can no longer be changed, and whose blocks are checked when they are read
//! (linux/fsverity.h).

use std::fs::File;
use std::io;

use crate::ioctl;

const FS_IOC_ENABLE_VERITY: u64 = 0x4080_6685;
const FS_VERITY_HASH_ALG_SHA256: u32 = 1;

#[repr(C)]
struct EnableArg {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    reserved_end: [u64; 11],
}

/// Seals `file`, which must be open for reading only and for nobody for writing: SHA-256, blocks of 4 KiB, no salt.
pub fn enable(file: &File) -> io::Result<()> {
    const { assert!(size_of::<EnableArg>() == 128) };
    let mut argument = EnableArg {
        version: 1,
        hash_algorithm: FS_VERITY_HASH_ALG_SHA256,
        block_size: 4096,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved: 0,
        signature: 0,
        reserved_end: [0; 11],
    };
    // SAFETY: laid out as struct fsverity_enable_arg; its sizes say that there is neither salt nor signature.
    unsafe { ioctl::with(file, FS_IOC_ENABLE_VERITY, &mut argument) }?;
    Ok(())
}
