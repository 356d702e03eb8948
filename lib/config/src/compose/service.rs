//! A service: every key of the compose-spec, read or refused by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plan::{Condition, Restart, ServiceName};
use serde_json::{Map, Value as Json, json};
use userdata::{At, KeySpec as Key, Located, Severity, Use, Value};

use super::ports::{Port, expose, ports};
use super::values::{environment, json as as_is, pairs_json, parse_size};
use super::volumes::{Volume, container_path, volumes};
use crate::machine::take;
use crate::words;

/// A service as it is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// The image's reference.
    pub image: Option<Located<String>>,
    /// Arguments.
    pub command: Option<CommandLine>,
    /// What is run.
    pub entrypoint: Option<CommandLine>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// Where it starts.
    pub working_dir: Option<PathBuf>,
    /// `user[:group]`
    pub user: Option<Located<String>>,
    /// When it is started again.
    pub restart: Option<Restart>,
    /// `network_mode`
    pub network_mode: Option<Located<String>>,
    /// The networks that it is in.
    pub networks: Vec<Located<String>>,
    /// With all rights on the host.
    pub privileged: bool,
    /// `pid`
    pub pid: Option<Located<String>>,
    /// What comes first.
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    /// Time to stop before it is killed.
    pub stop_grace_period: Option<Duration>,
    /// `logging.driver`
    pub logging: Option<Located<String>>,
    /// Ports.
    pub ports: Vec<Port>,
    /// What is mounted.
    pub volumes: Vec<Volume>,
    /// Everything in normal form.
    pub normal: Map<String, Json>,
    /// Variables for names without a value.
    env: Arc<BTreeMap<String, String>>,
    /// How many more ports the services may have.
    ports_left: usize,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine(pub Vec<String>);

/// A service that comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// What it waits for.
    pub condition: Condition,
    /// Without it the service is not started.
    pub required: bool,
    /// The service is restarted with it.
    pub restart: bool,
}

impl Service {
    pub(super) fn new(env: Arc<BTreeMap<String, String>>, ports_left: usize) -> Self {
        Self { env, ports_left, ..Self::default() }
    }

    pub(super) fn ports_left(&self) -> usize {
        self.ports_left
    }

    fn put(&mut self, at: &At<'_>, value: Json) {
        self.normal.insert(at.key().to_owned(), value);
    }
}

/// What is read.
pub(crate) const READ: [Key<Service>; 56] = [
    take(
        "image",
        image,
        "The image, found among those baked into the node. `nginx` means `docker.io/library/nginx:latest`. Required.",
    ),
    take(
        "command",
        |at, service| service.command = command_line(at, service),
        "Arguments in place of the image's `CMD`: a list, or a text that is split at spaces outside of quotes. \
         Empty: none.",
    ),
    take(
        "entrypoint",
        |at, service| service.entrypoint = command_line(at, service),
        "Program in place of the image's `ENTRYPOINT`, in the same forms. With it the image's `CMD` is not used.",
    ),
    take(
        "environment",
        |at, service| {
            service.environment = environment(at, &service.env);
            let normal = json!(service.environment);
            service.put(at, normal);
        },
        "Variables: a map, or a list of `NAME=value`. They replace the image's of the same name.",
    ),
    take(
        "working_dir",
        |at, service| {
            text(at, service);
            service.working_dir = at.absolute_path();
        },
        "Directory to start in: an absolute path.",
    ),
    take("user", user, "`USER` or `USER:GROUP` by number; of names only `root`. Without a group: root's."),
    take(
        "restart",
        |at, service| {
            text(at, service);
            service.restart = restart(at);
        },
        "`no` (default), `always`, `unless-stopped`, `on-failure` or `on-failure:N` (at most N times in a row).",
    ),
    take("network_mode", network_mode, "`host` (the node's network) or `none` (loopback only). Required."),
    take(
        "privileged",
        |at, service| {
            service.privileged = at.truth().unwrap_or_default();
            service.put(at, json!(service.privileged));
        },
        "`true`: all capabilities, all devices, no seccomp filter, nothing masked. Default `false`.",
    ),
    take(
        "pid",
        |at, service| {
            service.pid = at.located_text();
            text(at, service);
        },
        "`host`: the processes of the node are visible. Default: its own only.",
    ),
    take(
        "depends_on",
        depends_on,
        "Services that come first: a list of names, or a map of names to `condition`: `service_started`, \
         `service_completed_successfully` or `service_healthy` (an error as long as services have no health checks).",
    ),
    take(
        "stop_grace_period",
        |at, service| {
            text(at, service);
            service.stop_grace_period = at.duration();
        },
        "Time between the stop signal and the kill, as a duration. Default `10s`.",
    ),
    take(
        "logging",
        |at, service| {
            let table = [
                take("driver", |at, service: &mut Service| service.logging = at.located_text(), ""),
                Key { name: "options", use_: Use::Quiet, doc: "" },
            ];
            at.section("'logging'", &table, service);
            raw(at, service);
        },
        "`driver`: `file` (default: `/var/log/holdfast/NAME.log`), `console` (the node's console, each line behind \
         `NAME:`) or `none`.",
    ),
    take(
        "ports",
        |at, service| {
            service.ports = ports(at, &mut service.ports_left);
            service.put(at, service.ports.iter().map(Port::json).collect());
        },
        "Ports of the node that lead to the container.",
    ),
    take("expose", |at, service| service.put(at, expose(at)), "Ports that other containers see."),
    take(
        "volumes",
        |at, service| {
            service.volumes = volumes(at);
            service.put(at, service.volumes.iter().map(Volume::json).collect());
        },
        "Named volumes and directories of the node.",
    ),
    take(
        "tmpfs",
        |at, service| {
            for item in at.list_or_one() {
                if let Some(path) = item.text().and_then(|text| text.split(':').next()) {
                    container_path(&item, path);
                }
            }
            raw(at, service);
        },
        "Directories in memory.",
    ),
    take("networks", networks, "Networks of the section `networks`."),
    take("container_name", text, "Name of the container; the service's name counts here."),
    take("hostname", text, "The container's host name."),
    take("domainname", text, "The container's domain."),
    take("labels", pairs_of_texts, "Labels."),
    take("annotations", pairs_of_texts, "Annotations."),
    take("sysctls", pairs_of_texts, "Kernel parameters of its namespaces."),
    take("extra_hosts", extra_hosts, "Lines for its `/etc/hosts`."),
    take("healthcheck", healthcheck, "How it is seen that the service works."),
    take("cap_add", texts, "Capabilities on top of the default ones."),
    take("cap_drop", texts, "Capabilities that it does not get."),
    take("group_add", texts, "More groups."),
    take("devices", texts, "Devices of the node."),
    take("device_cgroup_rules", texts, "Rules for devices."),
    take("security_opt", texts, "Options such as `no-new-privileges`."),
    take("dns", texts, "Name servers."),
    take("dns_search", texts, "Search domains."),
    take("dns_opt", texts, "Options of `/etc/resolv.conf`."),
    take("profiles", texts, "Profiles that the service belongs to."),
    take("secrets", references, "Secrets of the section `secrets`."),
    take("configs", references, "Files of the section `configs`."),
    take("tty", truth, "With a terminal."),
    take("stdin_open", truth, "With its input open."),
    take("read_only", truth, "The container's root cannot be written."),
    take("init", truth, "An init process reaps in the container."),
    take("attach", truth, "Has no effect on a node."),
    take("shm_size", size, "Size of `/dev/shm`."),
    take("mem_limit", size, "The most memory."),
    take("mem_reservation", size, "Memory that is kept for it."),
    take("memswap_limit", size, "The most memory and swap together."),
    take("cpus", number, "How many processors it may use."),
    take("cpu_shares", number, "Its weight when processors are short."),
    take("cpuset", text, "Which processors it may use."),
    take("pids_limit", number, "The most processes."),
    take("oom_score_adj", number, "Who is killed first when memory is short."),
    take("stop_signal", text, "The signal that asks it to stop."),
    take("pull_policy", text, "When the image is fetched."),
    take("ulimits", ulimits, "Limits of its processes."),
    take("deploy", deploy, "`resources.limits` and the like."),
];

/// The compose-spec's other keys of a service, with the reason.
pub(crate) const REFUSED: [(&str, &str); 12] = [
    ("build", "images are built elsewhere: give 'image'"),
    ("volumes_from", "name the volumes under 'volumes'"),
    ("links external_links", "services of one network find each other by name"),
    ("extends", "write the service out, or use a YAML anchor"),
    ("label_file", "give 'labels'"),
    ("credential_spec isolation", "that is for Windows"),
    ("runtime", "there is one runtime on a node"),
    ("provider models", "run it in a service"),
    ("develop", "that is for a developer's machine"),
    ("use_api_socket", "there is no other engine on a node"),
    ("post_start pre_stop", "let the image's own program do it"),
    (
        "blkio_config cgroup cgroup_parent cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime \
         driver_opts gpus ipc mac_address mem_swappiness oom_kill_disable platform pull_refresh_after scale \
         storage_opt userns_mode uts",
        "",
    ),
];

/// Every key of a service.
pub(super) fn table() -> Vec<Key<Service>> {
    let mut table = Vec::from(READ);
    table.push(Key { name: "env_file", use_: Use::Read(env_file), doc: "" });
    for (names, doc) in REFUSED {
        table.extend(names.split_whitespace().map(|name| Key { name, use_: Use::Refused, doc }));
    }
    table
}

fn env_file(at: &At<'_>, _: &mut Service) {
    for item in at.list_or_one() {
        let path = if item.is_map() { item.get("path") } else { Some(item) };
        if let Some((path, text)) = path.as_ref().and_then(|path| Some((path, path.text()?))) {
            path.error_with_hint(
                format!("'{text}' is a file beside the compose file, and there is none on a node"),
                "give the variables in 'environment'",
            );
        }
    }
}

fn raw(at: &At<'_>, service: &mut Service) {
    service.put(at, as_is(at.node));
}

fn text(at: &At<'_>, service: &mut Service) {
    if let Some(text) = at.text() {
        service.put(at, json!(text));
    }
}

fn truth(at: &At<'_>, service: &mut Service) {
    if let Some(truth) = at.truth() {
        service.put(at, json!(truth));
    }
}

fn number(at: &At<'_>, service: &mut Service) {
    match at.text() {
        Some(text) if text.parse::<f64>().is_ok_and(f64::is_finite) => raw(at, service),
        Some(_) => at.error("must be a number"),
        None => {}
    }
}

fn size(at: &At<'_>, service: &mut Service) {
    match at.text() {
        Some(text) if parse_size(text).is_some() || text == "-1" => service.put(at, json!(text)),
        Some(_) => at.error_with_hint("not a size", "bytes, or a number with k, m or g"),
        None => {}
    }
}

fn texts(at: &At<'_>, service: &mut Service) {
    let texts: Vec<String> =
        at.list_or_one().iter().filter_map(|item| item.text().map(str::to_owned)).collect();
    service.put(at, json!(texts));
}

fn pairs_of_texts(at: &At<'_>, service: &mut Service) {
    service.put(at, pairs_json(at));
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`, or a map.
fn extra_hosts(at: &At<'_>, service: &mut Service) {
    let mut hosts = Map::new();
    if at.is_map() {
        for (name, _, value) in at.map().into_iter().flatten() {
            hosts.insert(name.to_owned(), as_is(value.node));
        }
    }
    for item in at.list().into_iter().flatten().filter(|_| at.is_list()) {
        let Some(text) = item.text() else { continue };
        match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((name, address)) if !name.is_empty() && !address.is_empty() => {
                hosts.insert(name.to_owned(), json!(address));
            }
            _ => item.error_with_hint(format!("'{text}' names no host and address"), "as in 'db:192.0.2.7'"),
        }
    }
    service.put(at, Json::Object(hosts));
}

/// References to secrets or configs: names, or maps with `source`.
fn references(at: &At<'_>, service: &mut Service) {
    let quiet = |name| Key { name, use_: Use::Quiet, doc: "" };
    let table: Vec<Key<()>> = ["source", "target", "uid", "gid", "mode"].into_iter().map(quiet).collect();
    let mut references = Vec::new();
    for item in at.list().into_iter().flatten() {
        if item.is_map() {
            item.section("a reference", &table, &mut ());
            if item.get("source").is_none() {
                item.error("has no 'source'");
            }
            references.push(as_is(item.node));
        } else if let Some(name) = item.text() {
            references.push(json!({"source": name}));
        }
    }
    service.put(at, Json::Array(references));
}

fn image(at: &At<'_>, service: &mut Service) {
    let Some(image) = at.located_text() else { return };
    let reference = image.value.as_str();
    let word = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    let repository = reference.rsplit_once('/').map_or(reference, |(_, last)| last);
    let name = repository.split([':', '@']).next().unwrap_or_default();
    if name.is_empty() || !reference.chars().all(word) || name.contains(|c: char| c.is_ascii_uppercase()) {
        at.error_with_hint("not an image reference", "as in nginx, nginx:1.27 or ghcr.io/owner/name:tag");
    } else {
        service.put(at, json!(reference));
        service.image = Some(image);
    }
}

fn command_line(at: &At<'_>, service: &mut Service) -> Option<CommandLine> {
    raw(at, service);
    if at.is_list() {
        return at.texts().map(CommandLine);
    }
    match words::split(at.text()?) {
        Ok(words) => Some(CommandLine(words)),
        Err(words::Unfinished(why)) => {
            at.error(why);
            None
        }
    }
}

fn user(at: &At<'_>, service: &mut Service) {
    let Some(user) = at.located_text() else { return };
    let word = |c: char| c.is_ascii_alphanumeric() || "._-$".contains(c);
    let number = |part: &str| !part.starts_with(|c: char| c.is_ascii_digit()) || part.parse::<u32>().is_ok();
    let valid = |part: &str| !part.is_empty() && part.chars().all(word) && number(part);
    if user.value.split(':').count() <= 2 && user.value.split(':').all(valid) {
        service.put(at, json!(user.value));
        service.user = Some(user);
    } else {
        at.error_with_hint("not a user", "USER or USER:GROUP, each a name or a number");
    }
}

fn restart(at: &At<'_>) -> Option<Restart> {
    let text = at.text()?;
    if let Some(max) = text.strip_prefix("on-failure:") {
        let max = max.parse().ok().filter(|max| *max > 0);
        if max.is_none() {
            at.error_with_hint("the number behind 'on-failure:' is not one", "as in on-failure:3");
        }
        return max.map(|max| Restart::OnFailure { max: Some(max) });
    }
    at.word(&[
        ("no", Restart::No),
        ("always", Restart::Always),
        ("unless-stopped", Restart::UnlessStopped),
        ("on-failure", Restart::OnFailure { max: None }),
    ])
}

fn network_mode(at: &At<'_>, service: &mut Service) {
    service.network_mode = at.located_text();
    text(at, service);
    if let Some(mode) = &service.network_mode
        && let Some(container) = mode.value.strip_prefix("container:")
    {
        at.error_with_hint(
            format!("the container '{container}' is not one of the node's services"),
            "name one: 'service:NAME'",
        );
    }
}

fn networks(at: &At<'_>, service: &mut Service) {
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

fn depends_on(at: &At<'_>, service: &mut Service) {
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
        "",
    ),
    take("required", |at, dependency| dependency.required = at.truth().unwrap_or(true), ""),
    take("restart", |at, dependency| dependency.restart = at.truth().unwrap_or_default(), ""),
];

fn healthcheck(at: &At<'_>, service: &mut Service) {
    let duration = |name| {
        take(
            name,
            |at, _: &mut ()| {
                at.duration();
            },
            "",
        )
    };
    let table: [Key<()>; 7] = [
        take(
            "test",
            |at, ()| {
                let first = at.list_or_one().first().and_then(|first| first.text().map(str::to_owned));
                if at.is_list()
                    && !first.is_some_and(|first| ["NONE", "CMD", "CMD-SHELL"].contains(&first.as_str()))
                {
                    at.error_with_hint("the first word of a test is not known", "NONE, CMD or CMD-SHELL");
                }
            },
            "",
        ),
        duration("interval"),
        duration("timeout"),
        duration("start_period"),
        duration("start_interval"),
        take(
            "retries",
            |at, ()| {
                at.int(0..=1_000_000);
            },
            "",
        ),
        take(
            "disable",
            |at, ()| {
                at.truth();
            },
            "",
        ),
    ];
    at.section("'healthcheck'", &table, &mut ());
    raw(at, service);
}

fn ulimits(at: &At<'_>, service: &mut Service) {
    let limit = |name| {
        take(
            name,
            |at, _: &mut ()| {
                at.int(-1..=i64::MAX);
            },
            "",
        )
    };
    let table: [Key<()>; 2] = [limit("soft"), limit("hard")];
    for (_, _, value) in at.map().into_iter().flatten() {
        if value.is_map() {
            value.section("a limit", &table, &mut ());
        } else {
            value.int(-1..=i64::MAX);
        }
    }
    raw(at, service);
}

fn deploy(at: &At<'_>, service: &mut Service) {
    const KEYS: &str =
        "endpoint_mode labels mode placement replicas resources restart_policy rollback_config update_config";
    for (name, mark, value) in at.map().into_iter().flatten() {
        if !KEYS.split_whitespace().any(|key| key == name) && !name.starts_with("x-") {
            value.add(Severity::Error, mark, format!("'{name}' is not a key of 'deploy'"), "");
        }
    }
    if let Some(limits) = at.get("resources").and_then(|resources| resources.get("limits"))
        && let Some(memory) = limits.get("memory")
        && memory.text().is_some_and(|text| parse_size(text).is_none())
    {
        memory.error_with_hint("not a size", "bytes, or a number with k, m or g");
    }
    if matches!(at.node.value, Value::Map(_)) {
        raw(at, service);
    }
}
