//! User-data -> what the node shall be, with every problem at its place in the file.
//!
//! The same code judges a file on the node, on a laptop (`holdfast check`) and in `image-build`. It does no I/O and
//! never panics, whatever the bytes. The way of a file: `userdata` (formats, parts, merging, YAML with its places) ->
//! the key tables (`machine`, `compose`), every key of cloud-init's schema and of the compose-spec -> [`Config`] ->
//! `release`: what this version applies of it -> [`Desired`]. A key is one entry of a table; what no table names is a
//! problem, and so is what is read but not applied: nothing is ignored silently.

mod authorized_keys;
mod changes;
mod compose;
pub mod container;
mod container_network;
mod depends;
mod desired;
mod effective;
mod interpolate;
mod machine;
mod meta_data;
mod reference;
mod release;
mod schema;
mod shape;
mod signal;
mod words;

pub use changes::{Action, Change, Changes, WITHOUT_RESTART};
pub use compose::{
    CommandLine, Dependency, Port, Project, Reference, Service as ComposeService, Volume, VolumeKind,
    VolumeOptions,
};
pub use container::Container;
pub use container_network::{
    Accepted, Bridge, DEFAULT_NETWORK, ExtraHost, Firewall, Membership, Network, Protocol, Published, Reach,
};
pub use desired::{Desired, LogFiles, Logging, PullPolicy, Service};
pub use machine::{
    CaCerts, Commands, Credentials, Delay, DiskSetup, EtcHosts, File, FsSetup, Holdfast, HostKeys, Hostname,
    ImageSource, Import, Layout, Machine, Mount, Ntp, PhoneHome, Post, PowerMode, PowerState, Receiver,
    Registry, ResolvConf, Scrub, Swap,
};
pub use meta_data::{MetaData, meta_data};
pub use reference::{explain, reference};
pub use schema::schema;
pub use signal::signal_number;
pub use userdata::{Located, MAX_SIZE, Mark, Problem, Severity, Source};

use std::collections::BTreeMap;

use userdata::{At, Load, Node, Report, Role};

/// What a configuration is made of: each a name for the problems, and the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// User-data.
    pub user_data: (&'a str, &'a [u8]),
    /// The platform's own; the user's counts first.
    pub vendor_data: Option<(&'a str, &'a [u8])>,
    /// The datasource's meta-data.
    pub meta_data: Option<(&'a str, &'a [u8])>,
    /// The datasource's network configuration.
    pub network_config: Option<(&'a str, &'a [u8])>,
    /// What was fetched of the addresses that [`missing`] names.
    pub included: &'a [Included],
}

/// An address that user-data or vendor-data includes, and what came of fetching it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// The address.
    pub url: String,
    /// Its content, or why there is none.
    pub content: Result<Vec<u8>, String>,
}

impl<'a> Input<'a> {
    /// Only user-data.
    pub fn user_data(name: &'a str, bytes: &'a [u8]) -> Self {
        Self {
            user_data: (name, bytes),
            vendor_data: None,
            meta_data: None,
            network_config: None,
            included: &[],
        }
    }
}

/// What is asked of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Whether this version runs it: a service that needs more than that is an error.
    Node,
    /// Whether it is right: what this version does not run of it is a warning.
    Vocabulary,
}

/// What became of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The whole, when no problem is an error.
    pub config: Option<Config>,
    /// What this version applies, when no problem is an error and it runs all of the services.
    pub desired: Option<Desired>,
    /// The meta-data.
    pub meta: MetaData,
    /// Files of `write_files` that cannot be written, with the reason.
    pub rejected_files: BTreeMap<String, &'static str>,
    /// Addresses of `#include` that were not fetched.
    pub includes: Vec<String>,
    /// What is wrong, or not done.
    pub problems: Vec<Problem>,
    /// The texts that the problems stand in.
    pub sources: Vec<Source>,
}

/// A whole configuration, typed.
#[derive(Clone, Debug)]
pub struct Config {
    /// The machine.
    pub machine: Machine,
    /// The workloads.
    pub project: Project,
    /// The network: `holdfast.network`, else the datasource's.
    pub network: Option<netconfig::State>,
    /// The tree after merging.
    pub merged: Node,
}

/// Judges user-data as a node does. `source` is its name in the problems: a file, `kernel command line`, ...
///
/// The result is there exactly when no problem is an error.
pub fn check(source: &str, bytes: &[u8]) -> (Option<Desired>, Vec<Problem>) {
    let outcome = judge(&Input::user_data(source, bytes), Judge::Node);
    (outcome.desired, outcome.problems)
}

/// Judges a configuration with all that belongs to it.
pub fn judge(input: &Input<'_>, judge: Judge) -> Outcome {
    let (name, bytes) = input.user_data;
    let report = Report::new(name);
    let mut load = Load::new(&report, Role::User, None);
    load.add(userdata::SourceId::default(), bytes);
    include(&mut load, input.included);
    let includes: Vec<String> = load.includes().map(|include| include.url.clone()).collect();
    if judge == Judge::Node {
        while load.includes().next().is_some() {
            load.resolve(Err("it was not fetched"));
        }
    }
    let user = load.merge();
    let merged = match input.vendor_data.filter(|_| wants_vendor_data(&user)) {
        Some((name, bytes)) => with_vendor_data(user, name, bytes, input.included, &report),
        None => user,
    };
    let root = At::root(&merged, &report);
    let (machine, project) = read(&root);
    let meta = input.meta_data.map(|(name, bytes)| {
        let source = report.source(name, String::from_utf8_lossy(bytes).into());
        report.excuse(true);
        let meta = meta_data::read(bytes, source, &report);
        report.excuse(false);
        meta
    });
    let given = input.network_config.and_then(|(name, bytes)| {
        let text = String::from_utf8_lossy(bytes);
        let source = report.source(name, text.as_ref().into());
        netconfig::read_text(&text, source, &report)
    });
    let network = machine.holdfast.network.clone().or(given);
    let config = Config { machine, project, network, merged: merged.clone() };
    let desired = release::desired(&root, &config, judge);
    let valid = !report.has_errors();
    let findings = report.finish();
    let rejected_files = config.machine.rejected_files.clone();
    Outcome {
        rejected_files,
        config: Some(config).filter(|_| valid),
        desired: desired.filter(|_| valid),
        meta: meta.unwrap_or_default(),
        includes,
        problems: findings.problems,
        sources: findings.sources,
    }
}

/// The addresses that are still to be fetched before a configuration can be judged. What is fetched may name more.
pub fn missing(input: &Input<'_>) -> Vec<String> {
    let parts = [(Some(input.user_data), Role::User), (input.vendor_data, Role::Vendor)];
    let mut urls = Vec::new();
    for (part, role) in parts {
        let Some((name, bytes)) = part else { continue };
        let report = Report::new(name);
        let mut load = Load::new(&report, role, None);
        load.add(userdata::SourceId::default(), bytes);
        include(&mut load, input.included);
        for include in load.includes() {
            if !urls.contains(&include.url) {
                urls.push(include.url.clone());
            }
        }
    }
    urls
}

/// Puts in what was fetched, up to the first address that was not.
fn include(load: &mut Load<'_>, included: &[Included]) {
    loop {
        let next = load.includes().next().map(|include| include.url.clone());
        let known = next.and_then(|url| included.iter().find(|included| included.url == url));
        let Some(known) = known else { return };
        load.resolve(known.content.as_deref().map_err(String::as_str));
    }
}

/// Reads a whole tree.
fn read(root: &At<'_>) -> (Machine, Project) {
    let mut machine = Machine::default();
    let mut table = machine::table();
    table.extend(compose::SECTIONS);
    root.section("a node's configuration", &table, &mut machine);
    machine::finish(root, &mut machine);
    let project = compose::read(root, &machine);
    let holdfast = &machine.holdfast;
    let services = project.services.values().filter_map(|service| service.image.as_ref());
    let used = services.chain(&holdfast.run_in).map(|image| image.value.as_str());
    machine::images::warn_of_unused(root, &holdfast.images, used);
    (machine, project)
}

fn wants_vendor_data(user: &Node) -> bool {
    let enabled = user.get("vendor_data").and_then(|vendor| vendor.get("enabled").or(Some(vendor)));
    !enabled
        .and_then(Node::text)
        .is_some_and(|text| ["false", "no", "off", "n"].contains(&text.to_ascii_lowercase().as_str()))
}

/// The user's tree with the platform's below it. What is wrong with the platform's is no fault of the user: it is left
/// out as a whole then, and said.
fn with_vendor_data(user: Node, name: &str, bytes: &[u8], included: &[Included], report: &Report) -> Node {
    let source = report.source(name, std::sync::Arc::from(""));
    report.excuse(true);
    let mut load = Load::new(report, Role::Vendor, None);
    load.add(source, bytes);
    include(&mut load, included);
    let vendor = load.merge();
    read(&At::root(&vendor, report));
    if report.excuse(false) > 0 {
        let message = "vendor-data has errors and is left out".to_owned();
        report.add_to(source, Severity::Warning, None, "", message, None);
        return user;
    }
    userdata::below(user, vendor)
}

#[cfg(test)]
mod tests;
