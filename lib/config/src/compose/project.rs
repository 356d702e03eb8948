//! The sections around the services, and what must fit between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use plan::ServiceName;
use serde_json::{Map, Value as Json};
use userdata::{At, KeySpec as Key, Severity, Use};

use super::ports::MAX_PORTS;
use super::service::{Service, table};
use super::values::json as as_is;
use super::{Project, VolumeKind};
use crate::machine::Machine;
use crate::{depends, interpolate};

/// Reads the compose sections of a file. The machine has the variables, and files that services may name.
pub(crate) fn read(root: &At<'_>, machine: &Machine) -> Project {
    let env = &machine.holdfast.env;
    let section = |key: &str| {
        let at = root.get(key).filter(|at| !at.is_null())?;
        Some((interpolate::interpolate(&at, env), at))
    };
    let named = |key: &str, what: &str, keys: &'static str| {
        section(key).map(|(node, at)| definitions(&at.with_node(&node), what, keys)).unwrap_or_default()
    };
    let mut project = Project {
        volumes: named("volumes", "a volume", "driver driver_opts external labels name"),
        networks: named(
            "networks",
            "a network",
            "attachable driver driver_opts enable_ipv4 enable_ipv6 external internal ipam labels name",
        ),
        secrets: named(
            "secrets",
            "a secret",
            "content driver driver_opts environment external file labels name template_driver",
        ),
        configs: named(
            "configs",
            "a config",
            "content environment external file labels name template_driver",
        ),
        ..Project::default()
    };
    if let Some((node, at)) = section("services") {
        let at = at.with_node(&node);
        project.services = services(&at, env, texts(machine));
        fit(&at, &project);
    }
    project
}

/// What `write_files` writes, by path, as far as it is text and known.
pub(crate) fn texts(machine: &Machine) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for file in &machine.files {
        let content = texts.entry(file.path.clone()).or_default();
        if !file.append {
            content.clear();
        }
        content.extend_from_slice(&file.content);
    }
    texts.retain(|path, _| !machine.files.iter().any(|file| file.path == *path && file.source.is_some()));
    texts.into_iter().filter_map(|(path, bytes)| Some((path, String::from_utf8(bytes).ok()?))).collect()
}

fn services(
    at: &At<'_>,
    env: &BTreeMap<String, String>,
    texts: BTreeMap<String, String>,
) -> BTreeMap<ServiceName, Service> {
    let table = table();
    let env = Arc::new(env.clone());
    let texts = Arc::new(texts);
    let mut ports_left = MAX_PORTS;
    let mut services = BTreeMap::new();
    for (name, _, at) in at.map().into_iter().flatten() {
        if name.starts_with("x-") {
            continue;
        }
        let mut service = Service::new(Arc::clone(&env), Arc::clone(&texts), ports_left);
        at.section("a service", &table, &mut service);
        service.merge_env_files();
        ports_left = service.ports_left();
        if at.is_map() && at.get("image").is_none() && at.get("build").is_none() {
            at.error("has no 'image'");
        }
        match ServiceName::new(name) {
            Ok(name) => drop(services.insert(name, service)),
            Err(error) => at.error(error.to_string()),
        }
    }
    services
}

/// The definitions of volumes, networks, secrets or configs.
fn definitions(at: &At<'_>, what: &str, keys: &'static str) -> Map<String, Json> {
    let mut known: Vec<Key<()>> = keys
        .split_whitespace()
        .filter(|key| *key != "file")
        .map(|name| Key { name, use_: Use::Quiet, doc: "" })
        .collect();
    if keys.split_whitespace().any(|key| key == "file") {
        known.push(Key { name: "file", use_: Use::Read(file), doc: "" });
    }
    let mut definitions = Map::new();
    for (name, mark, value) in at.map().into_iter().flatten() {
        if name.starts_with("x-") {
            continue;
        }
        let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(word) {
            value.add(Severity::Error, mark, format!("'{name}' is not the name of {what}"), "");
        }
        let json = if value.is_null() {
            Json::Object(Map::new())
        } else {
            value.section(what, &known, &mut ());
            as_is(value.node)
        };
        definitions.insert(name.to_owned(), json);
    }
    definitions
}

fn file(at: &At<'_>, (): &mut ()) {
    let Some(path) = at.text() else { return };
    if !path.starts_with('/') {
        at.error_with_hint(
            format!("'{path}' is a file beside the compose file, and there is none on a node"),
            "give 'content', or an absolute path and 'write_files'",
        );
    }
}

/// Whether what services name is there, and whether they can be started in an order.
fn fit(at: &At<'_>, project: &Project) {
    for (name, service) in &project.services {
        let Some(at) = at.get(name.as_str()) else { continue };
        for network in &service.networks {
            if network.value != "default" && !project.networks.contains_key(&network.value) {
                let message = format!("there is no network '{}'", network.value);
                let path = at.get("networks").unwrap_or_else(|| at.clone());
                path.add(Severity::Error, network.mark, message, "declare it under 'networks'");
            }
        }
        if !service.networks.is_empty() && service.network_mode.is_some() {
            at.error("has both 'networks' and 'network_mode'");
        }
        for volume in service.volumes.iter().filter(|volume| volume.kind == VolumeKind::Volume) {
            let missing = volume.source.as_ref().filter(|source| !project.volumes.contains_key(*source));
            if let Some(missing) = missing {
                let message = format!("there is no volume '{missing}'");
                let path = at.get("volumes").unwrap_or_else(|| at.clone());
                path.add(Severity::Error, volume.mark, message, "declare it under 'volumes'");
            }
        }
        for (key, defined) in [("secrets", &project.secrets), ("configs", &project.configs)] {
            for item in at.get(key).and_then(|at| at.list()).into_iter().flatten() {
                let source = if item.is_map() { item.get("source") } else { Some(item) };
                let missing = source.and_then(|at| at.node.text().map(|text| (text.to_owned(), at)));
                if let Some((name, at)) = missing.filter(|(name, _)| !defined.contains_key(name)) {
                    at.error_with_hint(
                        format!("'{name}' is not there"),
                        &format!("declare it under '{key}'"),
                    );
                }
            }
        }
        for (key, mode) in
            [("network_mode", &service.network_mode), ("pid", &service.pid), ("ipc", &service.ipc)]
        {
            if let Some(other) = mode.as_ref().and_then(|mode| mode.value.strip_prefix("service:"))
                && !project.services.keys().any(|name| name.as_str() == other)
                && let Some(at) = at.get(key)
            {
                at.error(format!("there is no service '{other}'"));
            }
        }
    }
    depends::check(at, &project.services);
}
