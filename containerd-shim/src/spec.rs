//! `config.json` with what only the node and the image can tell: the numbers of users, groups and devices.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroupBuilder, LinuxDeviceType, MountBuilder, Spec,
};
use plan::ShimConfig;
use plan::container::{Device, IdRange};

use crate::ids::{Ids, Node};
use crate::run::directory;
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
    #[error("cannot make the container's devices")]
    Devices(#[source] io::Error),
    #[error(
        "its user and groups must be below {}, {id} is not; with 'userns_mode: host' it has all ids of the node",
        IdRange::COUNT
    )]
    NoId { id: u32 },
    #[error("cannot describe the container")]
    Spec(#[from] OciSpecError),
}

/// Completes `spec` for the image in `rootfs`.
pub(crate) fn complete(
    spec: &mut Spec,
    config: &ShimConfig,
    rootfs: &Path,
    ids: Option<&Ids>,
) -> Result<(), SpecError> {
    let user = user::resolve(rootfs, &config.user)?;
    let all = user.groups.iter().chain([&user.uid, &user.gid]);
    if let Some(id) = all.copied().find(|id| ids.is_some_and(|ids| ids.range().on_node(*id).is_none())) {
        return Err(SpecError::NoId { id });
    }
    if let Some(process) = spec.process_mut() {
        let own = process.user_mut();
        own.set_uid(user.uid).set_gid(user.gid);
        own.set_additional_gids((!user.groups.is_empty()).then_some(user.groups));
        let env = process.env_mut().get_or_insert_default();
        if !env.iter().any(|variable| variable.starts_with("HOME=")) {
            env.push(format!("HOME={}", user.home));
        }
    }
    let mut found = Vec::new();
    for device in &config.devices {
        add(spec, device, &mut found)?;
    }
    match ids {
        _ if found.is_empty() => Ok(()),
        None => make(spec, found),
        Some(ids) => mount(spec, config, ids, &found),
    }
}

/// Where a device is to be, and what it is.
type Found = (PathBuf, fs::Metadata);

/// Lets the container use a device, or those in a directory, and adds them to `all`.
fn add(spec: &mut Spec, device: &Device, all: &mut Vec<Found>) -> Result<(), SpecError> {
    let mut found = Vec::new();
    find(&device.path, &device.target, &mut found)
        .map_err(|source| SpecError::Device { path: device.path.clone(), source })?;
    if found.is_empty() || found.len() > MAX_DEVICES {
        return Err(SpecError::NoDevice { path: device.path.clone() });
    }
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    for (_, metadata) in &found {
        let (kind, major, minor) = number(metadata);
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(kind)
            .major(major)
            .minor(minor)
            .access(device.access.clone())
            .build()?;
        linux.resources_mut().get_or_insert_default().devices_mut().get_or_insert_default().push(rule);
    }
    all.append(&mut found);
    Ok(())
}

fn number(metadata: &fs::Metadata) -> (LinuxDeviceType, i64, i64) {
    let kind = if metadata.file_type().is_block_device() { LinuxDeviceType::B } else { LinuxDeviceType::C };
    let device = metadata.rdev();
    (kind, i64::from(rustix::fs::major(device)), i64::from(rustix::fs::minor(device)))
}

/// Lets libcontainer make the devices.
fn make(spec: &mut Spec, devices: Vec<Found>) -> Result<(), SpecError> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    for (target, metadata) in devices {
        let (kind, major, minor) = number(&metadata);
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

/// Makes the devices here, and lets libcontainer mount them.
fn mount(spec: &mut Spec, config: &ShimConfig, ids: &Ids, devices: &[Found]) -> Result<(), SpecError> {
    let node = |(_, metadata): &Found| Node {
        mode: metadata.mode(),
        device: metadata.rdev(),
        owner: (metadata.uid(), metadata.gid()),
    };
    let nodes: Vec<Node> = devices.iter().map(node).collect();
    let made = ids.devices(&directory(&config.name), &nodes).map_err(SpecError::Devices)?;
    for (source, (target, _)) in made.into_iter().zip(devices) {
        let options = ["bind", "nosuid", "noexec"].map(str::to_owned).to_vec();
        let mount = MountBuilder::default().typ("bind").source(source).destination(target).options(options);
        spec.mounts_mut().get_or_insert_default().push(mount.build()?);
    }
    Ok(())
}

/// The device at `path`, or all devices below it.
fn find(path: &Path, target: &Path, found: &mut Vec<Found>) -> io::Result<()> {
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
