//! Disks: partition tables, file systems, mounts, swap.
//!
//! What somebody may still want is never touched: a device is written to when it is blank, or when the configuration
//! says `overwrite`, and never while anything of it is in use.

mod device;
mod filesystem;
mod mounts;
mod probe;
mod swap;
mod table;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use config::{Machine, Mount};
use rustix::fs::OFlags;

use self::device::Devices;
pub(super) use self::swap::set_up as set_up_swap;
use super::{Failures, Instance};
use crate::file::{FileError, cannot};

/// Does all of it but the swap file, in the order in which one needs the other.
pub(super) fn set_up(machine: &Machine, instance: &Instance, failures: &mut Failures) {
    let devices = Devices { aliases: &machine.device_aliases };
    for setup in &machine.disk_setup {
        failures.check("disk_setup", table::make(setup, &devices, instance));
    }
    for setup in &machine.fs_setup {
        failures.check("fs_setup", filesystem::make(setup, &devices, instance));
    }
    mount(machine, |_| true, failures);
}

/// Mounts those file systems that are wanted for their targets.
pub(super) fn mount(machine: &Machine, is_wanted: impl Fn(&Path) -> bool, failures: &mut Failures) {
    let devices = Devices { aliases: &machine.device_aliases };
    let target = |mount: &&Mount| is_wanted(Path::new(mount.target.as_deref().unwrap_or_default()));
    for mount in machine.mounts.iter().filter(target) {
        failures.check("mounts", mounts::mount(mount, &devices));
    }
}

/// Opens a device to write to it. The kernel refuses while it, a partition of it or the disk it is on is in use.
fn open_alone(device: &Path) -> Result<File, FileError> {
    let exclusive = OFlags::EXCL.bits().cast_signed();
    File::options()
        .read(true)
        .write(true)
        .custom_flags(exclusive)
        .open(device)
        .map_err(cannot("get hold of", device))
}

/// A random UUID: 122 random bits (RFC 9562, version 4).
fn uuid() -> io::Result<u128> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let bits = u128::from_le_bytes(bytes);
    Ok(bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62)
}
