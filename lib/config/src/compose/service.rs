//! A service: every key of the compose-spec, read or refused by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plan::{Condition, Restart, ServiceName};
use serde_json::{Map, Value as Json, json};
use userdata::{At, KeySpec as Key, Located, Use};

use super::container as parts;
use super::env_file::env_file;
use super::forms::{raw, text, texts, truth};
use super::limits;
use super::logging::{Logging, logging};
use super::ports::{Port, expose, ports};
use super::process::{command_line, image, restart, user};
use super::relations::{Reference, depends_on, extra_hosts, joined, network_mode, networks, references};
use super::values::environment;
use super::volumes::{Volume, volumes};
use crate::container::Container;
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
    /// `ipc`, unless it is its own.
    pub ipc: Option<Located<String>>,
    /// What comes first.
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    /// Time to stop before it is killed.
    pub stop_grace_period: Option<Duration>,
    /// `logging`
    pub logging: Logging,
    /// Ports.
    pub ports: Vec<Port>,
    /// What is mounted.
    pub volumes: Vec<Volume>,
    /// Secrets and configs.
    pub files: Vec<Reference>,
    /// What it is made of, as far as the service alone says it.
    pub container: Container,
    /// `deploy.replicas` or `scale`
    pub replicas: Option<i64>,
    /// `deploy.update_config.order` is `start-first`.
    pub start_first: bool,
    /// Profiles that it belongs to.
    pub profiles: Vec<String>,
    /// Everything in normal form.
    pub normal: Map<String, Json>,
    /// What the files of `env_file` say.
    pub(super) from_files: BTreeMap<String, String>,
    /// Variables for names without a value.
    env: Arc<BTreeMap<String, String>>,
    /// The texts of `write_files` by path.
    pub(super) texts: Arc<BTreeMap<String, String>>,
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
    pub(super) fn new(
        env: Arc<BTreeMap<String, String>>,
        texts: Arc<BTreeMap<String, String>>,
        ports_left: usize,
    ) -> Self {
        Self { env, texts, ports_left, ..Self::default() }
    }

    /// Puts the variables of files below its own.
    pub(super) fn merge_env_files(&mut self) {
        if self.from_files.is_empty() {
            return;
        }
        let own = std::mem::take(&mut self.environment);
        self.environment = std::mem::take(&mut self.from_files);
        self.environment.extend(own);
        self.normal.insert("environment".to_owned(), json!(self.environment));
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
pub(crate) const READ: [Key<Service>; 64] = [
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
        "env_file",
        env_file,
        "Files with variables, `NAME=value` a line, below those of `environment`: absolute paths that `write_files` has, or \
         maps with `path` and `required`.",
    ),
    take(
        "working_dir",
        |at, service| {
            text(at, service);
            service.working_dir = at.absolute_path();
        },
        "Directory to start in: an absolute path.",
    ),
    take(
        "user",
        user,
        "`USER` or `USER:GROUP`, each a name of the image's `/etc/passwd` or `/etc/group`, or a number. Without a group: the \
         user's own, and root's for a number that the image does not know.",
    ),
    take(
        "restart",
        |at, service| {
            text(at, service);
            service.restart = restart(at);
        },
        "`no` (default), `always`, `unless-stopped`, `on-failure` or `on-failure:N` (at most N times in a row).",
    ),
    take(
        "network_mode",
        network_mode,
        "`host` (the node's network), `none` (loopback only) or `service:NAME` (that of another service). Without it the \
         service is in `networks`.",
    ),
    take(
        "privileged",
        |at, service| {
            service.privileged = at.truth().unwrap_or_default();
            service.put(at, json!(service.privileged));
        },
        "`true`: all capabilities, all devices, no seccomp filter, nothing masked. Default `false`.",
    ),
    take(
        "userns_mode",
        parts::userns_mode,
        "`host`: its users are those of the node. `private`: they are its own. Default: its own, unless it is privileged or \
         shares the node's network or processes.",
    ),
    take(
        "uts",
        |at, service| service.container.node_name = parts::word(at, service, &["host"]) == Some("host"),
        "`host`: its host name is the node's. Default: its own.",
    ),
    take(
        "cgroup",
        |at, service| {
            service.container.node_cgroups = parts::word(at, service, &["private", "host"]) == Some("host");
        },
        "`host`: it sees the control groups of the node. `private`, the default: its own only.",
    ),
    take(
        "ipc",
        |at, service| {
            service.ipc =
                joined(at, service).filter(|ipc| !["private", "shareable"].contains(&ipc.value.as_str()));
        },
        "Whose message queues and shared memory it has. `private`, the default, and `shareable`: its own. `host`: the node's. \
         `service:NAME`: that service's, and its users with them.",
    ),
    take(
        "platform",
        |at, service| {
            parts::word(at, service, &["linux/amd64", "linux/x86_64", "linux"]);
        },
        "`linux/amd64`, which every node is.",
    ),
    take(
        "pid",
        |at, service| service.pid = joined(at, service),
        "Whose processes it sees. Default: its own only. `host`: the node's. `service:NAME`: that service's, and it has its users.",
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
        logging,
        "`driver`: `file` (default; also `json-file` and `local`: files below `/var/log/holdfast`), `console` (the node's \
         console, each line behind `NAME:`) or `none`. `options`: see `services.md`.",
    ),
    take(
        "ports",
        |at, service| {
            service.ports = ports(at, &mut service.ports_left);
            service.put(at, service.ports.iter().map(Port::json).collect());
        },
        "Ports of the node that lead to the container: `NODE:CONTAINER`, with `ADDRESS:` before and `/udp` behind, or \
         ranges. With `network_mode: host`: ports that are open.",
    ),
    take(
        "expose",
        |at, service| service.put(at, expose(at)),
        "With `network_mode: host`: ports that are open. Containers of one network reach all ports of each other.",
    ),
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
        parts::tmpfs,
        "Directories in memory: `PATH` or `PATH:OPTIONS`, with `size=`, `mode=`, `uid=`, `gid=`, `exec`, `ro` and the like.",
    ),
    take(
        "networks",
        networks,
        "Networks of the section `networks`: a list, or a map to `aliases` and `ipv4_address`. Default: `default`.",
    ),
    take("container_name", text, "Name of the container; the service's name counts here."),
    take(
        "hostname",
        |at, service| service.container.hostname = parts::host_name(at, service),
        "The container's host name. Default: the service's name; on the node's network, the node's.",
    ),
    take(
        "domainname",
        |at, service| service.container.domainname = parts::host_name(at, service),
        "The domain of the container's host name.",
    ),
    take("labels", parts::annotations, "Labels: kept with the container."),
    take("annotations", parts::annotations, "Annotations: as labels."),
    take(
        "sysctls",
        parts::sysctls,
        "Kernel parameters of its namespaces: `net.*`, `kernel.shm*` and the like.",
    ),
    take(
        "extra_hosts",
        extra_hosts,
        "Lines for its `/etc/hosts`: names and addresses. `host-gateway` is the node's address.",
    ),
    take(
        "healthcheck",
        limits::healthcheck,
        "How it is seen that the service works: a program that is executed in the container.",
    ),
    take(
        "cap_add",
        |at, service| service.container.cap_add = parts::capabilities(at, service),
        "Capabilities on top of the default ones; `ALL` for all.",
    ),
    take(
        "cap_drop",
        |at, service| service.container.cap_drop = parts::capabilities(at, service),
        "Capabilities that it does not get; with `ALL` only those of `cap_add`.",
    ),
    take("group_add", parts::group_add, "More groups: names of the image's `/etc/group`, or numbers."),
    take("devices", parts::devices, "Devices of the node: `PATH[:TARGET[:rwm]]`."),
    take(
        "device_cgroup_rules",
        parts::device_rules,
        "Devices by number that it may use: `c 1:3 rwm`, `b *:* r`, `a *:* rwm`.",
    ),
    take(
        "security_opt",
        parts::security_opt,
        "`no-new-privileges` (the default), `no-new-privileges=false` (programs may gain rights when they are executed), \
         `seccomp=unconfined`, `seccomp=/PATH` (a profile that `write_files` writes there, in Docker's form or the runtime-spec's).",
    ),
    take("dns", texts, "Name servers that are asked for other names than those of services."),
    take("dns_search", texts, "Search domains."),
    take("dns_opt", texts, "Options of `/etc/resolv.conf`."),
    take(
        "profiles",
        |at, service| {
            texts(at, service);
            service.profiles = at.texts().unwrap_or_default();
        },
        "Profiles that the service belongs to. It runs when `COMPOSE_PROFILES` in `holdfast.env` names one of them.",
    ),
    take("secrets", references, "Secrets of the section `secrets`: files below `/run/secrets`."),
    take("configs", references, "Files of the section `configs`, in the container's root or at `target`."),
    take("tty", parts::terminal, "`true`: its program has a terminal; what it prints there is its output."),
    take("stdin_open", parts::stdin_open, "`true`: its input stays open, for clients of its task service."),
    take("read_only", parts::read_only, "The container's root cannot be written."),
    take(
        "init",
        parts::init,
        "`true`: the container's first process passes signals on to its program and reaps what others leave.",
    ),
    take("attach", truth, "Has no effect on a node."),
    take(
        "shm_size",
        |at, service| service.container.shm_size = parts::bytes(at, service),
        "Size of `/dev/shm`. Default `64m`.",
    ),
    take(
        "storage_opt",
        parts::storage_opt,
        "`size`: the space that what it writes to its root may take, `1m` or more. It takes ids of its own. Default: all there is.",
    ),
    take("mem_limit", limits::memory, "The most memory, `4m` or more."),
    take(
        "mem_reservation",
        |at, service| service.container.limits.memory_reservation = parts::bytes(at, service),
        "Memory that is kept for it when memory is short.",
    ),
    take(
        "memswap_limit",
        limits::memory_and_swap,
        "The most memory and swap together; `-1`: no limit. Default: twice the memory.",
    ),
    take("cpus", limits::cpus, "How many processors it may use, as in `0.5`."),
    take("cpu_shares", limits::cpu_shares, "Its weight when processors are short. Default 1024."),
    take("cpuset", limits::cpuset, "Which processors it may use, as in `0-2,5`."),
    take("pids_limit", limits::pids, "The most processes and threads; `-1`: no limit. Default 8192."),
    take(
        "oom_score_adj",
        limits::oom_score_adj,
        "Who is ended first when memory is short: -1000 (never) to 1000.",
    ),
    take(
        "stop_signal",
        parts::stop_signal,
        "The signal that asks it to stop. Default: the image's, else `SIGTERM`.",
    ),
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
    take(
        "ulimits",
        limits::ulimits,
        "Limits of its processes by name, each a number or `soft` and `hard`; -1: no limit.",
    ),
    take(
        "deploy",
        limits::deploy,
        "`resources.limits` and `resources.reservations`, `replicas`, `update_config.order`; what is for a cluster has no effect.",
    ),
    take("scale", limits::scale, "As `deploy.replicas`."),
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
        "blkio_config cgroup_parent cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime \
         driver_opts gpus mac_address mem_swappiness oom_kill_disable pull_refresh_after",
        "",
    ),
];

/// Every key of a service.
pub(super) fn table() -> Vec<Key<Service>> {
    let mut table = Vec::from(READ);
    for (names, doc) in REFUSED {
        table.extend(names.split_whitespace().map(|name| Key { name, use_: Use::Refused, doc }));
    }
    table
}
