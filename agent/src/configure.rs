//! From user-data to the generation that PID 1 runs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use config::{Config, Judge, Problem, Severity};
use plan::{Change, paths};
use sd_notify::NotifyState;
use serde::Serialize;

use crate::generations::{Generation, Generations, Input};
use crate::host::Host;
use crate::network::Network;
use crate::planner::{Wanted, draft};
use crate::source::{self, Found, Search};
use crate::{apply, clock, commands, console, file, tell};

/// The node's name when nobody gives it one.
const HOSTNAME: &str = "holdfast";

/// Which search is the latest: what an older one finds does not count any more. It is held while a configuration is made
/// to run, as two at once would be in each other's way.
static LATEST: Mutex<u64> = Mutex::new(0);

/// `/run/holdfast/config.json`: what became of the configuration.
#[derive(Debug, Serialize)]
struct Status<'a> {
    /// Where it is from; absent when there is none.
    source: Option<&'a str>,
    datasource: Option<&'a str>,
    /// Why it was looked for there.
    how: Option<&'a str>,
    /// Whether it was accepted.
    valid: bool,
    /// The generation that runs.
    generation: Option<u64>,
    problems: &'a [Problem],
    /// What it asks for and could not be done.
    failures: &'a [apply::Failure],
}

/// A configuration that is in force.
#[derive(Debug)]
struct Running {
    /// None for what is made of meta-data alone.
    generation: Option<Generation>,
    found: Found,
    config: Config,
}

/// Finds the configuration, makes it run, and says what it did. A configuration that is rejected, or none at all,
/// leaves the last good one running. Where there may be another one later, a thread goes on looking.
pub(crate) fn configure(host: &Arc<Host>, network: &Network) {
    let generations = Generations::of_node();
    let last = generations.current(&host.root_hash).ok().flatten().and_then(|last| last.found().ok());
    let mut search = Search::new(&host.cmdline, network, last);
    let found = search.first();
    let number = {
        let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        *latest += 1;
        *latest
    };
    if take_latest(number, host, network, &generations, &search, found.as_ref()) || !search.goes_on() {
        return;
    }
    let (host, network) = (Arc::clone(host), network.clone());
    let thread = thread::Builder::new().name("source".to_owned()).spawn(move || {
        loop {
            let found = search.again();
            if take_latest(number, &host, &network, &generations, &search, Some(&found)) {
                break;
            }
        }
    });
    if let Err(error) = thread {
        console::error(format_args!("cannot go on looking for user-data: {error}"));
    }
}

/// As [`take`], unless somebody has looked for the configuration again since: then there is nothing more to do.
fn take_latest(
    number: u64,
    host: &Host,
    network: &Network,
    generations: &Generations,
    search: &Search,
    found: Option<&Found>,
) -> bool {
    let latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    *latest != number || take(host, network, generations, search, found)
}

/// Makes what was found run, or what ran before; says whether it was accepted.
fn take(
    host: &Host,
    network: &Network,
    generations: &Generations,
    search: &Search,
    found: Option<&Found>,
) -> bool {
    let mut problems = Vec::new();
    let accepted = found.and_then(|found| accept(host, generations, found, &mut problems));
    let valid = accepted.is_some();
    let running = accepted.or_else(|| keep_last(host, generations, found));
    clock::apply(running.as_ref().and_then(|running| running.config.machine.ntp.as_ref()));
    let own = running.as_ref().and_then(|running| running.config.network.clone());
    network.apply(own.or_else(|| search.own_network()));
    let failures = running.as_ref().map(|running| running.apply(host, network)).unwrap_or_default();
    let generation = running.as_ref().and_then(|running| running.generation.as_ref());
    publish(&Status {
        source: found.map(|found| found.name.as_str()),
        datasource: found.map(|found| found.datasource.name()),
        how: found.map(|found| found.how.as_str()),
        valid,
        generation: generation.map(|generation| generation.record.number),
        problems: &problems,
        failures: &failures,
    });
    source::report(found);
    if generation.is_some()
        && let Err(error) = generations.prune()
    {
        console::warning(console::chain(&error));
    }
    valid
}

impl Running {
    /// Makes the machine what the configuration says, and hands the generation to PID 1. Gives what failed of it.
    fn apply(&self, host: &Host, network: &Network) -> Vec<apply::Failure> {
        let Self { generation, found, config } = self;
        let hostname = hostname(config, found);
        let wanted = apply::Wanted {
            host,
            config,
            meta: &found.meta,
            datasource: found.datasource,
            hostname: &hostname,
            network,
        };
        let mut failures = apply::Failures::default();
        let instance = apply::Instance::enter(found.meta.instance_id.as_deref(), &mut failures);
        apply::before_start(&wanted, &instance, &mut failures);
        let number = generation.as_ref().map(|generation| generation.record.number);
        if let Some(number) = number {
            tell(&[NotifyState::Custom(&format!("X_HOLDFAST_APPLY={number}"))]);
        }
        apply::after_start(&wanted, &instance, number);
        failures.into_inner()
    }
}

/// The kernel's name of the node.
fn hostname(config: &Config, found: &Found) -> String {
    let given = config.machine.hostname.kernel(found.meta.local_fqdn.as_deref());
    given.unwrap_or_else(|| HOSTNAME.to_owned())
}

/// Judges one configuration and makes it the current generation, with its problems on the console.
fn accept(
    host: &Host,
    generations: &Generations,
    found: &Found,
    problems: &mut Vec<Problem>,
) -> Option<Running> {
    problems.extend_from_slice(&found.problems);
    let fit = found.problems.iter().all(|problem| problem.severity != Severity::Error);
    let outcome = config::judge(&found.input(), Judge::Node);
    problems.extend(outcome.problems);
    let (Some(config), Some(desired), true) = (outcome.config, outcome.desired, fit) else {
        say(problems);
        return None;
    };
    let certificates = match apply::certificates_for_containers(config.machine.ca_certs.as_ref()) {
        Ok(certificates) => certificates,
        Err(error) => {
            problems.push(Problem::error(&found.name, None, "ca_certs", console::chain(&error)));
            say(problems);
            return None;
        }
    };
    let machine = &config.machine;
    let commands = machine
        .holdfast
        .run_in
        .as_ref()
        .and_then(|image| commands::service(&machine.commands, image, found.meta.instance_id.as_deref()));
    let wanted = Wanted {
        desired: &desired,
        source: &found.name,
        hostname: &hostname(&config, found),
        os_version: &host.os_version,
        images: &host.images,
        seccomp: &host.seccomp,
        certificates: certificates.as_deref(),
        commands: commands.as_ref(),
    };
    let drafted = draft(&wanted).map_err(|more| problems.extend(more)).ok();
    say(problems);
    let draft = drafted?;

    let input = Input { found, os_version: &host.os_version, root_hash: &host.root_hash };
    let current = generations.current(&host.root_hash).unwrap_or_else(|error| {
        console::error(console::chain(&error));
        None
    });
    let generation = match current {
        Some(current) if current.record.digest == input.digest() => {
            let number = current.record.number;
            console::notice(format_args!("config {}: unchanged, generation {number}", found.name));
            current
        }
        current => match generations.commit(&input, &draft) {
            Ok(new) => {
                let number = new.record.number;
                console::notice(format_args!("config {}: accepted as generation {number}", found.name));
                if let Some(current) = current {
                    say_difference(&current, &new);
                }
                new
            }
            Err(error) => {
                let problem = Problem::error(&found.name, None, "", console::chain(&error));
                say(std::slice::from_ref(&problem));
                problems.push(problem);
                return None;
            }
        },
    };
    Some(Running { generation: Some(generation), found: found.clone(), config })
}

/// Says which services another generation changes.
fn say_difference(old: &Generation, new: &Generation) {
    let (from, to) = (old.record.number, new.record.number);
    let changes = plan::difference(&old.plan, &new.plan);
    if changes.is_empty() {
        console::notice(format_args!("generation {from} -> {to}: no service changes"));
    }
    for (name, change) in changes {
        let why = match change {
            Change::Start => "it is new",
            Change::Stop => "it is no longer in the configuration",
            Change::Restart => "its image or its settings changed",
            Change::Adjust => "it keeps running: only when it is started or stopped changed",
        };
        console::notice(format_args!("generation {from} -> {to}: {change} {name}: {why}"));
    }
}

/// What was good the last time. One of another release is made anew for this one, from what it was made from.
fn keep_last(host: &Host, generations: &Generations, rejected: Option<&Found>) -> Option<Running> {
    let why = if rejected.is_some() { "rejected" } else { "absent" };
    let last = match generations.current(&host.root_hash) {
        Ok(Some(last)) => last,
        Ok(None) => {
            console::warning(format_args!("config {why}: there is no earlier generation, so nothing runs"));
            return rejected.and_then(bare);
        }
        Err(error) => {
            console::error(console::chain(&error));
            return rejected.and_then(bare);
        }
    };
    let found = match last.found() {
        Ok(found) => found,
        Err(error) => {
            console::error(console::chain(&error));
            return rejected.and_then(bare);
        }
    };
    let running = if last.record.root_hash == host.root_hash {
        again(last, found)
    } else {
        accept(host, generations, &found, &mut Vec::new()).or_else(|| again(last, found))
    };
    if let Some(generation) = running.as_ref().and_then(|running| running.generation.as_ref()) {
        let number = generation.record.number;
        console::notice(format_args!("config {why}: generation {number} keeps running"));
    }
    running
}

/// A generation as it was made. Its problems were said when it was.
fn again(generation: Generation, found: Found) -> Option<Running> {
    let config = config::judge(&found.input(), Judge::Vocabulary).config;
    if config.is_none() {
        let number = generation.record.number;
        console::error(format_args!("generation {number}: this version rejects what it was made from"));
    }
    Some(Running { generation: Some(generation), config: config?, found })
}

/// What is left of a configuration that is rejected when there is no earlier one: name, keys and network of the
/// platform, so that somebody can reach the node.
fn bare(found: &Found) -> Option<Running> {
    let user_data = b"#cloud-config\n{}\n".to_vec();
    let bare = Found { user_data, vendor_data: None, included: Vec::new(), ..found.clone() };
    let with_network = config::judge(&bare.input(), Judge::Vocabulary).config;
    let without = || {
        let input = config::Input { network_config: None, ..bare.input() };
        config::judge(&input, Judge::Vocabulary).config
    };
    let config = with_network.or_else(without)?;
    Some(Running { generation: None, config, found: bare })
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
