//! Block devices: their size, what is on them, and partitions made or grown while others are in use.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;

use crate::ioctl;

// From linux/fs.h and linux/blkpg.h.
const BLKGETSIZE64: u64 = 0x8008_1272;
const BLKDISCARD: u64 = 0x1277;
const BLKZEROOUT: u64 = 0x127f;
const BLKRRPART: u64 = 0x125f;
const BLKPG: u64 = 0x1269;
const BLKPG_ADD_PARTITION: i32 = 1;
const BLKPG_RESIZE_PARTITION: i32 = 3;

/// The device's size in bytes.
pub fn size(device: &File) -> io::Result<u64> {
    let mut bytes = 0_u64;
    // SAFETY: BLKGETSIZE64 writes one u64.
    unsafe { ioctl::with(device, BLKGETSIZE64, &mut bytes) }?;
    Ok(bytes)
}

/// Tells the device that these bytes are no longer needed. What is read there afterwards is not defined.
pub fn discard(device: &File, bytes: Range<u64>) -> io::Result<()> {
    let mut range = [bytes.start, bytes.end - bytes.start];
    // SAFETY: BLKDISCARD reads two u64, start and length.
    unsafe { ioctl::with(device, BLKDISCARD, &mut range) }?;
    Ok(())
}

/// Makes these bytes read as zero, by the cheapest means the device has.
pub fn zero(device: &File, bytes: Range<u64>) -> io::Result<()> {
    let mut range = [bytes.start, bytes.end - bytes.start];
    // SAFETY: BLKZEROOUT reads two u64, start and length.
    unsafe { ioctl::with(device, BLKZEROOUT, &mut range) }?;
    Ok(())
}

/// Makes the kernel read the partition table again. It refuses while one of the disk's partitions is in use.
pub fn reread_partitions(disk: &File) -> io::Result<()> {
    // SAFETY: BLKRRPART takes no argument.
    unsafe { ioctl::plain(disk, BLKRRPART, 0) }?;
    Ok(())
}

/// Makes the kernel know one more partition, beside those that are in use.
pub fn add_partition(disk: &File, number: u32, bytes: Range<u64>) -> io::Result<()> {
    change_partition(disk, BLKPG_ADD_PARTITION, number, bytes)
}

/// Makes the kernel know a partition's new size, also while it is mounted.
pub fn resize_partition(disk: &File, number: u32, bytes: Range<u64>) -> io::Result<()> {
    change_partition(disk, BLKPG_RESIZE_PARTITION, number, bytes)
}

#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    pno: i32,
    devname: [u8; 64],
    volname: [u8; 64],
}

#[repr(C)]
struct BlkpgIoctlArg {
    op: i32,
    flags: i32,
    datalen: i32,
    data: *mut c_void,
}

fn change_partition(disk: &File, op: i32, number: u32, bytes: Range<u64>) -> io::Result<()> {
    let number_of = |bytes: u64| i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput);
    let mut partition = BlkpgPartition {
        start: number_of(bytes.start)?,
        length: number_of(bytes.end - bytes.start)?,
        pno: number.cast_signed(),
        devname: [0; 64],
        volname: [0; 64],
    };
    let mut argument =
        BlkpgIoctlArg { op, flags: 0, datalen: 152, data: std::ptr::from_mut(&mut partition).cast() };
    const { assert!(size_of::<BlkpgPartition>() == 152) };
    // SAFETY: both structs are laid out as in linux/blkpg.h, and `data` points to one that outlives the call.
    unsafe { ioctl::with(disk, BLKPG, &mut argument) }?;
    Ok(())
}
