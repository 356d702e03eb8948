//! A service: every key of the compose-spec, read or refused by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plan::{Condition, Restart, ServiceName};
use serde_json::{Map, Value as Json, json};
use userdata::{At, KeySpec as Key, Located, Use};

use super::forms::{number, pairs_of_texts, raw, size, text, texts, truth};
use super::limits::{deploy, healthcheck, ulimits};
use super::ports::{Port, expose, ports};
use super::process::{command_line, env_file, image, restart, user};
use super::relations::{depends_on, extra_hosts, network_mode, networks, references};
use super::values::environment;
use super::volumes::{Volume, container_path, volumes};
use crate::desired::PullPolicy;
use crate::machine::take;

/// A service as it is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// The image's reference.
    pub image: Option<Located<String>>,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
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

    /// Keeps the value of a key in normal form.
    pub(super) fn put(&mut self, at: &At<'_>, value: Json) {
        self.normal.insert(at.key().to_owned(), value);
    }
}

/// What is read.
pub(crate) const READ: [Key<Service>; 56] = [
    take(
        "image",
        image,
        "The image, found among those on the node, else pulled from its registry: see `images.md`. `nginx` means \
         `docker.io/library/nginx:latest`; `nginx@sha256:...` means exactly that one. Required.",
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
            raw(at, service);
            service.stop_grace_period = at.duration();
        },
        "Time between the stop signal and the kill, as a duration. Default `10s`.",
    ),
    take(
        "logging",
        |at, service| {
            let table = [
                take(
                    "driver",
                    |at, service: &mut Service| service.logging = at.located_text(),
                    "`file`, `console` or `none`.",
                ),
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
    take(
        "pull_policy",
        |at, service| {
            let words = [
                ("missing", PullPolicy::Missing),
                ("if_not_present", PullPolicy::Missing),
                ("always", PullPolicy::Always),
                ("never", PullPolicy::Never),
            ];
            text(at, service);
            service.pull_policy = at.word(&words).unwrap_or_default();
        },
        "When the image is pulled: `missing` (default; also `if_not_present`): when it is not on the node; `always`: for \
         every new generation, as a tag may have moved; `never`.",
    ),
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
