//! Whether the interfaces of a state fit together.

use std::collections::{HashMap, HashSet};

use userdata::{At, Mark, Severity};

use crate::state::{Kind, Link, State};

/// Reports names that occur twice or do not exist, and interfaces that are part of themselves or of two others.
pub(crate) fn check(at: &At<'_>, state: &State) {
    let error = |mark: Mark, message: String| at.add(Severity::Error, mark, message, "");
    let mut by_id: HashMap<&str, &Link> = HashMap::new();
    let mut names = HashSet::new();
    for link in &state.links {
        if by_id.insert(&link.id, link).is_some() {
            error(link.mark, format!("the interface '{}' is there twice", link.id));
        } else if link.select.name.is_none() && link.select.drivers.is_empty() && !names.insert(&link.name) {
            error(link.mark, format!("two interfaces are called '{}'", link.name));
        }
    }
    let mut masters: HashMap<&str, &str> = HashMap::new();
    for link in &state.links {
        for needed in link.needs() {
            if !by_id.contains_key(needed) {
                error(
                    link.mark,
                    format!("'{}' names the interface '{needed}', which does not exist", link.id),
                );
            }
            if matches!(link.kind, Kind::Vlan { .. }) {
                continue;
            }
            if let Some(other) = masters.insert(needed, &link.id) {
                error(link.mark, format!("'{needed}' cannot be part of '{other}' and of '{}'", link.id));
            }
        }
    }
    if let Some(link) = circle(state) {
        error(link.mark, format!("'{}' is part of itself", link.id));
    }
}

/// An interface that needs itself, by way of others or at once.
fn circle(state: &State) -> Option<&Link> {
    let mut open: Vec<&Link> = state.links.iter().collect();
    let mut waiting: HashMap<&str, usize> = HashMap::new();
    let mut needed_by: HashMap<&str, Vec<&Link>> = HashMap::new();
    let ids: HashSet<&str> = state.links.iter().map(|link| link.id.as_str()).collect();
    for link in &state.links {
        for needed in link.needs().into_iter().filter(|needed| ids.contains(needed)) {
            *waiting.entry(&link.id).or_default() += 1;
            needed_by.entry(needed).or_default().push(link);
        }
    }
    let mut free: Vec<&str> = ids.iter().copied().filter(|id| !waiting.contains_key(id)).collect();
    while let Some(id) = free.pop() {
        for link in needed_by.remove(id).unwrap_or_default() {
            if let Some(count) = waiting.get_mut(link.id.as_str()) {
                *count -= 1;
                if *count == 0 {
                    waiting.remove(link.id.as_str());
                    free.push(&link.id);
                }
            }
        }
    }
    open.retain(|link| waiting.contains_key(link.id.as_str()));
    open.first().copied()
}
