//! The reference of all keys and what is said about one of them, made from what the readers take.

use userdata::{Fate, Known};

use crate::release;
use crate::shape::{Fields, Shape, Single, shape};

/// The tables of `docs/configuration.md`, in Markdown.
pub fn reference() -> String {
    let shape = shape();
    let mut tables = Vec::new();
    section(&mut tables, "", &shape);
    // The sections that have most to say come first, each with what is in it.
    let rank = |path: &str| {
        let first = path.split(['.', '[']).next().unwrap_or_default();
        (!path.is_empty(), first != "services", first == "holdfast")
    };
    tables.sort_by_key(|table| rank(&table.path));
    tables.iter().map(Table::markdown).collect::<Vec<_>>().join("\n") + "\n" + &without_effect(&shape)
}

/// What becomes of one key, given by its path: `ntp.servers`, `services.web.ports`, `write_files.path`.
pub fn explain(key: &str) -> Option<String> {
    let mut found = (None, shape());
    for name in key.split('.') {
        let name = name.split('[').next().unwrap_or(name);
        found = step(&found.1, name)?;
    }
    let (known, shape) = found;
    let (fate, doc) = known.map_or((Fate::Read, ""), |known| (known.fate, known.doc));
    let mut lines = vec![match fate {
        Fate::Read => format!("{key}: {doc}"),
        Fate::NotApplicable => format!("{key}: Not applicable on a node, and reported. {doc}"),
        Fate::Unsupported => format!("{key}: Known, not supported by this version, and reported."),
        Fate::Refused => {
            format!("{key}: Refused: {}", if doc.is_empty() { "a node does not have it" } else { doc })
        }
        Fate::Quiet => {
            format!("{key}: Accepted. {}", if doc.is_empty() { "It has no bearing on a node." } else { doc })
        }
    }];
    if fate == Fate::Read {
        lines.extend(kinds(&shape).map(|kinds| format!("Value: {kinds}.")));
        lines.extend(fields(&shape).map(|fields| {
            let names = fields.iter().filter(|(known, _)| known.fate != Fate::Refused);
            format!("Keys: {}.", names.map(|(known, _)| known.name.as_str()).collect::<Vec<_>>().join(", "))
        }));
        if !is_applied(key) {
            lines.push("This version checks it and does not apply it.".to_owned());
        }
    }
    Some(lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n"))
}

/// The value of a key; of a list, that of its items.
fn step(shape: &Shape, name: &str) -> Option<(Option<Known>, Shape)> {
    let Shape::Of { list, map, .. } = shape else { return None };
    let own = match map {
        Some(Fields::Known(keys)) => {
            let found = keys.iter().find(|(known, _)| known.name == name);
            found.map(|(known, shape)| (Some(known.clone()), shape.clone()))
        }
        Some(Fields::Named(value)) => Some((None, (**value).clone())),
        None => None,
    };
    own.or_else(|| step(list.as_ref()?, name))
}

/// The keys of a map, or of the maps in a list.
fn fields(shape: &Shape) -> Option<&[(Known, Shape)]> {
    let Shape::Of { list, map, .. } = shape else { return None };
    match map {
        Some(Fields::Known(keys)) => Some(keys),
        _ => fields(list.as_ref()?),
    }
}

/// Whether this version applies what a key of this path says.
fn is_applied(path: &str) -> bool {
    match path.split('.').map(|step| step.trim_end_matches("[]")).collect::<Vec<_>>().as_slice() {
        ["services", _, key, ..] => release::SERVICE.contains(key),
        ["holdfast", key, ..] => release::HOLDFAST.contains(key),
        [key, ..] => release::MACHINE.contains(key),
        [] => true,
    }
}

/// The keys of one map.
struct Table {
    path: String,
    rows: Vec<String>,
}

impl Table {
    fn markdown(&self) -> String {
        let title = if self.path.is_empty() { "Top level".to_owned() } else { format!("`{}`", self.path) };
        format!(
            "### {title}\n\n| key | value | applied | meaning |\n|---|---|---|---|\n{}",
            self.rows.concat()
        )
    }
}

/// The table of a map and of all maps in it, each with its path.
fn section(tables: &mut Vec<Table>, path: &str, shape: &Shape) {
    let Shape::Of { list, map, .. } = shape else { return };
    if let Some(items) = list {
        section(tables, &format!("{path}[]"), items);
    }
    match map {
        Some(Fields::Named(value)) => section(tables, &format!("{path}.NAME"), value),
        Some(Fields::Known(keys)) => {
            let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let read = || keys.iter().filter(|(known, _)| known.fate == Fate::Read);
            let rows: Vec<String> =
                read().map(|(known, shape)| row(&below(&known.name), known, shape)).collect();
            // Interfaces of all kinds share most of their keys: netplan's documentation has them.
            if !rows.is_empty() && !path.starts_with("holdfast.network.") {
                tables.push(Table { path: path.to_owned(), rows });
            }
            read().for_each(|(known, shape)| section(tables, &below(&known.name), shape));
        }
        None => {}
    }
}

fn row(path: &str, known: &Known, shape: &Shape) -> String {
    let value = kinds(shape).unwrap_or_default();
    let applied = if is_applied(path) { "yes" } else { "later" };
    format!("| `{}` | {value} | {applied} | {} |\n", known.name, known.doc)
}

/// What a value may be, in words; nothing when it is not looked at.
fn kinds(shape: &Shape) -> Option<String> {
    let Shape::Of { scalar, list, map } = shape else { return None };
    let mut kinds: Vec<String> = scalar.iter().flat_map(single).collect();
    kinds.extend(list.iter().map(|items| match kinds_of_items(items) {
        Some(items) => format!("list of {items}"),
        None => "list".to_owned(),
    }));
    kinds.extend(map.iter().map(|_| "map".to_owned()));
    (!kinds.is_empty()).then(|| kinds.join(", or "))
}

fn kinds_of_items(items: &Shape) -> Option<String> {
    match items {
        Shape::Of { scalar: Some(_), list: None, map: None } => Some("single values".to_owned()),
        Shape::Of { scalar: None, list: None, map: Some(_) } => Some("maps".to_owned()),
        Shape::Of { scalar: None, list: Some(_), map: None } => Some("lists".to_owned()),
        Shape::Of { scalar: Some(_), list: None, map: Some(_) } => Some("single values or maps".to_owned()),
        _ => None,
    }
}

fn single(single: &Single) -> Vec<String> {
    let mut kinds = Vec::new();
    if !single.words.is_empty() {
        kinds.push(single.words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "));
    }
    if single.truth {
        kinds.push("true or false".to_owned());
    }
    if let Some(range) = &single.int {
        kinds.push(match (*range.start(), *range.end()) {
            (0, last) if last >= i64::from(u32::MAX) => "whole number".to_owned(),
            (first, i64::MAX) => format!("whole number from {first}"),
            (first, last) => format!("whole number from {first} to {last}"),
        });
    }
    if single.duration {
        kinds.push("duration".to_owned());
    }
    if single.text {
        kinds.push("text".to_owned());
    }
    kinds
}

/// Keys of the top level that no node reads, by what is said about them.
fn without_effect(shape: &Shape) -> String {
    let keys = fields(shape).unwrap_or_default();
    let names = |fate: Fate| {
        let names = keys.iter().filter(|(known, _)| known.fate == fate).map(|(known, _)| known);
        names.map(|known| format!("`{}`", known.name)).collect::<Vec<_>>().join(", ")
    };
    let mut reasons: Vec<&str> = Vec::new();
    for (known, _) in keys.iter().filter(|(known, _)| known.fate == Fate::NotApplicable) {
        if !reasons.contains(&known.doc) {
            reasons.push(known.doc);
        }
    }
    let rows: String = reasons
        .iter()
        .map(|reason| {
            let of_it = keys.iter().filter(|(k, _)| k.fate == Fate::NotApplicable && k.doc == *reason);
            let names: Vec<String> = of_it.map(|(known, _)| format!("`{}`", known.name)).collect();
            let reason = if reason.is_empty() { "they tune cloud-init or a distribution" } else { reason };
            format!("| {} | {reason} |\n", names.join(", "))
        })
        .collect();
    format!(
        "### Reported as not applicable\n\n| keys | because |\n|---|---|\n{rows}\n### Other keys of the top level\n\n\
         * Reported as not supported by this version: {}.\n* Accepted in silence, because it is so anyway or has no \
         bearing: {}.\n* Refused: {}.\n",
        names(Fate::Unsupported),
        names(Fate::Quiet),
        names(Fate::Refused),
    )
}
