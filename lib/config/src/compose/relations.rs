//! What a service names outside of itself: services that come first, networks, hosts, secrets and configs.

use plan::{Condition, ServiceName};
use serde_json::{Map, Value as Json, json};
use userdata::{At, KeySpec as Key, Located, Mark, Use};

use super::forms::text;
use super::service::{Dependency, Service};
use super::values::json as as_is;
use crate::machine::take;

/// `NAME:ADDRESS` or `NAME=ADDRESS`, or a map.
pub(super) fn extra_hosts(at: &At<'_>, service: &mut Service) {
    let mut hosts = Map::new();
    if at.is_map() {
        for (name, _, value) in at.map().into_iter().flatten() {
            hosts.insert(name.to_owned(), as_is(value.node));
        }
    } else {
        for item in at.list().into_iter().flatten() {
            let Some(text) = item.text() else { continue };
            match text.split_once('=').or_else(|| text.split_once(':')) {
                Some((name, address)) if !name.is_empty() && !address.is_empty() => {
                    hosts.insert(name.to_owned(), json!(address));
                }
                _ => item
                    .error_with_hint(format!("'{text}' names no host and address"), "as in 'db:192.0.2.7'"),
            }
        }
    }
    service.put(at, Json::Object(hosts));
}

/// A secret or a config that a service names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `secrets` or `configs`.
    pub section: &'static str,
    /// Its name in that section.
    pub source: String,
    /// Where in the container, as it is written.
    pub target: Option<String>,
    /// User and group by number.
    pub owner: (u32, u32),
    /// Permission bits.
    pub mode: u32,
    /// Where it stands.
    pub mark: Mark,
}

const REFERENCE: [Key<Reference>; 5] = [
    take(
        "source",
        |at, reference| reference.source = at.text().unwrap_or_default().to_owned(),
        "Its name. Required.",
    ),
    take(
        "target",
        |at, reference| {
            reference.target = at.text().map(str::to_owned);
            let parts = |target: &String| target.split('/').any(|part| part == "..");
            if reference.target.as_ref().is_some_and(parts) {
                at.error("must be a path without '..'");
            }
        },
        "Where in the container: a path, or a name below `/run/secrets` (secrets) or `/` (configs). Default: its name.",
    ),
    take("uid", |at, reference| reference.owner.0 = id(at), "The file's user by number. Default `0`."),
    take("gid", |at, reference| reference.owner.1 = id(at), "The file's group by number. Default `0`."),
    take(
        "mode",
        |at, reference| match at.text().map(|text| u32::from_str_radix(text.trim_start_matches("0o"), 8)) {
            Some(Ok(mode)) if mode <= 0o777 => reference.mode = mode,
            Some(_) => at.error("must be permission bits as octal digits, as in 0440"),
            None => {}
        },
        "Its permission bits as octal digits. Default `0444`.",
    ),
];

fn id(at: &At<'_>) -> u32 {
    at.int(0..=i64::from(u32::MAX)).and_then(|id| u32::try_from(id).ok()).unwrap_or_default()
}

/// References to secrets or configs: names, or maps with `source`.
pub(super) fn references(at: &At<'_>, service: &mut Service) {
    let section = if at.key() == "secrets" { "secrets" } else { "configs" };
    let mut references = Vec::new();
    for item in at.list().into_iter().flatten() {
        let mark = item.node.mark;
        let mut reference =
            Reference { section, source: String::new(), target: None, owner: (0, 0), mode: 0o444, mark };
        if item.is_map() {
            item.section("a reference", &REFERENCE, &mut reference);
            if item.get("source").is_none() {
                item.error("has no 'source'");
            }
            references.push(as_is(item.node));
        } else if let Some(name) = item.text() {
            reference.source = name.to_owned();
            references.push(json!({"source": name}));
        }
        service.files.push(reference);
    }
    service.put(at, Json::Array(references));
}

pub(super) fn network_mode(at: &At<'_>, service: &mut Service) {
    service.network_mode = joined(at, service);
}

/// Whose `network_mode`, `pid` or `ipc` a service has. An empty text says nothing.
pub(super) fn joined(at: &At<'_>, service: &mut Service) -> Option<Located<String>> {
    text(at, service);
    let mode = at.located_text().filter(|mode| !mode.value.is_empty())?;
    if let Some(name) = mode.value.strip_prefix("service:").and_then(|name| ServiceName::new(name).ok()) {
        // What is that service's is there when it has been started. What 'depends_on' says of it counts before this.
        let started = Dependency { condition: Condition::ServiceStarted, required: true, restart: false };
        service.depends_on.entry(name).or_insert(started);
    }
    if let Some(container) = mode.value.strip_prefix("container:") {
        at.error_with_hint(
            format!("the container '{container}' is not one of the node's services"),
            "name one: 'service:NAME'",
        );
        return None;
    }
    Some(mode)
}

pub(super) fn networks(at: &At<'_>, service: &mut Service) {
    const OPTIONS: &str = "aliases driver_opts gw_priority interface_name ipv4_address ipv6_address link_local_ips mac_address \
         priority";
    let table: Vec<Key<()>> =
        OPTIONS.split_whitespace().map(|name| Key { name, use_: Use::Quiet, doc: "" }).collect();
    let mut normal = Map::new();
    let name = |name: &str, at: &At<'_>| Located { value: name.to_owned(), mark: at.node.mark };
    if at.is_list() {
        for item in at.list().into_iter().flatten() {
            if let Some(text) = item.text() {
                service.networks.push(name(text, &item));
                normal.insert(text.to_owned(), Json::Null);
            }
        }
    } else {
        for (key, mark, value) in at.map().into_iter().flatten() {
            service.networks.push(Located { value: key.to_owned(), mark });
            if !value.is_null() {
                value.section("a service's network", &table, &mut ());
            }
            normal.insert(key.to_owned(), as_is(value.node));
        }
    }
    service.put(at, Json::Object(normal));
}

pub(super) fn depends_on(at: &At<'_>, service: &mut Service) {
    let started = Dependency { condition: Condition::ServiceStarted, required: true, restart: false };
    let mut normal = Map::new();
    let mut add = |at: &At<'_>, name: &str, dependency: Dependency, json: Json| {
        normal.insert(name.to_owned(), json);
        match ServiceName::new(name) {
            Ok(name) => drop(service.depends_on.insert(name, dependency)),
            Err(error) => at.error(error.to_string()),
        }
    };
    if at.is_list() {
        for item in at.list().into_iter().flatten() {
            if let Some(name) = item.text() {
                add(&item, name, started, json!({"condition": "service_started"}));
            }
        }
    } else {
        for (name, _, value) in at.map().into_iter().flatten() {
            let mut dependency = started;
            value.section("a dependency", &DEPENDENCY, &mut dependency);
            if value.is_map() && value.get("condition").is_none() {
                value.error("has no 'condition'");
            }
            add(&value, name, dependency, as_is(value.node));
        }
    }
    service.put(at, Json::Object(normal));
}

const DEPENDENCY: [Key<Dependency>; 3] = [
    take(
        "condition",
        |at, dependency| {
            let condition = at.word(&[
                ("service_started", Condition::ServiceStarted),
                ("service_healthy", Condition::ServiceHealthy),
                ("service_completed_successfully", Condition::ServiceCompletedSuccessfully),
            ]);
            dependency.condition = condition.unwrap_or(Condition::ServiceStarted);
        },
        "What is waited for. Required.",
    ),
    take(
        "required",
        |at, dependency| dependency.required = at.truth().unwrap_or(true),
        "`false`: it is started without it, too.",
    ),
    take(
        "restart",
        |at, dependency| dependency.restart = at.truth().unwrap_or_default(),
        "`true`: it is restarted with it.",
    ),
];
