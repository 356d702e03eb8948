//! What this release applies. A configuration may ask for more: every other key is read and checked, and then said here.
//!
//! The node is strict: what changes how a service runs, and is not done, is an error; what it can do without is a
//! warning. A key moves into these lists with the code that applies it.

mod networks;

use std::collections::BTreeMap;
use std::time::Duration;

use plan::Restart;
use userdata::{At, Located, Mark, Severity, alternatives};

use crate::compose::{self, CommandLine};
use crate::container::Namespace;
use crate::container_network::Bridge;
use crate::desired::{Desired, Service};
use crate::{Config, Judge, machine};

mod container;
mod files;
pub(crate) mod joins;
mod logging;
mod profiles;
pub(crate) mod replicas;
mod start_first;

/// Top-level keys that are applied. `holdfast` has its own list.
pub(crate) const MACHINE: &[&str] = &[
    "hostname",
    "fqdn",
    "prefer_fqdn_over_hostname",
    "preserve_hostname",
    "manage_etc_hosts",
    "manage_resolv_conf",
    "resolv_conf",
    "timezone",
    "ntp",
    "ssh_authorized_keys",
    "users",
    "allow_public_ssh_keys",
    "write_files",
    "ca_certs",
    "ca-certs",
    "ssh_keys",
    "ssh_deletekeys",
    "ssh_genkeytypes",
    "mounts",
    "mount_default_fields",
    "swap",
    "device_aliases",
    "disk_setup",
    "fs_setup",
    "random_seed",
    "power_state",
    "phone_home",
    "final_message",
    "bootcmd",
    "runcmd",
    "disable_root",
    "services",
    "networks",
    "volumes",
    "secrets",
    "configs",
    "holdfast",
    "vendor_data",
];
/// Keys of the section `holdfast`.
pub(crate) const HOLDFAST: &[&str] = &[
    "gate", "env", "network", "compat", "sysctl", "modules", "firewall", "registry", "images", "scrub",
    "logs",
];
/// Keys of a service.
pub(crate) const SERVICE: &[&str] = &[
    "image",
    "pull_policy",
    "command",
    "entrypoint",
    "environment",
    "working_dir",
    "user",
    "restart",
    "network_mode",
    "networks",
    "ports",
    "expose",
    "dns",
    "dns_search",
    "dns_opt",
    "extra_hosts",
    "privileged",
    "pid",
    "userns_mode",
    "uts",
    "cgroup",
    "ipc",
    "platform",
    "device_cgroup_rules",
    "depends_on",
    "stop_grace_period",
    "logging",
    "attach",
    "group_add",
    "volumes",
    "tmpfs",
    "shm_size",
    "storage_opt",
    "read_only",
    "secrets",
    "configs",
    "env_file",
    "healthcheck",
    "deploy",
    "mem_limit",
    "mem_reservation",
    "memswap_limit",
    "cpus",
    "cpu_shares",
    "cpuset",
    "pids_limit",
    "oom_score_adj",
    "ulimits",
    "sysctls",
    "cap_add",
    "cap_drop",
    "security_opt",
    "devices",
    "stop_signal",
    "labels",
    "annotations",
    "container_name",
    "hostname",
    "domainname",
    "profiles",
    "tty",
    "stdin_open",
    "scale",
    "init",
];

/// Docker's default for `stop_grace_period`.
const STOP_GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Says what of `config` this release does not do, and gives what it does: nothing when that is not all of the services.
pub(crate) fn desired(root: &At<'_>, config: &Config, judge: Judge) -> Option<Desired> {
    let release = Release { judge, texts: compose::texts(&config.machine) };
    release.machine(root, config.machine.holdfast.run_in.is_some());
    let mut services = BTreeMap::new();
    let mut whole = release.volumes(root);
    let bridges = networks::bridges(&release, root, &config.project.networks);
    whole &= bridges.is_some();
    let bridges = bridges.unwrap_or_default();
    let active = |service: &compose::Service| profiles::is_active(config, service);
    for (name, service) in config.project.services.iter().filter(|(_, service)| active(service)) {
        let at = root.get("services").and_then(|at| at.get(name.as_str()));
        let replicas = at.and_then(|at| {
            let first = release.service(&at, service, config, &bridges)?;
            let fits = !service.start_first || release.may_start_first(&at, name, config, &first);
            let replicas = release.replicas(&at, name, service, config, first);
            replicas.filter(|_| fits)
        });
        match replicas {
            Some(replicas) => services.extend(replicas),
            None => whole = false,
        }
    }
    replicas::wait_for_all(&mut services, config);
    networks::refuse_chains(root, &config.project.services);
    joins::refuse_chains(root, &config.project.services);
    let machine = &config.machine;
    let own = machine.keys.iter().filter(|(user, _)| user == machine::users::DEFAULT_USER);
    let keys = own.map(|(_, key)| key.clone()).collect();
    let desired = Desired {
        hostname: machine.hostname.given(),
        ssh_authorized_keys: keys,
        gate: machine.holdfast.gate,
        networks: bridges,
        firewall: machine.holdfast.firewall.clone(),
        services,
    };
    networks::warn_of_open_node(root, &desired);
    whole.then_some(desired)
}

struct Release {
    judge: Judge,
    /// What `write_files` writes, by path.
    texts: BTreeMap<String, String>,
}

impl Release {
    /// What a node refuses. Elsewhere it is a warning: the file is good, for another release.
    fn refuse(&self, at: &At<'_>, mark: Mark, message: &str, hint: &str) {
        match self.judge {
            Judge::Node => at.add(Severity::Error, mark, message, hint),
            Judge::Vocabulary => {
                at.add(
                    Severity::Warning,
                    mark,
                    format!("a node of this version refuses this: {message}"),
                    hint,
                );
            }
        }
    }

    fn machine(&self, root: &At<'_>, has_image: bool) {
        let leave_out = |parent: &At<'_>, known: &dyn Fn(&str) -> bool, applied: &[&str]| {
            for (name, mark, at) in parent.map().into_iter().flatten() {
                if known(name) && !applied.contains(&name) && !at.asks_for_nothing() {
                    let message = format!("'{name}' is not supported by this version and is left out");
                    at.add(Severity::Warning, mark, message, "");
                }
            }
        };
        if root.is_map() {
            // Without an image to run in they are not applicable, which is said elsewhere.
            let quiet = |name: &str| matches!(name, "runcmd" | "bootcmd") && !has_image;
            let native = |name: &str| machine::NATIVE.iter().any(|key| key.name == name) && !quiet(name);
            leave_out(root, &native, MACHINE);
        }
        if let Some(holdfast) = root.get("holdfast").filter(At::is_map) {
            let known = |name: &str| machine::HOLDFAST.iter().any(|key| key.name == name);
            leave_out(&holdfast, &known, HOLDFAST);
        }
    }

    fn service(
        &self,
        at: &At<'_>,
        service: &compose::Service,
        config: &Config,
        bridges: &BTreeMap<String, Bridge>,
    ) -> Option<Service> {
        let mut whole = true;
        for (name, mark, value) in at.map().into_iter().flatten() {
            let known = compose::READ.iter().any(|key| key.name == name);
            if known && !SERVICE.contains(&name) && !value.is_null() {
                self.refuse(&value, mark, &format!("'{name}' is not supported by this version"), "");
                whole = false;
            }
        }
        let mut refuse = |key: &str, message: &str, hint: &str| {
            let value = at.get(key).unwrap_or_else(|| at.clone());
            self.refuse(&value, value.node.mark, message, hint);
            whole = false;
        };
        let mut namespace = |key: &str, mode: &Option<Located<String>>, words: &[&str]| {
            joins::namespace(mode, words).unwrap_or_else(|message| {
                refuse(key, &message, "");
                Namespace::Own
            })
        };
        let pid = namespace("pid", &service.pid, &["host", "service:NAME"]);
        let ipc = namespace("ipc", &service.ipc, &["private", "shareable", "host", "service:NAME"]);
        let logging = self.logging(at, &service.logging);
        whole &= self.dependencies(at, service, config);
        let container = self.container(at, service, config);
        let network = networks::network(self, at, service, bridges);
        let reach = network.as_ref().map(|network| networks::reach(self, at, service, network));
        let words = |line: &Option<CommandLine>| line.as_ref().map(|line| line.0.clone());
        let (image, logging) = (service.image.clone()?, logging?);
        let (network, reach, container) = (network?, reach??, container?);
        whole.then(|| Service {
            image,
            pull_policy: service.pull_policy,
            command: words(&service.command),
            entrypoint: words(&service.entrypoint),
            environment: service.environment.clone(),
            working_dir: service.working_dir.clone(),
            user: service.user.clone(),
            restart: service.restart.unwrap_or(Restart::No),
            network,
            reach,
            privileged: service.privileged,
            pid,
            ipc,
            depends_on: service
                .depends_on
                .iter()
                .map(|(name, needed)| (name.clone(), needed.condition))
                .collect(),
            stop_grace_period: service.stop_grace_period.unwrap_or(STOP_GRACE_PERIOD),
            start_first: service.start_first,
            logging,
            container,
        })
    }

    fn dependencies(&self, at: &At<'_>, service: &compose::Service, config: &Config) -> bool {
        let mut whole = true;
        // Who shares a service's network depends on it without a word.
        let list = at.get("depends_on").or_else(|| at.get("network_mode")).unwrap_or_else(|| at.clone());
        for (name, dependency) in &service.depends_on {
            let at = list.get(name.as_str()).unwrap_or_else(|| list.clone());
            let mut refuse = |key: &str, message: &str| {
                let at = at.get(key).unwrap_or_else(|| at.clone());
                self.refuse(&at, at.node.mark, message, "");
                whole = false;
            };
            let needed = config.project.services.get(name);
            if needed.is_some_and(|needed| !profiles::is_active(config, needed)) {
                refuse("", &format!("no profile of '{name}' is active, so it does not run"));
            }
            if needed.is_some_and(|needed| replicas::count(needed) == 0) {
                refuse("", &format!("'{name}' has no replicas, so it does not run"));
            }
            if !dependency.required {
                refuse("required", "only true is supported by this version");
            }
            if dependency.restart {
                refuse("restart", "only false is supported by this version");
            }
        }
        whole
    }
}

fn not_supported(value: &str, words: &[&str]) -> String {
    format!("'{value}' is not supported: it must be {}", alternatives(words))
}
