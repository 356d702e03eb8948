//! Network configuration, cloud-init's version 1 and version 2 (netplan's form), as one typed [`State`].
//!
//! Strict where cloud-init is lax: a key that is not known, an address that is none, a reference to an interface that
//! does not exist are errors with their line; what is known and not done is a warning. No I/O. A key that occurs twice
//! is a warning and the last one counts: these files come from platforms, and cloud-init's own examples have such keys.

mod address;
mod check;
mod cmdline;
mod json;
mod params;
mod state;
mod v1;
mod v2;

pub use address::Mac;
pub use cmdline::{CommandLine, CommandLineError, command_line};
pub use params::{Param, ParamValue};
pub use state::{
    Dhcp, DhcpOptions, Dns, Kind, Link, Method, Peer, Route, RouteKind, Rule, Secret, Select, State, Subnet,
};

use userdata::{At, Budget, Duplicates, KeySpec, Node, Place, Report, SourceId, Use, Value, parse};

/// Reads a network configuration as text. `None`, with errors in the report, when it cannot be used.
pub fn read_text(text: &str, source: SourceId, report: &Report) -> Option<State> {
    let place = Place { source, line: 1 };
    let root = parse(text, place, Duplicates::LastWins, &mut Budget::default(), report)?;
    read(&At::root(&root, report))
}

/// Reads a network configuration, with or without `network:` around it. Nothing at all is an empty state.
pub fn read(at: &At<'_>) -> Option<State> {
    let errors = at.report.errors();
    let inner = at.get("network");
    let at = inner.as_ref().unwrap_or(at);
    if at.is_null() {
        return Some(State::default());
    }
    if at.get("config").is_some_and(|config| config.node.text() == Some("disabled")) {
        return Some(State { disabled: true, ..State::default() });
    }
    let version = at.get("version");
    let Some(text) = version.as_ref().and_then(|version| version.node.text()) else {
        if at.is_map() {
            at.error_with_hint("the network configuration has no 'version'", "version: 1 and 2 are known");
        } else {
            at.error(format!("must be a map of keys and values, not {}", at.node.kind()));
        }
        return None;
    };
    let mut state = State::default();
    match text {
        "1" => v1::read(at, &mut state),
        "2" => v2::read(at, &mut state),
        other => {
            let version = version.as_ref().unwrap_or(at);
            version
                .error(format!("version '{other}' of the network configuration is not known: 1 and 2 are"));
        }
    }
    check::check(at, &state);
    (at.report.errors() == errors).then_some(state)
}

/// The value of `key`, unless it has none: that counts as absent.
fn field<'a>(at: &At<'a>, key: &str) -> Option<At<'a>> {
    at.get(key).filter(|value| !value.is_null())
}

/// A key that is read.
fn take<T>(name: &'static str, read: fn(&At<'_>, &mut T)) -> KeySpec<T> {
    KeySpec { name, use_: Use::Read(read), doc: "" }
}

/// Whether a list or map has something in it.
fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
