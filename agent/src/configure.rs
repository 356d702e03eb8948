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
use crate::store::{self, Fetch, OnNode, Pulled, Pulling, Store};
use crate::{apply, clock, commands, console, containers, file, logs, tell};

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
    /// Images that are pulled before it becomes a generation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits_for: Vec<String>,
    /// The generation that runs.
    generation: Option<u64>,
    problems: &'a [Problem],
    /// What it asks for and could not be done.
    failures: &'a [apply::Failure],
}

/// A configuration that is in force.
#[derive(Debug)]
struct Running {
    /// None for what is made of meta-data alone, or waits for its images.
    generation: Option<Generation>,
    found: Found,
    config: Config,
}

/// What became of what was found.
#[derive(Debug)]
enum Taken {
    Accepted,
    Rejected,
    /// It is good, and has to wait for its images.
    Waits(Box<Fetch>),
}

/// Why a configuration is not in force.
#[derive(Debug)]
enum Held {
    Rejected,
    Waits { config: Box<Config>, fetch: Box<Fetch> },
}

/// Finds the configuration, makes it run, and says what it did. A configuration that is rejected, or none at all,
/// leaves the last good one running; so does one whose images have yet to be pulled. Where there may be more to be done
/// later, a thread goes on with it.
pub(crate) fn configure(host: &Arc<Host>, network: &Network) {
    let generations = Generations::of_node();
    let last = generations.current(&host.root_hash).ok().flatten().and_then(|last| last.found().ok());
    let mut search = Search::new(&host.cmdline, network, last);
    let mut found = search.first();
    let number = {
        let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        *latest += 1;
        *latest
    };
    let mut taken = take_latest(number, host, network, &generations, &search, found.as_ref(), &Pulled::new());
    if matches!(taken, Taken::Accepted) || (matches!(taken, Taken::Rejected) && !search.goes_on()) {
        return;
    }
    let (host, network) = (Arc::clone(host), network.clone());
    let thread = move || {
        let mut pulled = Pulled::new();
        loop {
            match &taken {
                Taken::Accepted => break,
                Taken::Rejected if !search.goes_on() => break,
                Taken::Rejected => {
                    found = Some(search.again());
                    pulled.clear();
                }
                Taken::Waits(fetch) => {
                    let is_latest = || *LATEST.lock().unwrap_or_else(PoisonError::into_inner) == number;
                    fetch.run(&network, is_latest, || generations.needed_images(), &mut pulled);
                }
            }
            taken = take_latest(number, &host, &network, &generations, &search, found.as_ref(), &pulled);
        }
    };
    if let Err(error) = thread::Builder::new().name("source".to_owned()).spawn(thread) {
        console::error(format_args!("cannot go on looking for user-data and images: {error}"));
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
    pulled: &Pulled,
) -> Taken {
    let latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    if *latest != number {
        return Taken::Accepted;
    }
    take(host, network, generations, search, found, pulled)
}

/// Makes what was found run, or what ran before.
fn take(
    host: &Host,
    network: &Network,
    generations: &Generations,
    search: &Search,
    found: Option<&Found>,
    pulled: &Pulled,
) -> Taken {
    let mut problems = Vec::new();
    let accepted = match found {
        Some(found) => accept(host, generations, found, pulled, &mut problems),
        None => Err(Held::Rejected),
    };
    let (running, taken) = match accepted {
        Ok(running) => (Some(*running), Taken::Accepted),
        Err(Held::Rejected) => {
            let why = if found.is_some() { "rejected" } else { "absent" };
            (keep_last(host, generations, why).or_else(|| found.and_then(bare)), Taken::Rejected)
        }
        Err(Held::Waits { config, fetch }) => {
            let why = format!("waits for {}", fetch.names().join(", "));
            // Without an earlier one the machine is made ready for it, so that the images can be had.
            let last = keep_last(host, generations, &why);
            if last.is_some() {
                apply::before_import(&config.machine);
            }
            let ready = || Some(Running { generation: None, found: found?.clone(), config: *config });
            (last.or_else(ready), Taken::Waits(fetch))
        }
    };
    clock::apply(running.as_ref().and_then(|running| running.config.machine.ntp.as_ref()));
    let own = running.as_ref().and_then(|running| running.config.network.clone());
    network.apply(own.or_else(|| search.own_network()));
    let waits_for = if let Taken::Waits(fetch) = &taken { fetch.names() } else { Vec::new() };
    let failures = running.as_ref().map(|running| running.apply(host, network, !waits_for.is_empty()));
    let generation = running.as_ref().and_then(|running| running.generation.as_ref());
    publish(&Status {
        source: found.map(|found| found.name.as_str()),
        datasource: found.map(|found| found.datasource.name()),
        how: found.map(|found| found.how.as_str()),
        valid: !matches!(taken, Taken::Rejected),
        waits_for,
        generation: generation.map(|generation| generation.record.number),
        problems: &problems,
        failures: &failures.unwrap_or_default(),
    });
    source::report(found);
    if let Some(running) = running.as_ref().filter(|running| running.generation.is_some()) {
        if let Err(error) = generations.prune() {
            console::warning(console::chain(&error));
        }
        running.look_after_images(host, generations, &taken);
    }
    taken
}

impl Running {
    /// Makes the machine what the configuration says, and hands the generation to PID 1. Gives what failed of it.
    fn apply(&self, host: &Host, network: &Network, waits: bool) -> Vec<apply::Failure> {
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
        logs::apply(&config.machine.holdfast.logs, &hostname);
        let mut failures = apply::Failures::default();
        let instance = apply::Instance::enter(found.meta.instance_id.as_deref(), &mut failures);
        apply::before_start(&wanted, &instance, &mut failures);
        let number = generation.as_ref().map(|generation| generation.record.number);
        if let Some(generation) = generation {
            containers::apply(&generation.networks);
        }
        if let Some(number) = number {
            tell(&[NotifyState::Custom(&format!("X_HOLDFAST_APPLY={number}"))]);
        }
        // What waits for its images has not started yet.
        if number.is_some() || !waits {
            apply::after_start(&wanted, &instance, number);
        }
        failures.into_inner()
    }

    /// Has the layers of what runs looked after, and removes images that nothing needs any more.
    fn look_after_images(&self, host: &Host, generations: &Generations, taken: &Taken) {
        let Ok(store) = Store::of_node().existing() else { return };
        if matches!(taken, Taken::Accepted) {
            store.tidy(&generations.needed_images());
        }
        let machine = &self.config.machine;
        // What cannot be written was said when the generation was made.
        let authorities = apply::certificates_for_containers(machine.ca_certs.as_ref()).ok().flatten();
        let pulling = Pulling::new(&store, &machine.holdfast.registry, authorities.as_ref());
        let pulling = pulling.importing(&machine.holdfast.images);
        store::watch(&host.root_hash, pulling, machine.holdfast.scrub);
    }
}

/// The kernel's name of the node.
fn hostname(config: &Config, found: &Found) -> String {
    let given = config.machine.hostname.kernel(found.meta.local_fqdn.as_deref());
    given.unwrap_or_else(|| HOSTNAME.to_owned())
}

/// Judges one configuration and makes it the current generation, with its problems on the console. One that is the current
/// generation already takes nothing more.
fn accept(
    host: &Host,
    generations: &Generations,
    found: &Found,
    pulled: &Pulled,
    problems: &mut Vec<Problem>,
) -> Result<Box<Running>, Held> {
    problems.extend_from_slice(&found.problems);
    let fit = found.problems.iter().all(|problem| problem.severity != Severity::Error);
    let outcome = config::judge(&found.input(), Judge::Node);
    problems.extend(outcome.problems);
    let (Some(config), Some(desired), true) = (outcome.config, outcome.desired, fit) else {
        say(problems);
        return Err(Held::Rejected);
    };
    let certificates = match apply::certificates_for_containers(config.machine.ca_certs.as_ref()) {
        Ok(certificates) => certificates,
        Err(error) => {
            problems.push(Problem::error(&found.name, None, "ca_certs", console::chain(&error)));
            say(problems);
            return Err(Held::Rejected);
        }
    };
    let input = Input { found, os_version: &host.os_version, root_hash: &host.root_hash };
    let current = generations.current(&host.root_hash).unwrap_or_else(|error| {
        console::error(console::chain(&error));
        None
    });
    let current = match current {
        Some(current) if current.record.digest == input.digest() => {
            say(problems);
            let number = current.record.number;
            console::notice(format_args!("config {}: unchanged, generation {number}", found.name));
            return Ok(Box::new(Running { generation: Some(current), found: found.clone(), config }));
        }
        current => current,
    };
    let machine = &config.machine;
    let commands = machine
        .holdfast
        .run_in
        .as_ref()
        .and_then(|image| commands::service(&machine.commands, image, found.meta.instance_id.as_deref()));
    let store = Store::of_node();
    let imports = &machine.holdfast.images;
    let images = OnNode::look(&host.images, &store, imports);
    let missing = images.missing(&store::wishes(&desired, commands.as_ref()), pulled);
    if !missing.is_empty() {
        // They are said when the images are there, too.
        if pulled.is_empty() {
            say(problems);
        }
        let pulling = Pulling::new(&store, &machine.holdfast.registry, certificates.as_ref());
        let pulling = pulling.importing(imports);
        return Err(Held::Waits { fetch: Box::new(Fetch::new(missing, pulling)), config: Box::new(config) });
    }
    let wanted = Wanted {
        desired: &desired,
        source: &found.name,
        hostname: &hostname(&config, found),
        os_version: &host.os_version,
        images: &images,
        seccomp: &host.seccomp,
        certificates: certificates.as_deref(),
        last: current.as_ref().map(|current| &current.plan),
        before: &current.as_ref().map(|current| current.networks.clone()).unwrap_or_default(),
        running: &containers::running(),
        taken: &containers::networks_of_links(),
        commands: commands.as_ref(),
    };
    let drafted = draft(&wanted).map_err(|more| problems.extend(more));
    say(problems);
    let Ok(draft) = drafted else { return Err(Held::Rejected) };
    match generations.commit(&input, &draft) {
        Ok(new) => {
            let number = new.record.number;
            console::notice(format_args!("config {}: accepted as generation {number}", found.name));
            if let Some(current) = current {
                say_difference(&current, &new);
            }
            Ok(Box::new(Running { generation: Some(new), found: found.clone(), config }))
        }
        Err(error) => {
            let problem = Problem::error(&found.name, None, "", console::chain(&error));
            say(std::slice::from_ref(&problem));
            problems.push(problem);
            Err(Held::Rejected)
        }
    }
}

/// Says which services another generation changes.
fn say_difference(old: &Generation, new: &Generation) {
    let (from, to) = (old.record.number, new.record.number);
    let changes = plan::difference(&old.plan, &new.plan);
    if changes.is_empty() {
        console::notice(format_args!("generation {from} -> {to}: no service changes"));
    }
    for (name, change) in changes {
        let replaces = new.plan.services.get(&name).and_then(|service| service.replaces.as_ref());
        let mut successors = new.plan.services.iter().filter(|(_, service)| {
            service.replaces.as_ref().is_some_and(|replaced| replaced.service == name)
        });
        let why = match (change, replaces, successors.next()) {
            (Change::Start, Some(replaced), _) => format!("it takes the place of {}", replaced.service),
            (Change::Stop, _, Some((successor, _))) => {
                format!("once {successor} works, which takes its place")
            }
            (Change::Start, ..) => "it is new".to_owned(),
            (Change::Stop, ..) => "it is no longer in the configuration".to_owned(),
            (Change::Restart, ..) => "its image or its settings changed".to_owned(),
            (Change::Adjust, ..) => "it keeps running: only when it is started or stopped changed".to_owned(),
        };
        console::notice(format_args!("generation {from} -> {to}: {change} {name}: {why}"));
    }
}

/// What was good the last time. One of another release is made anew for this one, from what it was made from.
fn keep_last(host: &Host, generations: &Generations, why: &str) -> Option<Running> {
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
    let found = match last.found() {
        Ok(found) => found,
        Err(error) => {
            console::error(console::chain(&error));
            return None;
        }
    };
    let running = if last.record.root_hash == host.root_hash {
        again(last, found)
    } else {
        let accepted = accept(host, generations, &found, &Pulled::new(), &mut Vec::new());
        accepted.ok().map(|running| *running).or_else(|| again(last, found))
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
