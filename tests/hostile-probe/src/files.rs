//! Mounts, devices, and files that belong to the node.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use libc::{EINVAL, ENOENT};

use crate::{Tried, at, call};

pub(crate) fn mount() -> Tried {
    call(libc::SYS_mount, [at(c"x"), at(c"/tmp"), at(c"tmpfs"), 0, 0], &[])
}

pub(crate) fn mount_new_api() -> Tried {
    call(libc::SYS_fsopen, [at(c"tmpfs"), 0, 0, 0, 0], &[])
}

/// What has been mounted for it.
pub(crate) fn unmount() -> Tried {
    call(libc::SYS_umount2, [at(c"/dev/mqueue"), 2, 0, 0, 0], &[])
}

pub(crate) fn pivot_root() -> Tried {
    // Where nothing is: with the root changed, no other attempt would find its way.
    call(libc::SYS_pivot_root, [at(c"/nothing"), at(c"/nothing"), 0, 0, 0], &[ENOENT])
}

/// Makes a device node and opens it.
fn device(kind: u32, major: u32, minor: u32, write: bool) -> Tried {
    let path = c"/tmp/device";
    fs::remove_file("/tmp/device").or_else(ignore_missing)?;
    let number = usize::try_from(libc::makedev(major, minor)).map_err(io::Error::other)?;
    call(libc::SYS_mknod, [at(path), (kind | 0o600) as usize, number, 0, 0], &[])?;
    OpenOptions::new().read(!write).write(write).open("/tmp/device").map(drop)
}

fn ignore_missing(error: io::Error) -> Tried {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The first disk that the kernel lists.
pub(crate) fn raw_disk() -> Tried {
    let list = fs::read_to_string("/proc/partitions")?;
    let numbers = list.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [major, minor, _, "vda" | "sda"] = words[..] else { return None };
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    let (major, minor) = numbers.ok_or(io::ErrorKind::NotFound)?;
    device(libc::S_IFBLK, major, minor, false)
}

pub(crate) fn dev_mem() -> Tried {
    device(libc::S_IFCHR, 1, 1, false)
}

pub(crate) fn dev_kmsg() -> Tried {
    device(libc::S_IFCHR, 1, 11, true)
}

/// What `name_to_handle_at` gives for a file can be changed to another file of the same file system.
pub(crate) fn open_by_handle() -> Tried {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        handle: [u8; 128],
    }
    let handle = Handle { bytes: 8, kind: 1, handle: [2; 128] };
    let root = File::open("/")?;
    let fd = usize::try_from(root.as_raw_fd()).map_err(io::Error::other)?;
    let stale = libc::ESTALE;
    call(libc::SYS_open_by_handle_at, [fd, at(&handle), 0, 0, 0], &[stale, EINVAL, libc::EOPNOTSUPP])
}

/// The node's state, by the ways that have led there: another root, a directory above the own one.
pub(crate) fn host_files() -> Tried {
    for root in ["/proc/1/root", "/proc/self/root/../..", "/proc/1/cwd/../.."] {
        if Path::new(root).join("var/lib/holdfast/generations").exists() {
            return Ok(());
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Another project for an own file: its space would be counted elsewhere.
pub(crate) fn project_id() -> Tried {
    const FS_IOC_FSGETXATTR: usize = 0x801c_581f;
    const FS_IOC_FSSETXATTR: usize = 0x401c_5820;
    let file = File::create("/file")?;
    let fd = usize::try_from(file.as_raw_fd()).map_err(io::Error::other)?;
    // struct fsxattr: flags, extent size, extents, project, copy-on-write extent size, padding.
    let mut attributes = [0_u32; 7];
    call(libc::SYS_ioctl, [fd, FS_IOC_FSGETXATTR, at(&attributes), 0, 0], &[])?;
    attributes[3] += 1;
    call(libc::SYS_ioctl, [fd, FS_IOC_FSSETXATTR, at(&attributes), 0, 0], &[])
}

/// Opening is enough.
fn write(path: &str) -> Tried {
    OpenOptions::new().write(true).open(path).map(drop)
}

pub(crate) fn write_sysctl() -> Tried {
    write("/proc/sys/kernel/core_pattern")
}

pub(crate) fn write_sysrq() -> Tried {
    write("/proc/sysrq-trigger")
}

pub(crate) fn write_sys() -> Tried {
    write("/sys/kernel/mm/ksm/run").or_else(|_| write("/sys/kernel/mm/transparent_hugepage/enabled"))
}

pub(crate) fn move_cgroup() -> Tried {
    write("/sys/fs/cgroup/cgroup.procs")
}

pub(crate) fn lift_own_limits() -> Tried {
    write("/sys/fs/cgroup/pids.max")
}
