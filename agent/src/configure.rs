//! From user-data to the generation that PID 1 runs.

use std::path::Path;

use config::{Problem, Severity};
use plan::paths;
use sd_notify::NotifyState;
use serde::Serialize;

use crate::generations::{Generation, Generations, Input};
use crate::host::Host;
use crate::network::Network;
use crate::planner::{Wanted, draft};
use crate::source::{self, Found};
use crate::{console, file, identity, tell};

/// The node's name when nobody gives it one.
const HOSTNAME: &str = "holdfast";

/// `/run/holdfast/config.json`: what became of the configuration.
#[derive(Debug, Serialize)]
struct Status<'a> {
    /// Where it is from; absent when there is none.
    source: Option<&'a str>,
    /// Whether it was accepted.
    valid: bool,
    /// The generation that runs.
    generation: Option<u64>,
    problems: &'a [Problem],
}

/// What became of one configuration.
struct Judged {
    problems: Vec<Problem>,
    /// What runs now, unless it was rejected.
    accepted: Option<Generation>,
}

/// Finds the configuration, makes it run, and says what it did. A configuration that is rejected, or none at all,
/// leaves the last good one running.
pub(crate) fn configure(host: &Host, network: &Network) {
    let generations = Generations::of_node();
    network.apply(None);
    let found = source::detect(&host.cmdline);
    let judged = found.as_ref().map(|found| accept(host, &generations, found));
    let (problems, accepted) = judged.map_or((Vec::new(), None), |judged| (judged.problems, judged.accepted));
    let valid = accepted.is_some();
    let running = accepted.or_else(|| keep_last(host, &generations, found.is_some()));

    let source = found.as_ref().map(|found| found.name.as_str());
    let generation = running.as_ref().map(|generation| generation.record.number);
    publish(&Status { source, valid, generation, problems: &problems });
    if let Some(running) = &running {
        identity::set_hostname(&running.plan.hostname);
        tell(&[NotifyState::Custom(&format!("X_HOLDFAST_APPLY={}", running.record.number))]);
        if let Err(error) = generations.prune() {
            console::warning(console::chain(&error));
        }
    }
}

/// Judges one configuration and makes it the current generation, with its problems on the console.
fn accept(host: &Host, generations: &Generations, found: &Found) -> Judged {
    let (desired, problems) = config::check(&found.name, &found.user_data);
    let mut problems = [found.problems.clone(), problems].concat();
    let fit = found.problems.iter().all(|problem| problem.severity != Severity::Error);
    let Some(desired) = desired.filter(|_| fit) else {
        say(&problems);
        return Judged { problems, accepted: None };
    };

    let local_hostname = found.meta.local_hostname.as_deref();
    let wanted = Wanted {
        desired: &desired,
        source: &found.name,
        hostname: desired.hostname.as_deref().or(local_hostname).unwrap_or(HOSTNAME),
        os_version: &host.os_version,
        images: &host.images,
        seccomp: &host.seccomp,
    };
    let drafted = draft(&wanted).map_err(|more| problems.extend(more)).ok();
    say(&problems);
    let Some(draft) = drafted else { return Judged { problems, accepted: None } };

    let input = Input {
        source: &found.name,
        user_data: &found.user_data,
        local_hostname,
        os_version: &host.os_version,
        root_hash: &host.root_hash,
    };
    let accepted = match generations.current(&host.root_hash) {
        Ok(Some(current)) if current.record.digest == input.digest() => {
            console::notice(format_args!(
                "config {}: unchanged, generation {}",
                found.name, current.record.number
            ));
            Some(current)
        }
        _ => match generations.commit(&input, &draft) {
            Ok(new) => {
                console::notice(format_args!(
                    "config {}: accepted as generation {}",
                    found.name, new.record.number
                ));
                Some(new)
            }
            Err(error) => {
                let problem = Problem::error(&found.name, None, "", console::chain(&error));
                say(std::slice::from_ref(&problem));
                problems.push(problem);
                None
            }
        },
    };
    if accepted.is_some() {
        identity::keep_keys(&desired.ssh_authorized_keys);
    }
    Judged { problems, accepted }
}

/// The last good generation. One of another release is made anew for this one, from the user-data it was made from.
fn keep_last(host: &Host, generations: &Generations, rejected: bool) -> Option<Generation> {
    let why = if rejected { "rejected" } else { "absent" };
    let last = match generations.current(&host.root_hash) {
        Ok(Some(last)) => last,
        Ok(None) => {
            console::warning(format_args!("config {why}: there is no earlier generation, so nothing runs"));
            return None;
        }
        Err(error) => {
            console::error(console::chain(&error));
            return None;
        }
    };
    let again = (last.record.root_hash != host.root_hash).then(|| renew(host, generations, &last));
    let running = again.flatten().unwrap_or(last);
    console::notice(format_args!("config {why}: generation {} keeps running", running.record.number));
    Some(running)
}

fn renew(host: &Host, generations: &Generations, last: &Generation) -> Option<Generation> {
    let user_data = match last.user_data() {
        Ok(user_data) => user_data,
        Err(error) => {
            console::error(console::chain(&error));
            return None;
        }
    };
    let meta = config::MetaData { local_hostname: last.record.local_hostname.clone(), ..Default::default() };
    let found = Found { name: last.record.source.clone(), user_data, meta, problems: Vec::new() };
    accept(host, generations, &found).accepted
}

fn say(problems: &[Problem]) {
    for problem in problems {
        match problem.severity {
            Severity::Error => console::error(format_args!("config {problem}")),
            Severity::Warning | Severity::NotApplicable => console::warning(format_args!("config {problem}")),
        }
    }
}

fn publish(status: &Status<'_>) {
    let path = Path::new(paths::RUN).join("config.json");
    match serde_json::to_vec(status) {
        Ok(text) => {
            if let Err(error) = file::replace(&path, 0o644, &text) {
                console::warning(console::chain(&error));
            }
        }
        Err(error) => console::warning(format_args!("cannot write {}: {error}", path.display())),
    }
}
