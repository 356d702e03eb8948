//! What PID 1 does when one plan follows another.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Plan, ServiceName};

/// What becomes of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Start,
    /// It is no longer wanted.
    Stop,
    /// Its container is another one: image, settings or both.
    Restart,
    /// It keeps running, with another restart policy, order or time to stop.
    Adjust,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Adjust => "adjust",
        })
    }
}

/// The services that `new` changes, by what becomes of each. Those that are not named keep running as they are.
///
/// The rule is PID 1's: the digest of a service says whether its container is kept. Where the generation's files lie, and whose
/// place it once took, is no difference.
pub fn difference(old: &Plan, new: &Plan) -> BTreeMap<ServiceName, Change> {
    let stopped = old.services.keys().filter(|name| !new.services.contains_key(*name));
    let mut changes: BTreeMap<_, _> = stopped.map(|name| (name.clone(), Change::Stop)).collect();
    for (name, service) in &new.services {
        let change = match old.services.get(name) {
            None => Change::Start,
            Some(before) if before.digest != service.digest => Change::Restart,
            Some(before) => {
                let mut same_place = before.clone();
                same_place.bundle.clone_from(&service.bundle);
                same_place.replaces.clone_from(&service.replaces);
                if same_place == *service {
                    continue;
                }
                Change::Adjust
            }
        };
        changes.insert(name.clone(), change);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gate, Needs, Restart, Service};

    fn plan(generation: u64, services: &[(&str, &str, u64)]) -> Plan {
        let service = |(name, digest, stop_timeout_ms): &(&str, &str, u64)| {
            let service = Service {
                bundle: format!("/generations/{generation}/bundles/{name}").into(),
                digest: (*digest).to_owned(),
                restart: Restart::No,
                depends_on: BTreeMap::new(),
                needs: Needs::default(),
                stop_timeout_ms: *stop_timeout_ms,
                required: true,
                replaces: None,
            };
            (ServiceName::new(*name).unwrap(), service)
        };
        Plan {
            generation,
            os_version: "1".to_owned(),
            hostname: "node".to_owned(),
            gate: Gate::default(),
            services: services.iter().map(service).collect(),
        }
    }

    #[test]
    fn each_service_is_kept_changed_started_or_stopped() {
        let old = plan(1, &[("kept", "a", 1), ("other", "a", 1), ("later", "a", 1), ("gone", "a", 1)]);
        let new = plan(2, &[("kept", "a", 1), ("other", "b", 1), ("later", "a", 2), ("new", "a", 1)]);
        let said: Vec<String> =
            difference(&old, &new).iter().map(|(name, change)| format!("{change} {name}")).collect();
        assert_eq!(said, ["stop gone", "adjust later", "start new", "restart other"]);
    }

    #[test]
    fn the_same_services_in_another_generation_are_no_difference() {
        let services = [("web", "a", 1)];
        assert!(difference(&plan(1, &services), &plan(2, &services)).is_empty());
    }
}
