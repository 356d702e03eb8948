//! What is mounted into a container beside what every container has: volumes, directories of the node, memory, secrets and
//! configs.

use std::path::{Path, PathBuf};

use config::Service;
use config::container::{self, GivenContent, MountSource, Namespace};
use plan::container::{Bind, Directory, GivenFile, Propagation};
use plan::{ServiceName, paths};
use serde_json::{Value, json};

/// Adds the mounts of `service` to those that every container has. What it mounts where one of them is replaces it.
pub(crate) fn add(mounts: &mut Vec<Value>, name: &ServiceName, service: &Service, binds: &mut Vec<Bind>) {
    let container = &service.container;
    if let Some(size) = container.shm_size.filter(|_| service.ipc == Namespace::Own) {
        for mount in mounts.iter_mut().filter(|mount| mount["destination"] == "/dev/shm") {
            mount["options"] = json!(["nosuid", "noexec", "nodev", "mode=1777", format!("size={size}")]);
        }
    }
    let targets = container.mounts.iter().map(|mount| &mount.target);
    let targets: Vec<&String> = targets.chain(container.files.iter().map(|file| &file.target)).collect();
    mounts.retain(|mount| !targets.iter().any(|target| mount["destination"] == **target));

    let bind = |source: &Path, target: &str, read_only: bool, more: &[&str]| {
        // Of a tree, everything is read-only.
        let read_only: &[&str] = if read_only { &["ro", "rro"] } else { &[] };
        let options = [&["rbind"], read_only, more].concat();
        json!({ "destination": target, "type": "bind", "source": source, "options": options })
    };
    // Where a container with ids of its own, or with mounts that are made later, finds what is at `path` on the node.
    let mut place = |path: PathBuf, propagation: Option<Propagation>| {
        if !service.own_ids() && propagation.is_none() {
            return path;
        }
        binds.push(Bind { source: path, whole: true, propagation });
        paths::bind(name.as_str(), binds.len() - 1)
    };
    for mount in &container.mounts {
        let target = mount.target.as_str();
        mounts.push(match &mount.source {
            // A device that a container makes in a volume is none.
            MountSource::Volume { name, .. } => {
                bind(&place(volume(name), None), target, mount.read_only, &["nodev"])
            }
            MountSource::Bind { path, propagation, .. } => {
                let (propagation, option): (_, &[&str]) = match propagation {
                    container::Propagation::Private => (None, &[]),
                    container::Propagation::Slave => (Some(Propagation::Slave), &["rslave"]),
                    container::Propagation::Shared => (Some(Propagation::Shared), &["rshared"]),
                };
                bind(&place(path.into(), propagation), target, mount.read_only, option)
            }
            MountSource::Tmpfs { options } => {
                let read_only = mount.read_only.then(|| "ro".to_owned());
                let options: Vec<&String> = options.iter().chain(&read_only).collect();
                json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": options })
            }
        });
    }
    if container.health.notify {
        let source = paths::given_file(name.as_str(), paths::NOTIFY_FILE);
        mounts.push(bind(&source, paths::NOTIFY_IN_CONTAINER, false, &["nosuid", "nodev", "noexec"]));
    }
    for (number, file) in container.files.iter().enumerate() {
        let source = paths::given_file(name.as_str(), &number.to_string());
        mounts.push(bind(&source, &file.target, true, &["nosuid", "nodev", "noexec"]));
    }
}

/// Whether mounts that `service` makes are to be on the node, too.
pub(crate) fn shares_mounts(service: &Service) -> bool {
    let shared = |mount: &container::Mount| {
        matches!(mount.source, MountSource::Bind { propagation: container::Propagation::Shared, .. })
    };
    service.container.mounts.iter().any(shared)
}

/// The directories of the node that are made for `service`.
pub(crate) fn directories(service: &Service) -> Vec<Directory> {
    let directory = |mount: &config::container::Mount| match &mount.source {
        MountSource::Volume { name, copy, size } => {
            let copy_of = copy.then(|| PathBuf::from(&mount.target));
            Some(Directory { path: volume(name), copy_of, size: *size })
        }
        MountSource::Bind { path, create: true, .. } => {
            Some(Directory { path: path.into(), copy_of: None, size: None })
        }
        MountSource::Bind { create: false, .. } | MountSource::Tmpfs { .. } => None,
    };
    service.container.mounts.iter().filter_map(directory).collect()
}

/// The secrets and configs of `service`, by their place in its list.
pub(crate) fn files(service: &Service) -> Vec<GivenFile> {
    let file = |(number, file): (usize, &config::container::GivenFile)| GivenFile {
        name: number.to_string(),
        content: match &file.content {
            GivenContent::Text(text) => plan::container::GivenContent::Text(text.clone()),
            GivenContent::File(path) => plan::container::GivenContent::File(path.into()),
        },
        mode: file.mode,
        owner: file.owner,
    };
    service.container.files.iter().enumerate().map(file).collect()
}

fn volume(name: &str) -> PathBuf {
    Path::new(paths::VOLUMES).join(name)
}
