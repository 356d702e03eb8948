//! How a service is watched and held in bounds: health check, limits, `deploy`.

use serde_json::json;
use userdata::{At, KeySpec as Key, Severity, Use};

use super::container::bytes;
use super::forms::{raw, text};
use super::service::Service;
use super::values::parse_size;
use crate::container::Health;
use crate::machine::take;

const HEALTHCHECK: [Key<Health>; 10] = [
    take(
        "test",
        |at, health| match (at.is_list(), at.list_or_one().first().and_then(At::text)) {
            (false, Some(line)) => health.test = Some(shell(line)),
            (true, Some("NONE")) => health.disable = true,
            (true, Some("CMD")) => health.test = at.texts().map(|words| words[1..].to_vec()),
            (true, Some("CMD-SHELL")) => {
                health.test = at.texts().and_then(|words| words.get(1).map(|line| shell(line)));
            }
            _ => at.error_with_hint("the first word of a test is not known", "NONE, CMD or CMD-SHELL"),
        },
        "`[CMD, PROGRAM, ...]`, `[CMD-SHELL, LINE]`, a text for the shell, or `[NONE]`.",
    ),
    take("interval", |at, health| health.interval = at.duration(), "Time between two checks. Default `30s`."),
    take(
        "timeout",
        |at, health| health.timeout = at.duration(),
        "Time that one check may take. Default `30s`.",
    ),
    take(
        "start_period",
        |at, health| health.start_period = at.duration(),
        "Time in which a failure does not count. Default: none.",
    ),
    take(
        "start_interval",
        |at, health| health.start_interval = at.duration(),
        "Time between two checks until the first one passes. Default `5s`.",
    ),
    take(
        "retries",
        |at, health| health.retries = at.int(0..=1_000_000).and_then(|n| u32::try_from(n).ok()),
        "How many failures in a row make it unhealthy. Default 3.",
    ),
    take(
        "disable",
        |at, health| health.disable |= at.truth().unwrap_or_default(),
        "`true`: also the image's own check is not used.",
    ),
    take(
        RESTART,
        restart,
        "`true`: an unhealthy container is ended, and `restart` decides what follows. Default `false`.",
    ),
    take(
        NOTIFY,
        notify,
        "`true`: nothing is executed; the program says itself that it works, by sd_notify: `READY=1`.",
    ),
    take(
        WATCHDOG,
        watchdog,
        "Time within which the program says so again (`WATCHDOG=1`), or is ended, and `restart` decides what follows.",
    ),
];

/// Words that compose does not have: its engines leave an unhealthy container alone, and hear nothing from it.
const RESTART: &str = "x-holdfast-restart";
const NOTIFY: &str = "x-holdfast-notify";
const WATCHDOG: &str = "x-holdfast-watchdog";

fn notify(at: &At<'_>, health: &mut Health) {
    health.notify = at.truth().unwrap_or_default();
}

fn watchdog(at: &At<'_>, health: &mut Health) {
    health.watchdog = at.duration();
    if health.watchdog.is_some_and(|time| time.is_zero()) {
        at.error("must be more than nothing");
    }
}

fn restart(at: &At<'_>, health: &mut Health) {
    health.restart = at.truth().unwrap_or_default();
}

/// What runs a line of a shell.
fn shell(line: &str) -> Vec<String> {
    ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
}

pub(super) fn healthcheck(at: &At<'_>, service: &mut Service) {
    at.section("'healthcheck'", &HEALTHCHECK, &mut service.container.health);
    let health = &mut service.container.health;
    // Keys that begin with x- are the user's, but for these.
    for (key, read) in
        [(RESTART, restart as fn(&At<'_>, &mut Health)), (NOTIFY, notify), (WATCHDOG, watchdog)]
    {
        if let Some(own) = at.get(key) {
            read(&own, health);
        }
    }
    if health.test.as_ref().is_some_and(Vec::is_empty) {
        at.error("'test' names no program");
    }
    if health.notify && health.test.is_some() {
        at.error("its health is checked by 'test', or it says so itself ('x-holdfast-notify'): not both");
    }
    if health.watchdog.is_some() && !health.notify {
        at.error_with_hint(
            "'x-holdfast-watchdog' takes a program that says that it works",
            "add 'x-holdfast-notify: true'",
        );
    }
    raw(at, service);
}

/// Limits as setrlimit(2) knows them.
const ULIMITS: &str =
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack";

pub(super) fn ulimits(at: &At<'_>, service: &mut Service) {
    type Pair = (Option<i64>, Option<i64>);
    let table: [Key<Pair>; 2] = [
        take(
            "soft",
            |at, pair: &mut Pair| pair.0 = at.int(-1..=i64::MAX),
            "What counts until the program asks for more.",
        ),
        take("hard", |at, pair: &mut Pair| pair.1 = at.int(-1..=i64::MAX), "The most that it may ask for."),
    ];
    // -1 is RLIM_INFINITY.
    let limit = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    for (name, mark, value) in at.map().into_iter().flatten() {
        let mut pair = (None, None);
        if value.is_map() {
            value.section("a limit", &table, &mut pair);
        } else {
            pair.0 = value.int(-1..=i64::MAX);
        }
        if !ULIMITS.split_whitespace().any(|known| known == name) {
            value.add(Severity::Error, mark, format!("'{name}' is not a limit of a process"), ULIMITS);
        } else if let Some(soft) = pair.0.or(pair.1).map(limit) {
            let hard = pair.1.map_or(soft, limit);
            if soft > hard {
                value.error("'soft' is more than 'hard'");
            }
            let name = format!("RLIMIT_{}", name.to_ascii_uppercase());
            service.container.limits.ulimits.insert(name, (soft, hard));
        }
    }
    raw(at, service);
}

/// The most memory. Less than this and not even a small program starts.
const LEAST_MEMORY: u64 = 4 << 20;

pub(super) fn memory(at: &At<'_>, service: &mut Service) {
    service.container.limits.memory = bytes(at, service).and_then(|memory| least(at, memory));
}

fn least(at: &At<'_>, memory: u64) -> Option<u64> {
    if (1..LEAST_MEMORY).contains(&memory) {
        at.error("must be 4m or more");
    }
    // Docker's 0: no limit.
    (memory > 0).then_some(memory)
}

pub(super) fn memory_and_swap(at: &At<'_>, service: &mut Service) {
    service.container.limits.memory_and_swap = match at.text() {
        Some("-1") => {
            service.put(at, json!("-1"));
            Some(-1)
        }
        // Docker's 0: nothing is said.
        _ => bytes(at, service).and_then(|bytes| i64::try_from(bytes).ok()).filter(|bytes| *bytes > 0),
    };
}

pub(super) fn cpus(at: &At<'_>, service: &mut Service) {
    service.container.limits.cpus = processors(at);
    raw(at, service);
}

/// Processors, as in `0.5`, in millionths. 0 is no limit.
fn processors(at: &At<'_>) -> Option<u64> {
    let text = at.text()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let millionths = format!("{fraction:0<6}");
    let value = whole.parse::<u64>().ok().filter(|whole| digits(fraction) && *whole < 100_000);
    let value = value.and_then(|whole| Some(whole * 1_000_000 + millionths.get(..6)?.parse::<u64>().ok()?));
    if value.is_none_or(|value| (1..10_000).contains(&value)) {
        at.error_with_hint(format!("'{text}' is not a number of processors"), "0.01 or more, as in 0.5 or 2");
    }
    value.filter(|value| *value > 0)
}

pub(super) fn cpu_shares(at: &At<'_>, service: &mut Service) {
    let shares = at.int(0..=262_144).and_then(|shares| u64::try_from(shares).ok());
    service.container.limits.cpu_shares = shares.filter(|shares| *shares >= 2);
    raw(at, service);
}

pub(super) fn cpuset(at: &At<'_>, service: &mut Service) {
    text(at, service);
    let Some(set) = at.text() else { return };
    let number = |text: &str| text.parse::<u16>().ok();
    let part = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
        None => number(part).is_some(),
    };
    if set.split(',').all(part) {
        service.container.limits.cpuset = Some(set.to_owned());
    } else {
        at.error_with_hint(format!("'{set}' is not a set of processors"), "as in 0-2,5");
    }
}

pub(super) fn pids(at: &At<'_>, service: &mut Service) {
    // Docker's 0 and -1: no limit.
    service.container.limits.pids = at.int(-1..=4_194_304).map(|pids| if pids == 0 { -1 } else { pids });
    raw(at, service);
}

pub(super) fn oom_score_adj(at: &At<'_>, service: &mut Service) {
    service.container.limits.oom_score_adj = at.int(-1000..=1000).and_then(|adj| i32::try_from(adj).ok());
    raw(at, service);
}

const RESOURCES: [Key<Service>; 2] = [
    take(
        "limits",
        |at, service| at.section("'limits'", &LIMITS, service),
        "The most of `cpus`, `memory` and `pids`.",
    ),
    take(
        "reservations",
        |at, service| at.section("'reservations'", &RESERVATIONS, service),
        "What is kept for it: `memory`. `cpus` has no effect on one node.",
    ),
];

const LIMITS: [Key<Service>; 3] = [
    take(
        "cpus",
        |at, service| service.container.limits.cpus = processors(at),
        "As the key `cpus` of a service.",
    ),
    take(
        "memory",
        |at, service| service.container.limits.memory = size(at).and_then(|memory| least(at, memory)),
        "As `mem_limit`.",
    ),
    take(
        "pids",
        |at, service| {
            let pids = at.int(-1..=4_194_304);
            service.container.limits.pids = pids.map(|pids| if pids == 0 { -1 } else { pids });
        },
        "As `pids_limit`.",
    ),
];

const RESERVATIONS: [Key<Service>; 4] = [
    take(
        "memory",
        |at, service| service.container.limits.memory_reservation = size(at),
        "As `mem_reservation`.",
    ),
    Key { name: "cpus", use_: Use::Quiet, doc: "" },
    Key { name: "devices", use_: Use::Refused, doc: "give 'devices' of the service" },
    Key { name: "generic_resources", use_: Use::Refused, doc: "" },
];

fn size(at: &At<'_>) -> Option<u64> {
    let size = parse_size(at.text()?);
    if size.is_none() {
        at.error_with_hint("not a size", "bytes, or a number with k, m or g");
    }
    size
}

/// `deploy`: what is for a cluster means nothing on one node.
const DEPLOY: [Key<Service>; 9] = [
    take(
        "resources",
        |at, service| at.section("'resources'", &RESOURCES, service),
        "`limits` and `reservations`.",
    ),
    take(
        "replicas",
        replicas,
        "How many containers it has, at most 256. Default 1. The first has the service's name, the others a number behind it: \
         `web`, `web-2`. All are found by the service's name.",
    ),
    Key { name: "mode", use_: Use::Quiet, doc: "" },
    Key { name: "labels", use_: Use::Quiet, doc: "" },
    Key { name: "endpoint_mode", use_: Use::Quiet, doc: "" },
    Key { name: "placement", use_: Use::Quiet, doc: "" },
    take(
        "update_config",
        |at, service| at.section("'update_config'", &UPDATE, service),
        "`order`; what is for a cluster has no effect.",
    ),
    Key { name: "rollback_config", use_: Use::Quiet, doc: "" },
    Key { name: "restart_policy", use_: Use::Quiet, doc: "" },
];

const UPDATE: [Key<Service>; 6] = [
    take(
        "order",
        |at, service| {
            service.start_first =
                at.word(&[("stop-first", false), ("start-first", true)]).unwrap_or_default();
        },
        "What comes first when its container changes. `stop-first` (default): the old one is stopped, then the new one is \
         started. `start-first`: the old one is stopped once the new one works: it is healthy, or without a health check has \
         run for ten seconds.",
    ),
    Key { name: "parallelism", use_: Use::Quiet, doc: "" },
    Key { name: "delay", use_: Use::Quiet, doc: "" },
    Key { name: "failure_action", use_: Use::Quiet, doc: "" },
    Key { name: "monitor", use_: Use::Quiet, doc: "" },
    Key { name: "max_failure_ratio", use_: Use::Quiet, doc: "" },
];

/// `deploy.replicas` or `scale`.
fn replicas(at: &At<'_>, service: &mut Service) {
    let replicas = at.int(0..=256);
    if service.replicas.is_some() && service.replicas != replicas {
        at.error("'scale' and 'deploy.replicas' say different things");
    }
    service.replicas = replicas;
}

pub(super) fn scale(at: &At<'_>, service: &mut Service) {
    replicas(at, service);
    raw(at, service);
}

pub(super) fn deploy(at: &At<'_>, service: &mut Service) {
    at.section("'deploy'", &DEPLOY, service);
    raw(at, service);
}
