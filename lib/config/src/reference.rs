//! The reference of all keys, made from the tables that read them.

use userdata::{KeySpec, Use};

use crate::compose::{READ, REFUSED};
use crate::machine::{self, GATE, HOLDFAST, NATIVE};
use crate::release;

/// The tables of `docs/configuration.md`, in Markdown.
pub fn reference() -> String {
    let mut text = String::new();
    let applied = |names: &'static [&'static str]| move |name: &str| names.contains(&name);
    let services = [("services", "Map of services by name: see below.")];
    table(&mut text, "Top level", rows(&NATIVE, applied(release::MACHINE)).chain(services));
    table(&mut text, "`services.NAME`", rows(&READ, applied(release::SERVICE)));
    table(&mut text, "`holdfast`", rows(&HOLDFAST, applied(release::HOLDFAST)));
    table(&mut text, "`holdfast.gate`", rows(&GATE, |_| true));
    text.push_str(
        "### Checked, but not applied by this version\n\nThese are read and judged. A node leaves out those of the first \
         two tables, with a warning, and refuses a file that has those of the third.\n\n",
    );
    let later = |names: &'static [&'static str]| move |name: &str| !names.contains(&name);
    table(&mut text, "Top level, later", rows(&NATIVE, later(release::MACHINE)));
    table(&mut text, "`holdfast`, later", rows(&HOLDFAST, later(release::HOLDFAST)));
    let sections = ["networks", "volumes", "secrets", "configs"].map(|name| (name, "Section of the file."));
    table(&mut text, "`services.NAME`, later", rows(&READ, later(release::SERVICE)).chain(sections));
    text
}

fn rows<T>(
    keys: &'static [KeySpec<T>],
    wanted: impl Fn(&str) -> bool,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    keys.iter().filter(move |key| wanted(key.name)).map(|key| (key.name, key.doc))
}

fn table<'a>(text: &mut String, title: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    let rows: String = rows.map(|(name, doc)| format!("| `{name}` | {doc} |\n")).collect();
    text.push_str(&format!("### {title}\n\n| key | meaning |\n|---|---|\n{rows}\n"));
}

/// What becomes of one key: of the top level, of a service (`services.NAME.KEY`), or of `holdfast`.
pub fn explain(key: &str) -> Option<String> {
    let last = key.rsplit('.').next().unwrap_or(key);
    let top = machine::table();
    let found = match key.split('.').collect::<Vec<_>>().as_slice() {
        ["services"] => Some(("Map of services by name.".to_owned(), true)),
        [name] => find(&top, name, release::MACHINE),
        ["holdfast", "gate", name] => find(&GATE, name, &["settle", "deadline"]),
        ["holdfast", name] => find(&HOLDFAST, name, release::HOLDFAST),
        ["services", name] | ["services", _, name] => find(&READ, name, release::SERVICE).or_else(|| {
            let refused =
                REFUSED.iter().find(|(names, _)| names.split_whitespace().any(|known| known == *name));
            refused.map(|(_, why)| (format!("Refused: {why}"), true))
        }),
        _ => None,
    };
    let (text, applied) = found?;
    let later = if applied { "" } else { "\nThis version checks it and does not apply it." };
    Some(format!("{last}: {text}{later}"))
}

fn find<T>(keys: &[KeySpec<T>], name: &str, applied: &[&str]) -> Option<(String, bool)> {
    let key = keys.iter().find(|key| key.name == name)?;
    Some(match key.use_ {
        Use::Read(_) => (key.doc.to_owned(), applied.contains(&name)),
        Use::NotApplicable => (format!("Not applicable on a node. {}", key.doc), true),
        Use::Unsupported => ("Known, and not supported.".to_owned(), true),
        Use::Refused => (format!("Refused. {}", key.doc), true),
        Use::Quiet => ("Accepted; it has no bearing on a node.".to_owned(), true),
    })
}
