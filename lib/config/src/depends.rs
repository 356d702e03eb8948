//! Whether services can be started in an order: every dependency is there, and none waits for itself.

use std::collections::{BTreeMap, BTreeSet};

use plan::ServiceName;
use userdata::At;

use crate::compose::Service;

/// Reports dependencies that do not exist, and cycles. `section` is `services`.
pub(crate) fn check(section: &At<'_>, services: &BTreeMap<ServiceName, Service>) {
    let depends_on = |name: &ServiceName| section.get(name.as_str()).and_then(|at| at.get("depends_on"));
    for (name, service) in services {
        for needed in service.depends_on.keys() {
            let Some(list) = depends_on(name) else { continue };
            let at = list.get(needed.as_str()).unwrap_or(list);
            // A service that is there but wrong has an error of its own, so the file decides and not `services`.
            if section.get(needed.as_str()).is_none() {
                at.error(format!("there is no service '{needed}'"));
            }
        }
    }
    let cycle = cycle(services);
    if let Some(at) = cycle.first().and_then(depends_on) {
        let names: Vec<&str> = cycle.iter().map(ServiceName::as_str).collect();
        at.error(format!("services wait for each other: {}", names.join(" -> ")));
    }
}

/// One cycle, its first service repeated at the end; empty when there is none.
fn cycle(services: &BTreeMap<ServiceName, Service>) -> Vec<ServiceName> {
    let mut open: BTreeMap<&ServiceName, BTreeSet<&ServiceName>> = services
        .iter()
        .map(|(name, service)| {
            (name, service.depends_on.keys().filter(|n| services.contains_key(n)).collect())
        })
        .collect();
    // Take away what waits for nothing until nothing changes; what stays waits for a cycle or is in one.
    loop {
        let free: Vec<&ServiceName> =
            open.iter().filter(|(_, n)| n.is_empty()).map(|(name, _)| *name).collect();
        if free.is_empty() {
            break;
        }
        open.retain(|_, needed| !needed.is_empty());
        open.values_mut().for_each(|needed| needed.retain(|name| free.binary_search(name).is_err()));
    }
    let mut way: Vec<&ServiceName> = Vec::new();
    let mut next = open.keys().next().copied();
    while let Some(name) = next {
        if let Some(start) = way.iter().position(|seen| *seen == name) {
            way.push(name);
            return way.into_iter().skip(start).cloned().collect();
        }
        way.push(name);
        next = open.get(name).and_then(|needed| needed.first().copied());
    }
    Vec::new()
}
