//! `holdfast diff`: two generations, as a node has written them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use config::{Action, Change, Changes, Config, Included, Input, Judge, MetaData};
use plan::{Plan, ReadError, ServiceName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::changes;
use crate::input::File;
use crate::output::{Format, fail, print};

/// Two generations.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How to print what is found
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where generations are that are given by number
    #[arg(long, value_name = "DIRECTORY", default_value = plan::paths::GENERATIONS)]
    dir: PathBuf,
    /// The earlier generation: a number or a directory
    a: String,
    /// The later generation: a number or a directory
    b: String,
}

/// `generation.json`, as far as it is shown. A node of another version may have written more.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    number: u64,
    os_version: String,
    source: String,
    #[serde(default, skip_serializing)]
    meta: MetaData,
    /// Addresses that were included; their contents are the files `included-0`, and so on.
    #[serde(default, skip_serializing)]
    included: Vec<String>,
}

struct Generation {
    directory: PathBuf,
    record: Record,
    plan: Plan,
    /// Absent when this version does not accept the user-data that it was made from.
    config: Option<Config>,
}

/// Compares both generations and prints the difference.
pub(crate) fn run(args: &Args) -> ExitCode {
    let read = |name: &str| Generation::read(&resolve(name, &args.dir));
    match (read(&args.a), read(&args.b)) {
        (Ok(a), Ok(b)) => {
            let changes = compare(&a, &b);
            let out = match args.format {
                Format::Json => json!({
                    "old": a.record,
                    "new": b.record,
                    "services": changes.services,
                    "node": changes.node,
                })
                .to_string(),
                Format::Text => format!("{} -> {}\n{}", a.title(), b.title(), changes::render(&changes)),
            };
            print(&out, ExitCode::SUCCESS)
        }
        (Err(why), _) | (_, Err(why)) => fail(&why),
    }
}

fn resolve(name: &str, directory: &Path) -> PathBuf {
    if name.parse::<u64>().is_ok() { directory.join(name) } else { PathBuf::from(name) }
}

impl Generation {
    fn read(directory: &Path) -> Result<Self, String> {
        let said = |error: ReadError| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let record: Record = plan::read_json(&directory.join("generation.json")).map_err(said)?;
        let plan = plan::read_json(&directory.join("plan.json")).map_err(said)?;
        let user_data = File::read(&directory.join("user-data"))?;
        let optional = |name: &str| {
            let path = directory.join(name);
            File::read_optional(path.exists().then_some(path.as_path()))
        };
        let (vendor_data, network_config) = (optional("vendor-data")?, optional("network-config")?);
        let included = record.included.iter().enumerate().map(|(number, url)| {
            let file = File::read(&directory.join(format!("included-{number}")))?;
            Ok(Included { url: url.clone(), content: Ok(file.named().1.to_vec()) })
        });
        let included = included.collect::<Result<Vec<_>, String>>()?;
        let input = Input {
            user_data: user_data.named(),
            vendor_data: vendor_data.as_ref().map(File::named),
            meta_data: None,
            network_config: network_config.as_ref().map(File::named),
            included: &included,
        };
        let config = config::judge(&input, Judge::Vocabulary).config;
        Ok(Self { directory: directory.to_owned(), record, plan, config })
    }

    fn title(&self) -> String {
        let Record { number, os_version, source, .. } = &self.record;
        format!("generation {number} (version {os_version}, {source})")
    }

    fn bundle(&self, name: &ServiceName, file: &str) -> Value {
        let path = self.directory.join("bundles").join(name.as_str()).join(file);
        plan::read_json(&path).unwrap_or(Value::Null)
    }
}

/// The plans say what is done, the user-data says why.
fn compare(a: &Generation, b: &Generation) -> Changes {
    let said = a.config.as_ref().zip(b.config.as_ref());
    let said = said.map(|(old, new)| Changes::between((old, &a.record.meta), (new, &b.record.meta)));
    let said = said.unwrap_or_default();
    let done = plan::difference(&a.plan, &b.plan);
    let names: BTreeSet<&ServiceName> = a.plan.services.keys().chain(b.plan.services.keys()).collect();
    let change = |name: &ServiceName| {
        let action = done.get(name).map_or(Action::Keep, |change| Action::from(*change));
        let why = said.services.iter().find(|change| change.name == *name).map(|change| change.keys.clone());
        let keys = match why.filter(|keys| !keys.is_empty()) {
            Some(keys) => keys,
            None if action == Action::Restart => bundle_changes(a, b, name),
            None => Vec::new(),
        };
        Change { name: name.clone(), action, keys }
    };
    let mut node = said.node;
    for (key, changed) in [
        ("hostname", a.plan.hostname != b.plan.hostname),
        ("holdfast.gate", a.plan.gate != b.plan.gate),
        ("(the system's) version", a.record.os_version != b.record.os_version),
    ] {
        if changed && !node.iter().any(|known| known == key) {
            node.push(key.to_owned());
        }
    }
    Changes { services: names.into_iter().map(change).collect(), node }
}

/// Where the bundles differ, for changes that no key of the user-data made: another image, another version.
fn bundle_changes(a: &Generation, b: &Generation, name: &ServiceName) -> Vec<String> {
    let mut places = BTreeSet::new();
    for file in ["config.json", "shim.json"] {
        let (old, new) = (a.bundle(name, file), b.bundle(name, file));
        let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        let names: BTreeSet<String> = [keys(&old), keys(&new)].into_iter().flatten().flatten().collect();
        for key in names.into_iter().filter(|key| old.get(key) != new.get(key)) {
            // The writable layer has its name from the digest.
            if key != "writable" {
                places.insert(format!("{file} {key}"));
            }
        }
    }
    places.into_iter().collect()
}
