//! A configuration as JSON, for programs: what comes out in the end. Modes are octal texts; secrets are left out.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::machine::{Delay, File, Mount, PowerMode, PowerState};
use crate::{Config, MetaData};

impl Config {
    /// As JSON. `meta` is the datasource's meta-data.
    pub fn effective(&self, meta: &MetaData) -> Json {
        let machine = &self.machine;
        let local = meta.local_fqdn.as_deref();
        let ntp = machine.ntp.as_ref();
        let (mut keys, mut seen, mut users) =
            (Vec::new(), HashSet::new(), BTreeMap::<&str, Vec<&str>>::new());
        for (user, key) in self.keys(meta) {
            users.entry(user).or_default().push(key);
            if seen.insert(key) {
                keys.push(key);
            }
        }
        let section =
            |section: &Map<String, Json>| if section.is_empty() { Json::Null } else { json!(section) };
        let services: Map<String, Json> = self
            .project
            .services
            .iter()
            .map(|(name, service)| (name.as_str().to_owned(), Json::Object(service.normal.clone())))
            .collect();
        json!({
            "hostname": machine.hostname.short(local),
            "fqdn": machine.hostname.full(local),
            "kernel_hostname": machine.hostname.kernel(local),
            "timezone": machine.timezone,
            "ntp": {
                "servers": ntp.map(|ntp| ntp.servers.as_slice()).unwrap_or_default(),
                "pools": ntp.map(|ntp| ntp.pools.as_slice()).unwrap_or_default(),
                "enabled": ntp.is_none_or(|ntp| ntp.enabled),
            },
            "ssh_authorized_keys": keys,
            "users": users,
            "files": files(&machine.files),
            "rejected_files": machine.rejected_files,
            "mounts": machine.mounts.iter().map(mount).collect::<Vec<_>>(),
            "power_state": machine.power_state.as_ref().map(power_state),
            "network": self.network.as_ref().map(netconfig::State::to_json),
            "services": services,
            "volumes": section(&self.project.volumes),
            "networks": section(&self.project.networks),
            "secrets": section(&self.project.secrets),
            "configs": section(&self.project.configs),
            "merged": self.merged,
        })
    }

    /// Keys that may log in, each with its user: the configuration's and, unless it forbids them, the meta-data's.
    pub fn keys<'a>(&'a self, meta: &'a MetaData) -> Vec<(&'a str, &'a str)> {
        let own = self.machine.keys.iter().map(|(user, key)| (user.as_str(), key.as_str()));
        let allowed = self.machine.allow_meta_data_keys != Some(false);
        let given = meta.public_keys.iter().filter(|_| allowed);
        own.chain(given.map(|key| (crate::machine::users::DEFAULT_USER, key.as_str()))).collect()
    }
}

/// The files when all entries are written: later ones replace earlier ones, or are added to them.
fn files(entries: &[File]) -> Vec<Json> {
    let mut files: BTreeMap<&str, (&File, Vec<u8>)> = BTreeMap::new();
    for entry in entries {
        let (file, content) = files.entry(&entry.path).or_insert_with(|| (entry, Vec::new()));
        *file = entry;
        if !entry.append {
            content.clear();
        }
        content.extend_from_slice(&entry.content);
    }
    files.values().map(|(file, content)| describe(file, content)).collect()
}

fn describe(file: &File, content: &[u8]) -> Json {
    let sha256 = Sha256::digest(content).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
        hex
    });
    let known = file.source.is_none();
    json!({
        "path": file.path,
        "mode": format!("{:04o}", file.mode),
        "owner": file.owner,
        "size": known.then_some(content.len()),
        "sha256": known.then_some(sha256),
    })
}

fn mount(mount: &Mount) -> Json {
    let (dump, pass) = &mount.dump_pass;
    json!([mount.device, mount.target, mount.kind, mount.options, dump, pass])
}

fn power_state(state: &PowerState) -> Json {
    let mode = match state.mode {
        PowerMode::Poweroff => "poweroff",
        PowerMode::Reboot => "reboot",
        PowerMode::Halt => "halt",
    };
    let delay = match state.delay {
        Delay::Now => "now".to_owned(),
        Delay::Minutes(minutes) => format!("+{minutes}"),
    };
    json!({"mode": mode, "delay": delay, "condition": state.condition})
}
