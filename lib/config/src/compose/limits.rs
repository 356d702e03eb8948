//! How a service is watched and held in bounds: health check, limits, `deploy`.

use userdata::{At, KeySpec as Key, Severity, Value};

use super::forms::raw;
use super::service::Service;
use super::values::parse_size;
use crate::machine::take;

pub(super) fn healthcheck(at: &At<'_>, service: &mut Service) {
    let duration = |name, doc| {
        take(
            name,
            |at, _: &mut ()| {
                at.duration();
            },
            doc,
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
            "`[CMD, PROGRAM, ...]`, `[CMD-SHELL, LINE]`, a text for the shell, or `[NONE]`.",
        ),
        duration("interval", "Time between two checks."),
        duration("timeout", "Time that one check may take."),
        duration("start_period", "Time in which a failure does not count."),
        duration("start_interval", "Time between two checks in the start period."),
        take(
            "retries",
            |at, ()| {
                at.int(0..=1_000_000);
            },
            "How many failures in a row make it unhealthy.",
        ),
        take(
            "disable",
            |at, ()| {
                at.truth();
            },
            "`true`: also the image's own check is not used.",
        ),
    ];
    at.section("'healthcheck'", &table, &mut ());
    raw(at, service);
}

pub(super) fn ulimits(at: &At<'_>, service: &mut Service) {
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

pub(super) fn deploy(at: &At<'_>, service: &mut Service) {
    const KEYS: &str =
        "endpoint_mode labels mode placement replicas resources restart_policy rollback_config update_config";
    at.knows(KEYS.split_whitespace());
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
