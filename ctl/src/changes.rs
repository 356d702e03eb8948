//! Changes of services as text: one line for each, with the keys that are the reason.

use config::{Action, Change, Changes};

/// One line for each service that something is done with, then the others, then what else changed.
pub(crate) fn render(changes: &Changes) -> String {
    let (kept, changed): (Vec<&Change>, Vec<&Change>) =
        changes.services.iter().partition(|change| change.action == Action::Keep);
    let width = changed.iter().map(|change| change.name.as_str().len()).max().unwrap_or(0);
    let mut lines: Vec<String> = changed.iter().map(|change| line(change, width)).collect();
    if !kept.is_empty() {
        let names: Vec<&str> = kept.iter().map(|change| change.name.as_str()).collect();
        lines.push(format!("keep     {}", names.join(", ")));
    }
    if !changes.node.is_empty() {
        lines.push(format!("node     {}", changes.node.join(", ")));
    }
    if lines.is_empty() {
        lines.push("nothing changes".to_owned());
    }
    lines.join("\n")
}

fn line(change: &Change, width: usize) -> String {
    let word = match change.action {
        Action::Start => "start",
        Action::Stop => "stop",
        Action::Restart => "restart",
        Action::Replace => "replace",
        Action::Adjust => "adjust",
        Action::Keep => "keep",
    };
    let mut line = format!("{word:<8} {:<width$}", change.name.as_str());
    if !change.keys.is_empty() {
        line += &format!("  because of {}", change.keys.join(", "));
    }
    match change.action {
        Action::Adjust => line += " (it keeps running)",
        Action::Replace => line += " (it runs until the new one works)",
        _ => {}
    }
    line.trim_end().to_owned()
}
