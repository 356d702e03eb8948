//! `config.json` with what only the node and the image can tell: the numbers of users, groups and devices.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroupBuilder, LinuxDeviceType, Spec};
use plan::ShimConfig;
use plan::container::Device;

use crate::user::{self, UserError};

/// Devices in a directory of devices, at most.
const MAX_DEVICES: usize = 256;

/// Why there is no such container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error(transparent)]
    User(#[from] UserError),
    #[error("cannot give the container the device {path}")]
    Device { path: PathBuf, source: io::Error },
    #[error("{path} is not a device, and {MAX_DEVICES} devices are the most")]
    NoDevice { path: PathBuf },
    #[error("cannot describe the container")]
    Spec(#[from] OciSpecError),
}

/// Completes `spec` for the image in `rootfs`; says whether that changed anything.
pub(crate) fn complete(spec: &mut Spec, config: &ShimConfig, rootfs: &Path) -> Result<bool, SpecError> {
    let user = user::resolve(rootfs, &config.user)?;
    let mut changed = false;
    if let Some(process) = spec.process_mut() {
        let own = process.user_mut();
        changed |= (own.uid(), own.gid()) != (user.uid, user.gid) || !user.groups.is_empty();
        own.set_uid(user.uid).set_gid(user.gid);
        own.set_additional_gids((!user.groups.is_empty()).then_some(user.groups));
        let env = process.env_mut().get_or_insert_default();
        if !env.iter().any(|variable| variable.starts_with("HOME=")) {
            env.push(format!("HOME={}", user.home));
        }
    }
    for device in &config.devices {
        add(spec, device)?;
        changed = true;
    }
    // Without another reason libcontainer finds the home by itself; a health check has to be told.
    Ok(changed || config.health.is_some())
}

fn add(spec: &mut Spec, device: &Device) -> Result<(), SpecError> {
    let mut found = Vec::new();
    find(&device.path, &device.target, &mut found)
        .map_err(|source| SpecError::Device { path: device.path.clone(), source })?;
    if found.is_empty() || found.len() > MAX_DEVICES {
        return Err(SpecError::NoDevice { path: device.path.clone() });
    }
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    for (target, metadata) in found {
        let (major, minor) =
            (i64::from(rustix::fs::major(metadata.rdev())), i64::from(rustix::fs::minor(metadata.rdev())));
        let kind =
            if metadata.file_type().is_block_device() { LinuxDeviceType::B } else { LinuxDeviceType::C };
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(kind)
            .major(major)
            .minor(minor)
            .access(device.access.clone())
            .build()?;
        linux.resources_mut().get_or_insert_default().devices_mut().get_or_insert_default().push(rule);
        let node: LinuxDevice = LinuxDeviceBuilder::default()
            .path(target)
            .typ(kind)
            .major(major)
            .minor(minor)
            .file_mode(metadata.mode() & 0o777)
            .uid(metadata.uid())
            .gid(metadata.gid())
            .build()?;
        linux.devices_mut().get_or_insert_default().push(node);
    }
    Ok(())
}

/// The device at `path`, or all devices below it.
fn find(path: &Path, target: &Path, found: &mut Vec<(PathBuf, fs::Metadata)>) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let kind = metadata.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        found.push((target.to_owned(), metadata));
    } else if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // A link below it would be followed in circles.
            if found.len() <= MAX_DEVICES && !entry.file_type()?.is_symlink() {
                find(&entry.path(), &target.join(entry.file_name()), found)?;
            }
        }
    }
    Ok(())
}
