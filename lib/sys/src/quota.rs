//! Project quotas: a limit for everything below a directory (linux/quota.h, linux/fs.h).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::ioctl;

const FS_IOC_FSGETXATTR: u64 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
const FS_XFLAG_PROJINHERIT: u32 = 0x200;
/// `QCMD(Q_SETQUOTA, PRJQUOTA)`.
const SET_PROJECT_QUOTA: u32 = 0x80_0008 << 8 | 2;
/// Limits of space are counted in these.
const QUOTA_BLOCK: u64 = 1024;
const QIF_BLIMITS: u32 = 1;

#[repr(C)]
#[derive(Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

#[repr(C)]
#[derive(Default)]
struct Limits {
    space_hard: u64,
    space_soft: u64,
    space_used: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes_used: u64,
    space_grace: u64,
    inodes_grace: u64,
    valid: u32,
}

/// The project that `file` is part of; 0 is that of all that is in none.
pub fn project(file: &File) -> io::Result<u32> {
    Ok(attributes(file)?.project)
}

/// Makes `file` part of a project: if it is a directory, also what will be made below it.
pub fn set_project(file: &File, project: u32) -> io::Result<()> {
    let mut attributes = attributes(file)?;
    attributes.project = project;
    if file.metadata()?.is_dir() {
        attributes.flags |= FS_XFLAG_PROJINHERIT;
    }
    // SAFETY: laid out as struct fsxattr, which is read.
    unsafe { ioctl::with(file, FS_IOC_FSSETXATTR, &mut attributes) }?;
    Ok(())
}

fn attributes(file: &File) -> io::Result<FsXattr> {
    const { assert!(size_of::<FsXattr>() == 28) };
    let mut attributes = FsXattr::default();
    // SAFETY: laid out as struct fsxattr, which is filled.
    unsafe { ioctl::with(file, FS_IOC_FSGETXATTR, &mut attributes) }?;
    Ok(attributes)
}

/// Limits the space of a project on the file system that `directory` is on; 0 is no limit.
pub fn limit_project(directory: &File, project: u32, bytes: u64) -> io::Result<()> {
    const { assert!(size_of::<Limits>() == 72) };
    let limits = Limits { space_hard: bytes / QUOTA_BLOCK, valid: QIF_BLIMITS, ..Limits::default() };
    let fd = directory.as_raw_fd();
    // SAFETY: Q_SETQUOTA reads a struct if_dqblk, as which this is laid out.
    let result = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, fd, SET_PROJECT_QUOTA, project, std::ptr::from_ref(&limits))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
