//! ext4 while it is mounted: its identity and its growth (fs/ext4/ext4.h).

use std::fs::File;
use std::io;

use crate::ioctl;

const EXT4_IOC_RESIZE_FS: u64 = 0x4008_6610;
const EXT4_IOC_SETFSUUID: u64 = 0x4008_662c;

/// Grows the file system that `directory` is on to `blocks` of its blocks.
pub fn resize(directory: &File, mut blocks: u64) -> io::Result<()> {
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64.
    unsafe { ioctl::with(directory, EXT4_IOC_RESIZE_FS, &mut blocks) }?;
    Ok(())
}

#[repr(C)]
struct FsUuid {
    length: u32,
    flags: u32,
    uuid: [u8; 16],
}

/// Gives the file system that `directory` is on another UUID. It must have the feature `metadata_csum_seed`.
pub fn set_uuid(directory: &File, uuid: [u8; 16]) -> io::Result<()> {
    let mut argument = FsUuid { length: 16, flags: 0, uuid };
    // SAFETY: laid out as struct fsuuid, whose length field says how many bytes follow.
    unsafe { ioctl::with(directory, EXT4_IOC_SETFSUUID, &mut argument) }?;
    Ok(())
}
