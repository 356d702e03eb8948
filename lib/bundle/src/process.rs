//! The container's first process: program, environment, user, rights.

use std::collections::BTreeMap;

use config::Network;
use plan::paths;
use serde_json::{Value, json};

use crate::{BundleError, Input, limits, rights};

/// Docker's search path for images that set none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The number of nobody and of nogroup, by custom.
const NOBODY: u32 = 65534;

/// The name that the container sees as its host's.
pub(crate) fn hostname<'a>(input: &Input<'a>) -> &'a str {
    if let Some(own) = &input.service.container.hostname {
        return own;
    }
    if input.service.container.node_name || input.service.network == Network::Host {
        return input.hostname;
    }
    input.name.as_str()
}

/// `process` of the runtime-spec.
pub(crate) fn process(input: &Input<'_>) -> Result<Value, BundleError> {
    let service = input.service;
    let (uid, gid) = ids(user(input));
    let all = rights::capabilities(service);
    // A program of another user than root gains none of them when it is executed (capabilities(7)).
    let held: &[&str] = if uid == 0 { &all } else { &[] };
    let mut process = json!({
        "terminal": service.container.terminal,
        "user": { "uid": uid, "gid": gid },
        "args": args(input)?,
        "env": environment(input),
        "cwd": working_dir(input),
        "capabilities": { "bounding": all, "effective": held, "permitted": held, "inheritable": [], "ambient": [] },
        "rlimits": limits::rlimits(&service.container.limits),
    });
    if service.privileged {
        process["noNewPrivileges"] = false.into();
    } else if service.container.no_new_privileges {
        // `false` would make libcontainer load the filter when it may not any more; absent means the same.
        process["noNewPrivileges"] = true.into();
    }
    if let Some(adj) = service.container.limits.oom_score_adj {
        process["oomScoreAdj"] = adj.into();
    }
    Ok(process)
}

/// Docker's rule: an entrypoint of the service's own makes the image's arguments void.
fn args(input: &Input<'_>) -> Result<Vec<String>, BundleError> {
    let (service, image) = (input.service, &input.image.config);
    let entrypoint = service.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let default: &[String] = if service.entrypoint.is_some() { &[] } else { &image.cmd };
    let command = service.command.as_deref().unwrap_or(default);
    let args: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    if args.is_empty() { Err(BundleError::NoProgram) } else { Ok(args) }
}

fn environment(input: &Input<'_>) -> Vec<String> {
    let health = &input.service.container.health;
    let microseconds = health.watchdog.map(|time| time.as_micros().to_string());
    let mut all = BTreeMap::from([("PATH", PATH), ("HOSTNAME", hostname(input))]);
    if health.notify {
        all.insert("NOTIFY_SOCKET", paths::NOTIFY_IN_CONTAINER);
        all.extend(microseconds.as_deref().map(|time| ("WATCHDOG_USEC", time)));
    }
    all.extend(input.image.config.env.iter().filter_map(|pair| pair.split_once('=')));
    all.extend(input.service.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn working_dir(input: &Input<'_>) -> String {
    let own = input.service.working_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned());
    let image = || input.image.config.working_dir.clone().filter(|dir| dir.starts_with('/'));
    own.or_else(image).unwrap_or_else(|| "/".to_owned())
}

/// `USER[:GROUP]` as the service or the image says it; empty: root.
pub(crate) fn user<'a>(input: &Input<'a>) -> &'a str {
    let own = input.service.user.as_ref().map(|user| user.value.as_str());
    own.or(input.image.config.user.as_deref()).unwrap_or_default()
}

/// User and group by number, as far as they are known without the image's files: the shim looks into those, and puts in
/// what they say. Until then a name is nobody, so that no mistake makes it root.
fn ids(user: &str) -> (u32, u32) {
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let number = |text: &str| if matches!(text, "" | "root") { 0 } else { text.parse().unwrap_or(NOBODY) };
    (number(name), number(group))
}
