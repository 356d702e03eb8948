//! Compose's `services`: every key of the compose-spec, read or refused by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use plan::{Condition, Restart, ServiceName};

use crate::desired::{Located, Logging, Network, Service};
use crate::read::{At, Key, Use};
use crate::words;

/// Docker's default for `stop_grace_period`.
const STOP_GRACE_PERIOD: Duration = Duration::from_secs(10);

/// A service as far as it is given.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    image: Option<Located<String>>,
    command: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    environment: BTreeMap<String, String>,
    working_dir: Option<PathBuf>,
    user: Option<Located<String>>,
    restart: Option<Restart>,
    network: Option<Network>,
    network_is_wrong: bool,
    privileged: bool,
    host_pid: bool,
    depends_on: BTreeMap<ServiceName, Condition>,
    stop_grace_period: Option<Duration>,
    logging: Logging,
}

/// What is read.
pub(crate) const READ: [Key<Draft>; 13] = [
    Key {
        name: "image",
        use_: Use::Read(image),
        doc: "The image, found among those baked into the node. `nginx` means `docker.io/library/nginx:latest`. \
              Required.",
    },
    Key {
        name: "command",
        use_: Use::Read(|at, draft| draft.command = command_line(at)),
        doc: "Arguments in place of the image's `CMD`: a list, or a text that is split at spaces outside of quotes. \
              Empty: none.",
    },
    Key {
        name: "entrypoint",
        use_: Use::Read(|at, draft| draft.entrypoint = command_line(at)),
        doc: "Program in place of the image's `ENTRYPOINT`, in the same forms. With it the image's `CMD` is not used.",
    },
    Key {
        name: "environment",
        use_: Use::Read(|at, draft| draft.environment = environment(at)),
        doc: "Variables: a map, or a list of `NAME=value`. They replace the image's of the same name.",
    },
    Key {
        name: "working_dir",
        use_: Use::Read(|at, draft| draft.working_dir = at.absolute_path()),
        doc: "Directory to start in: an absolute path.",
    },
    Key {
        name: "user",
        use_: Use::Read(user),
        doc: "`USER` or `USER:GROUP` by number; of names only `root`. Without a group: root's.",
    },
    Key {
        name: "restart",
        use_: Use::Read(|at, draft| draft.restart = restart(at)),
        doc: "`no` (default), `always`, `unless-stopped`, `on-failure` or `on-failure:N` (at most N times in a row).",
    },
    Key {
        name: "network_mode",
        use_: Use::Read(network_mode),
        doc: "`host` (the node's network) or `none` (loopback only). Required.",
    },
    Key {
        name: "privileged",
        use_: Use::Read(|at, draft| draft.privileged = at.truth().unwrap_or_default()),
        doc: "`true`: all capabilities, all devices, no seccomp filter, nothing masked. Default `false`.",
    },
    Key {
        name: "pid",
        use_: Use::Read(|at, draft| draft.host_pid = at.word(&[("host", true)]).unwrap_or_default()),
        doc: "`host`: the processes of the node are visible. Default: its own only.",
    },
    Key {
        name: "depends_on",
        use_: Use::Read(|at, draft| draft.depends_on = depends_on(at)),
        doc: "Services that come first: a list of names, or a map of names to `condition`: `service_started`, \
              `service_completed_successfully` or `service_healthy` (an error as long as services have no health \
              checks).",
    },
    Key {
        name: "stop_grace_period",
        use_: Use::Read(|at, draft| draft.stop_grace_period = at.duration()),
        doc: "Time between the stop signal and the kill, as a duration. Default `10s`.",
    },
    Key {
        name: "logging",
        use_: Use::Read(|at, draft| at.section("'logging'", &LOGGING, &mut draft.logging)),
        doc: "`driver`: `file` (default: `/var/log/holdfast/NAME.log`), `console` (the node's console, each line \
              behind `NAME:`) or `none`.",
    },
];

const LOGGING: [Key<Logging>; 2] = [
    Key {
        name: "driver",
        use_: Use::Read(|at, logging| {
            let words = [("file", Logging::File), ("console", Logging::Console), ("none", Logging::None)];
            *logging = at.word(&words).unwrap_or_default();
        }),
        doc: "",
    },
    Key { name: "options", use_: Use::Refused, doc: "the drivers have no options" },
];

/// The compose-spec's other keys of a service, with advice where there is some.
const REFUSED: [(&str, &str); 4] = [
    ("build", "images are built elsewhere: give 'image'"),
    ("ports expose", "with 'network_mode: host' a container's ports are the node's: remove it"),
    ("volumes volumes_from tmpfs", "what a container writes is kept until its service changes"),
    (
        "annotations attach blkio_config cap_add cap_drop cgroup cgroup_parent configs container_name cpu_count \
         cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec deploy \
         develop device_cgroup_rules devices dns dns_opt dns_search domainname driver_opts env_file extends \
         external_links extra_hosts gpus group_add healthcheck hostname init ipc isolation label_file labels links \
         mac_address mem_limit mem_reservation mem_swappiness memswap_limit models networks oom_kill_disable \
         oom_score_adj pids_limit platform post_start pre_stop profiles provider pull_policy pull_refresh_after \
         read_only runtime scale secrets security_opt shm_size stdin_open stop_signal storage_opt sysctls tty ulimits \
         use_api_socket userns_mode uts",
        "",
    ),
];

/// Reads all services; those with an error are left out.
pub(crate) fn read_all(at: &At<'_>) -> BTreeMap<ServiceName, Service> {
    let mut table = Vec::from(READ);
    for (names, doc) in REFUSED {
        table.extend(names.split_whitespace().map(|name| Key { name, use_: Use::Refused, doc }));
    }
    let mut services = BTreeMap::new();
    for (name, _, at) in at.map().unwrap_or_default() {
        if name.starts_with("x-") {
            continue;
        }
        let mut draft = Draft::default();
        at.section("a service", &table, &mut draft);
        match ServiceName::new(name) {
            Ok(name) => {
                if let Some(service) = finish(&at, draft) {
                    services.insert(name, service);
                }
            }
            Err(error) => at.error(error.to_string()),
        }
    }
    services
}

fn finish(at: &At<'_>, draft: Draft) -> Option<Service> {
    if draft.image.is_none() && at.get("image").is_none() {
        at.error("has no 'image'");
    }
    if draft.network.is_none() && !draft.network_is_wrong {
        at.error_with_hint("has no 'network_mode'", "give 'network_mode: host' or 'network_mode: none'");
    }
    Some(Service {
        image: draft.image?,
        command: draft.command,
        entrypoint: draft.entrypoint,
        environment: draft.environment,
        working_dir: draft.working_dir,
        user: draft.user,
        restart: draft.restart.unwrap_or(Restart::No),
        network: draft.network?,
        privileged: draft.privileged,
        host_pid: draft.host_pid,
        depends_on: draft.depends_on,
        stop_grace_period: draft.stop_grace_period.unwrap_or(STOP_GRACE_PERIOD),
        logging: draft.logging,
    })
}

fn image(at: &At<'_>, draft: &mut Draft) {
    let Some(image) = at.located_text() else { return };
    let reference = image.value.as_str();
    let word = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    let repository = reference.rsplit_once('/').map_or(reference, |(_, last)| last);
    let name = repository.split([':', '@']).next().unwrap_or_default();
    if name.is_empty() || !reference.chars().all(word) || name.contains(|c: char| c.is_ascii_uppercase()) {
        at.error_with_hint("not an image reference", "as in nginx, nginx:1.27 or ghcr.io/owner/name:tag");
    } else {
        draft.image = Some(image);
    }
}

fn command_line(at: &At<'_>) -> Option<Vec<String>> {
    if at.is_list() {
        return at.texts();
    }
    match words::split(at.text()?) {
        Ok(words) => Some(words),
        Err(words::Unfinished(why)) => {
            at.error(why);
            None
        }
    }
}

fn environment(at: &At<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut set = |at: &At<'_>, name: &str, value: Option<String>| {
        if name.is_empty() || name.contains(['=', ' ', '\t', '\n', '\0']) {
            at.error("has no valid variable name");
        } else if let Some(value) = value {
            variables.insert(name.to_owned(), value);
        } else {
            at.error_with_hint(
                format!("the variable '{name}' has no value"),
                "give one; it may be empty: ''",
            );
        }
    };
    if at.is_list() {
        for item in at.list().unwrap_or_default() {
            let Some(text) = item.text() else { continue };
            match text.split_once('=') {
                Some((name, value)) => set(&item, name, Some(value.to_owned())),
                None => set(&item, text, None),
            }
        }
    } else {
        for (name, _, value) in at.map().unwrap_or_default() {
            if value.is_null() {
                set(&value, name, None);
            } else if let Some(text) = value.text() {
                set(&value, name, Some(text.to_owned()));
            }
        }
    }
    variables
}

fn user(at: &At<'_>, draft: &mut Draft) {
    let Some(user) = at.located_text() else { return };
    let word = |c: char| c.is_ascii_alphanumeric() || "._-$".contains(c);
    let number = |part: &str| !part.starts_with(|c: char| c.is_ascii_digit()) || part.parse::<u32>().is_ok();
    let valid = |part: &str| !part.is_empty() && part.chars().all(word) && number(part);
    if user.value.split(':').count() <= 2 && user.value.split(':').all(valid) {
        draft.user = Some(user);
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

fn network_mode(at: &At<'_>, draft: &mut Draft) {
    draft.network = at.word(&[("host", Network::Host), ("none", Network::None)]);
    draft.network_is_wrong = draft.network.is_none();
}

fn depends_on(at: &At<'_>) -> BTreeMap<ServiceName, Condition> {
    let mut dependencies = BTreeMap::new();
    let mut add = |at: &At<'_>, name: &str, condition| match ServiceName::new(name) {
        Ok(name) => drop(dependencies.insert(name, condition)),
        Err(error) => at.error(error.to_string()),
    };
    if at.is_list() {
        for item in at.list().unwrap_or_default() {
            if let Some(name) = item.text() {
                add(&item, name, Condition::ServiceStarted);
            }
        }
    } else {
        for (name, _, value) in at.map().unwrap_or_default() {
            let mut condition = None;
            value.section("a dependency", &DEPENDENCY, &mut condition);
            if condition.is_none() && value.get("condition").is_none() {
                value.error("has no 'condition'");
            }
            add(&value, name, condition.unwrap_or(Condition::ServiceStarted));
        }
    }
    dependencies
}

const DEPENDENCY: [Key<Option<Condition>>; 3] = [
    Key {
        name: "condition",
        use_: Use::Read(|at, condition| {
            *condition = at.word(&[
                ("service_started", Condition::ServiceStarted),
                ("service_healthy", Condition::ServiceHealthy),
                ("service_completed_successfully", Condition::ServiceCompletedSuccessfully),
            ]);
        }),
        doc: "",
    },
    Key { name: "required", use_: Use::Read(|at, _| must_be(at, true)), doc: "" },
    Key { name: "restart", use_: Use::Read(|at, _| must_be(at, false)), doc: "" },
];

/// Accepts a truth value that says what is so anyway.
fn must_be(at: &At<'_>, expected: bool) {
    if at.truth() == Some(!expected) {
        at.error(format!("only {expected} is supported by this version"));
    }
}
