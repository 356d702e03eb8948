//! What a container is made of, as far as this release can make it.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use userdata::{At, Severity};

use super::{Release, joins};
use crate::Config;
use crate::compose::{self, Volume, VolumeKind};
use crate::container::{Container, Mount, MountSource, Propagation, UserNamespace};

/// The space that a volume may take. Compose has no word for it.
const SIZE: &str = "x-holdfast-size";

/// Settings of message queues and shared memory (ipc_namespaces(7)).
const MEMORY_SYSCTLS: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

impl Release {
    /// Whether the section `volumes` asks for nothing but directories of the node's own.
    pub(super) fn volumes(&self, root: &At<'_>) -> bool {
        let mut whole = true;
        let Some(section) = root.get("volumes") else { return whole };
        for (_, _, volume) in section.map().into_iter().flatten() {
            if let Some(name) = volume.get("name").filter(|name| !name.node.text().is_some_and(is_name)) {
                self.refuse(
                    &name,
                    name.node.mark,
                    "is not the name of a volume",
                    "letters, digits, '.', '_' and '-'",
                );
                whole = false;
            }
            if let Some(size) =
                volume.get(SIZE).filter(|size| size.node.text().and_then(compose::quota).is_none())
            {
                self.refuse(&size, size.node.mark, "not a size", compose::QUOTA_HINT);
                whole = false;
            }
            let driver = volume.get("driver").filter(|driver| driver.node.text() != Some("local"));
            let options = volume.get("driver_opts").filter(|options| !options.asks_for_nothing());
            for at in driver.into_iter().chain(options) {
                let message = "a volume is a directory on the node's own disk: nothing else is supported";
                self.refuse(
                    &at,
                    at.key_mark(&volume),
                    message,
                    "mount another file system with 'mounts', and bind it",
                );
                whole = false;
            }
        }
        whole
    }

    pub(super) fn container(
        &self,
        at: &At<'_>,
        service: &compose::Service,
        config: &Config,
    ) -> Option<Container> {
        let mut whole = true;
        let mut container = service.container.clone();
        for volume in &service.volumes {
            if let Some(message) = volume.options.refused {
                let at = at.get("volumes").unwrap_or_else(|| at.clone());
                self.refuse(&at, volume.mark, message, "");
                whole = false;
            }
            container.mounts.push(mount(at.key(), volume, config));
        }
        if container.node_name && (container.hostname.is_some() || container.domainname.is_some()) {
            let at = at.get("uts").unwrap_or_else(|| at.clone());
            self.refuse(
                &at,
                at.node.mark,
                "the node's name cannot be another one: 'hostname' is given, too",
                "",
            );
            whole = false;
        }
        if container.user_namespace == Some(UserNamespace::Private)
            && (service.privileged || service.pid.is_some() || service.ipc.is_some())
        {
            let at = at.get("userns_mode").unwrap_or_else(|| at.clone());
            let message =
                "who is privileged has the node's users, who shares processes or memory those of their owner";
            self.refuse(&at, at.node.mark, message, "");
            whole = false;
        }
        let host = service.network_mode.as_ref().is_some_and(|mode| mode.value == "host");
        let node_ids = joins::has_node_ids(service, &config.project.services);
        if node_ids {
            container.user_namespace = Some(UserNamespace::Host);
        }
        let shared = service.volumes.iter().find(|volume| volume.options.propagation == Propagation::Shared);
        if let Some(volume) = shared.filter(|_| !node_ids) {
            let at = at.get("volumes").unwrap_or_else(|| at.clone());
            let message =
                "who has users of its own mounts nothing for others: 'rshared' is for the node's users";
            self.refuse(&at, volume.mark, message, "'userns_mode: host', or 'rslave'");
            whole = false;
        }
        if container.layer_size.is_some() && node_ids && (service.privileged || container.unconfined) {
            let at = at.get("storage_opt").unwrap_or_else(|| at.clone());
            let message = "with the node's ids and no filter, a container could lift its limit itself";
            self.refuse(&at, at.node.mark, message, "it takes ids of its own: see 'userns_mode'");
            whole = false;
        }
        if let Some(name) = container.sysctls.keys().find(|name| host && name.starts_with("net.")) {
            let at = at.get("sysctls").unwrap_or_else(|| at.clone());
            let message = format!("'{name}' would change the node's own network");
            self.refuse(&at, at.node.mark, &message, "give it in 'holdfast.sysctl'");
            whole = false;
        }
        if let Some(ipc) = &service.ipc {
            let memory = |name: &&String| MEMORY_SYSCTLS.iter().any(|prefix| name.starts_with(prefix));
            if let Some(name) = container.sysctls.keys().find(memory) {
                let at = at.get("sysctls").unwrap_or_else(|| at.clone());
                let message = format!("'{name}' would change the memory of '{}'", ipc.value);
                self.refuse(&at, at.node.mark, &message, "give it to the one that the memory belongs to");
                whole = false;
            }
            if let Some(at) = at.get("shm_size").filter(|_| container.shm_size.is_some()) {
                let message = format!("has no effect: the memory is that of '{}'", ipc.value);
                at.add(Severity::Warning, at.node.mark, message, "");
            }
        }
        let limits = &container.limits;
        let most = limits.memory.and_then(|memory| i64::try_from(memory).ok());
        if let Some(both) =
            limits.memory_and_swap.filter(|both| most.is_none_or(|most| *both != -1 && *both < most))
        {
            let at = at.get("memswap_limit").unwrap_or_else(|| at.clone());
            let message = format!(
                "'{both}' is memory and swap together, so it takes a limit of memory that is not larger"
            );
            self.refuse(&at, at.node.mark, &message, "give 'mem_limit'");
            whole = false;
        }
        // Where a target is given twice, a service would see only the last one.
        let mut targets: BTreeMap<&str, usize> = BTreeMap::new();
        for mount in &container.mounts {
            *targets.entry(&mount.target).or_default() += 1;
        }
        for (target, count) in targets {
            if target == "/" || count > 1 {
                let why = if target == "/" {
                    "the root of a container is its image"
                } else {
                    "two things are mounted there"
                };
                self.refuse(at, at.node.mark, &format!("nothing can be mounted on '{target}': {why}"), "");
                whole = false;
            }
        }
        container.files = self.files(at, service, config)?;
        // A mount below another one comes after it.
        container.mounts.sort_by_key(|mount| mount.target.split('/').count());
        whole.then_some(container)
    }
}

/// It is a directory's name, too.
fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 200 && name.chars().all(word)
}

fn mount(service: &str, volume: &Volume, config: &Config) -> Mount {
    // A volume without a name belongs to the place where it is mounted. No name that is given begins like this.
    let nameless = || format!("_{service}{}", volume.target.replace('/', "-"));
    let given = volume.source.clone().unwrap_or_else(nameless);
    let source = match volume.kind {
        VolumeKind::Volume => {
            let named = config.project.volumes.get(&given).and_then(|volume| volume.get("name"));
            let size = config.project.volumes.get(&given).and_then(|volume| volume.get(SIZE));
            let text = size.map(|size| size.as_str().map_or_else(|| size.to_string(), str::to_owned));
            let size = text.and_then(|text| compose::quota(&text));
            let name = named.and_then(Json::as_str).map_or(given, str::to_owned);
            MountSource::Volume { name, copy: !volume.options.nocopy, size }
        }
        VolumeKind::Bind => MountSource::Bind {
            path: given,
            create: !volume.options.must_exist,
            propagation: volume.options.propagation,
        },
        VolumeKind::Tmpfs => {
            let options: Vec<&str> = volume.options.tmpfs.iter().map(String::as_str).collect();
            MountSource::Tmpfs { options: compose::tmpfs_options(&options) }
        }
    };
    Mount { target: volume.target.clone(), read_only: volume.read_only, source }
}
