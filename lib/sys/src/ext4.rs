//! ext4 while it is mounted: its identity and its growth (fs/ext4/ext4.h, linux/fs.h).

use std::fs::File;
use std::io;

use crate::ioctl;

const EXT4_IOC_RESIZE_FS: u64 = 0x4008_6610;
const FS_IOC_SETFSLABEL: u64 = 0x4100_9432;
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

/// Gives the file system that `directory` is on another label: at most 16 bytes.
pub fn set_label(directory: &File, label: &str) -> io::Result<()> {
    let mut argument = [0_u8; 256];
    let room =
        argument.get_mut(..label.len()).filter(|_| label.len() <= 16).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(label.as_bytes());
    // SAFETY: FS_IOC_SETFSLABEL reads FSLABEL_MAX, which is 256, bytes.
    unsafe { ioctl::with(directory, FS_IOC_SETFSLABEL, &mut argument) }?;
    Ok(())
}
