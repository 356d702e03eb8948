//! Whether services can be started in an order: every dependency is there, and none waits for itself.

use std::collections::BTreeMap;

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
    if let Some(at) = cycle.iter().find_map(depends_on) {
        let names: Vec<&str> = cycle.iter().map(ServiceName::as_str).collect();
        at.error(format!("services wait for each other: {}", names.join(" -> ")));
    }
}

/// One cycle, its first service repeated at the end; empty when there is none.
fn cycle(services: &BTreeMap<ServiceName, Service>) -> Vec<ServiceName> {
    let needs = |name: &ServiceName| {
        let service = services.get(name);
        service
            .into_iter()
            .flat_map(|service| service.depends_on.keys())
            .filter(|name| services.contains_key(*name))
    };
    let mut waiting: BTreeMap<&ServiceName, usize> =
        services.keys().map(|name| (name, needs(name).count())).collect();
    let mut needed_by: BTreeMap<&ServiceName, Vec<&ServiceName>> = BTreeMap::new();
    for name in services.keys() {
        for needed in needs(name) {
            needed_by.entry(needed).or_default().push(name);
        }
    }
    // Take away what waits for nothing until nothing changes; what stays waits for a cycle or is in one.
    let mut free: Vec<&ServiceName> =
        waiting.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(name) = free.pop() {
        waiting.remove(name);
        for next in needed_by.remove(name).unwrap_or_default() {
            if let Some(count) = waiting.get_mut(next) {
                *count -= 1;
                if *count == 0 {
                    free.push(next);
                }
            }
        }
    }
    let mut way: Vec<&ServiceName> = Vec::new();
    let mut next = waiting.keys().next().copied();
    while let Some(name) = next {
        if let Some(start) = way.iter().position(|seen| *seen == name) {
            way.push(name);
            return way.into_iter().skip(start).cloned().collect();
        }
        way.push(name);
        next = needs(name).find(|needed| waiting.contains_key(needed));
    }
    Vec::new()
}
