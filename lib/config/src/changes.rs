//! What becomes of a node's services when one configuration takes the place of another, and which keys are the reason.
//!
//! Only names of keys are told, never values: they may be secret. An image is compared by its name; whether a tag has
//! moved only a node can know.

use std::collections::{BTreeMap, BTreeSet};

use plan::ServiceName;
use serde::Serialize;
use serde_json::Value as Json;
use userdata::Node;

use crate::compose::Service;
use crate::release::{joins, replicas};
use crate::{Config, MetaData, machine};

/// Keys of a service that the supervisor uses and the container does not see: it keeps running when they change.
pub const WITHOUT_RESTART: [&str; 8] =
    ["attach", "depends_on", "dns", "expose", "ports", "pull_policy", "restart", "stop_grace_period"];

/// Sections that hold named things.
const SECTIONS: [&str; 5] = ["configs", "holdfast", "networks", "secrets", "volumes"];

/// The difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Every container of the services of both, by name.
    pub services: Vec<Change>,
    /// What else changed: keys of the machine, and named things of the other sections (`volumes.data`).
    pub node: Vec<String>,
}

/// What becomes of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: ServiceName,
    /// What is done.
    pub action: Action,
    /// The keys that changed.
    pub keys: Vec<String>,
}

/// What is done with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Start,
    /// It is no longer there.
    Stop,
    /// Its container is replaced.
    Restart,
    /// Its container is replaced, and stopped once the new one works.
    Replace,
    /// It keeps running, with another restart policy, order or time to stop.
    Adjust,
    /// Nothing.
    Keep,
}

impl From<plan::Change> for Action {
    fn from(change: plan::Change) -> Self {
        match change {
            plan::Change::Start => Self::Start,
            plan::Change::Stop => Self::Stop,
            plan::Change::Restart => Self::Restart,
            plan::Change::Adjust => Self::Adjust,
        }
    }
}

impl Changes {
    /// Compares configurations, each with the datasource's meta-data.
    pub fn between((old, old_meta): (&Config, &MetaData), (new, new_meta): (&Config, &MetaData)) -> Self {
        let name =
            |config: &Config, meta: &MetaData| config.machine.hostname.kernel(meta.local_fqdn.as_deref());
        let renamed = name(old, old_meta) != name(new, new_meta);
        let (before, after) = (containers(old), containers(new));
        let names: BTreeSet<&ServiceName> = before.keys().chain(after.keys()).collect();
        let change = |name: &ServiceName| {
            let (action, keys) = match (before.get(name), after.get(name)) {
                (Some(old), Some(new)) => compare(old, new, renamed),
                (None, _) => (Action::Start, Vec::new()),
                (_, None) => (Action::Stop, Vec::new()),
            };
            Change { name: name.clone(), action, keys }
        };
        let mut services: Vec<Change> = names.into_iter().map(change).collect();
        let replaced = |by: &[Action]| -> BTreeSet<ServiceName> {
            let replaced = services.iter().filter(|change| by.contains(&change.action));
            replaced.map(|change| change.name.clone()).collect()
        };
        let others = Others {
            replaced: replaced(&[Action::Restart, Action::Replace]),
            renamed: replaced(&[Action::Replace]),
            counted: old
                .project
                .services
                .iter()
                .filter_map(|(name, old)| {
                    let new = new.project.services.get(name)?;
                    (replicas::count(old) != replicas::count(new)).then(|| name.clone())
                })
                .collect(),
        };
        for change in &mut services {
            if let Some(service) = after.get(&change.name) {
                others.concern(service, change);
            }
        }
        Self { services, node: node(&old.merged, &new.merged) }
    }
}

/// What becomes of services, as far as it concerns others.
struct Others {
    /// Their containers become others.
    replaced: BTreeSet<ServiceName>,
    /// The new ones have the other one of their two names.
    renamed: BTreeSet<ServiceName>,
    /// They have another number of containers.
    counted: BTreeSet<ServiceName>,
}

impl Others {
    /// Adds to the `change` of a service, which keeps running by itself, what it follows of others.
    fn concern(&self, service: &Service, change: &mut Change) {
        if !matches!(change.action, Action::Keep | Action::Adjust) {
            return;
        }
        for (key, _) in joins::targets(service).filter(|(_, other)| self.replaced.contains(other)) {
            change.action = if service.start_first { Action::Replace } else { Action::Restart };
            change.keys.push(key.to_owned());
        }
        let waits = |other: &ServiceName| self.renamed.contains(other) || self.counted.contains(other);
        if change.action == Action::Keep && service.depends_on.keys().any(waits) {
            change.action = Action::Adjust;
            change.keys.push("depends_on".to_owned());
        }
    }
}

/// The services, each as often as it has containers.
fn containers(config: &Config) -> BTreeMap<ServiceName, &Service> {
    let all = config.project.services.iter();
    all.flat_map(|(name, service)| replicas::names(name, service).map(move |name| (name, service))).collect()
}

/// What a key says of each container of a service, not of how many there are, nor of how they follow each other.
fn of_each(service: &Service, key: &str) -> Option<Json> {
    let mut value = service.normal.get(key).filter(|_| key != "scale").cloned();
    if let Some(Json::Object(deploy)) = value.as_mut().filter(|_| key == "deploy") {
        deploy.remove("replicas");
        deploy.remove("update_config");
    }
    value.filter(|value| value.as_object().is_none_or(|map| !map.is_empty()))
}

fn compare(old: &Service, new: &Service, renamed: bool) -> (Action, Vec<String>) {
    let names: BTreeSet<&String> = old.normal.keys().chain(new.normal.keys()).collect();
    let changed = names.into_iter().filter(|key| of_each(old, key) != of_each(new, key));
    let mut keys: Vec<String> = changed.cloned().collect();
    if old.container.filter != new.container.filter && !keys.iter().any(|key| key == "security_opt") {
        keys.push("security_opt".to_owned());
    }
    // A container on the node's network has the node's name.
    if renamed && new.network_mode.as_ref().is_some_and(|mode| mode.value == "host") {
        keys.push("(the node's) hostname".to_owned());
    }
    let action = if keys.is_empty() {
        Action::Keep
    } else if keys.iter().all(|key| WITHOUT_RESTART.contains(&key.as_str())) {
        Action::Adjust
    } else if new.start_first {
        Action::Replace
    } else {
        Action::Restart
    };
    (action, keys)
}

/// The keys beside the services that changed, of those that mean something to a node.
fn node(old: &Node, new: &Node) -> Vec<String> {
    let native = machine::NATIVE.iter().map(|key| key.name).filter(|name| !SECTIONS.contains(name));
    let mut changed: Vec<String> =
        native.filter(|name| plain(old.get(name)) != plain(new.get(name))).map(str::to_owned).collect();
    for section in SECTIONS {
        let (old, new) = (plain(old.get(section)), plain(new.get(section)));
        let keys = |json: &Json| json.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        let names: BTreeSet<String> = [keys(&old), keys(&new)].into_iter().flatten().flatten().collect();
        let names = names.into_iter().filter(|name| old.get(name) != new.get(name));
        changed.extend(names.map(|name| format!("{section}.{name}")));
    }
    changed
}

/// Without places. Nothing and no key are the same.
fn plain(node: Option<&Node>) -> Json {
    node.and_then(|node| serde_json::to_value(node).ok()).unwrap_or(Json::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Input, Judge, judge};

    fn config(text: &str) -> Config {
        let outcome = judge(&Input::user_data("f", text.as_bytes()), Judge::Vocabulary);
        outcome.config.unwrap_or_else(|| panic!("{:#?}", outcome.problems))
    }

    fn changes(old: &str, new: &str) -> (Vec<String>, Vec<String>) {
        let head = "#cloud-config\n";
        let changes = Changes::between(
            (&config(&format!("{head}{old}")), &MetaData::default()),
            (&config(&format!("{head}{new}")), &MetaData::default()),
        );
        let spelled = changes.services.iter().map(|change| {
            let spelled = format!("{} {:?} {}", change.name, change.action, change.keys.join(","));
            spelled.trim_end().to_owned()
        });
        (spelled.collect(), changes.node)
    }

    #[test]
    fn each_service_says_what_becomes_of_it_and_why() {
        let old = "services:\n  a: {image: i, environment: {A: 1}}\n  b: {image: i, restart: always}\n  c: {image: i}\n  \
                   d: {image: i, environment: [A=1]}\n";
        let new = "services:\n  a: {image: j, environment: {A: 2}}\n  b: {image: i}\n  d: {image: i, environment: {A: 1}}\n  \
                   e: {image: i}\n";
        assert_eq!(
            changes(old, new).0,
            ["a Restart environment,image", "b Adjust restart", "c Stop", "d Keep", "e Start"]
        );
    }

    #[test]
    fn variables_and_the_node_s_name_reach_the_services() {
        let of = |tag: &str, name: &str| {
            format!(
                "hostname: {name}\nholdfast: {{env: {{TAG: {tag}}}}}\nservices:\n  a: {{image: 'i:${{TAG}}', network_mode: \
                 none}}\n  b: {{image: i, network_mode: host}}\n"
            )
        };
        let (services, node) = changes(&of("a", "x"), &of("b", "x"));
        assert_eq!(services, ["a Restart image", "b Keep"]);
        assert_eq!(node, ["holdfast.env"]);
        let (services, node) = changes(&of("a", "x"), &of("a", "y"));
        assert_eq!(services, ["a Keep", "b Restart (the node's) hostname"]);
        assert_eq!(node, ["hostname"]);
    }

    #[test]
    fn another_number_of_replicas_concerns_those_that_come_and_go() {
        let of = |keys: &str| format!("services:\n  a: {{image: i{keys}}}\n");
        let (one, three) = (of(""), of(", deploy: {replicas: 3}"));
        assert_eq!(changes(&one, &three).0, ["a Keep", "a-2 Start", "a-3 Start"]);
        assert_eq!(changes(&three, &of(", scale: 2")).0, ["a Keep", "a-2 Keep", "a-3 Stop"]);
        assert_eq!(changes(&three, &of(", scale: 0")).0, ["a Stop", "a-2 Stop", "a-3 Stop"]);
    }

    #[test]
    fn who_comes_first_is_no_change_of_a_container() {
        let of = |image: &str, order: &str| {
            format!("services:\n  a: {{image: {image}, deploy: {{update_config: {{order: {order}}}}}}}\n")
        };
        let (first, last) = (of("i", "start-first"), of("i", "stop-first"));
        assert_eq!(changes(&last, &first).0, ["a Keep"]);
        assert_eq!(changes(&last, &of("j", "start-first")).0, ["a Replace image"]);
        assert_eq!(changes(&first, &of("j", "stop-first")).0, ["a Restart image"]);
    }

    #[test]
    fn who_follows_another_service_changes_with_it() {
        let of = |image: &str, keys: &str| {
            format!(
                "services:\n  a: {{image: {image}{keys}}}\n  b: {{image: i, network_mode: 'service:a'}}\n  \
                 c: {{image: i, pid: 'service:a', restart: always}}\n  d: {{image: i, depends_on: [a]}}\n"
            )
        };
        let keep = ["a Keep", "b Keep", "c Keep", "d Keep"];
        assert_eq!(changes(&of("i", ""), &of("i", "")).0, keep);
        let restart = ["a Restart image", "b Restart network_mode", "c Restart pid", "d Keep"];
        assert_eq!(changes(&of("i", ""), &of("j", "")).0, restart);
        let depends =
            |keys: &str| format!("services:\n  a: {{image: i{keys}}}\n  d: {{image: i, depends_on: [a]}}\n");
        let (one, two) = (depends(""), depends(", scale: 2"));
        assert_eq!(changes(&one, &two).0, ["a Keep", "a-2 Start", "d Adjust depends_on"]);
        let first = |user: &str| {
            depends(&format!(", user: '{user}', deploy: {{update_config: {{order: start-first}}}}"))
        };
        assert_eq!(changes(&first("1"), &first("2")).0, ["a Replace user", "d Adjust depends_on"]);
    }

    #[test]
    fn order_comments_and_keys_of_others_change_nothing() {
        let old =
            "hostname: a\npackages: [x]\nservices: {a: {image: i}}\nvolumes: {v: , w: {driver: local}}\n";
        let new =
            "# Hello\nvolumes: {w: }\nx-mine: 1\nservices: {a: {image: 'i'}}\npackages: [y]\nhostname: 'a'\n";
        let node = ["volumes.v", "volumes.w"].map(str::to_owned).to_vec();
        assert_eq!(
            changes(old, new),
            (vec!["a Keep".to_owned()], node),
            "a volume without settings is one, too"
        );
    }
}
