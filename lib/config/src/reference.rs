//! The reference of all keys, made from the tables that read them.

use crate::cloud::{GATE, NATIVE};
use crate::read::Key;
use crate::service::READ;

/// The tables of `docs/configuration.md`, in Markdown.
pub fn reference() -> String {
    let mut text = String::new();
    table(&mut text, "Top level", &NATIVE);
    table(&mut text, "`services.NAME`", &READ);
    table(&mut text, "`holdfast.gate`", &GATE);
    text
}

fn table<T>(text: &mut String, title: &str, keys: &[Key<T>]) {
    let rows: String = keys.iter().map(|key| format!("| `{}` | {} |\n", key.name, key.doc)).collect();
    text.push_str(&format!("### {title}\n\n| key | meaning |\n|---|---|\n{rows}\n"));
}
