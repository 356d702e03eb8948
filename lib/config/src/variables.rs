//! `$` in the compose sections: `$$` is a plain `$`; anything else would name a variable, and there are none.

use crate::problem::{Report, Severity};
use crate::tree::{Node, Value};

/// `node` with every `$$` taken for `$`; an error for every other `$`.
pub(crate) fn substitute(node: &Node, path: &str, report: &Report) -> Node {
    let value = match &node.value {
        Value::Null => Value::Null,
        Value::Scalar(text) => {
            let plain = text.replace("$$", "");
            if plain.contains('$') {
                let message = "variables are not supported by this version".to_owned();
                let hint = Some("write $$ for a plain $".to_owned());
                report.add(Severity::Error, Some(node.mark), path, message, hint);
            }
            Value::Scalar(text.replace("$$", "$"))
        }
        Value::List(items) => {
            let item = |(index, item)| substitute(item, &format!("{path}[{index}]"), report);
            Value::List(items.iter().enumerate().map(item).collect())
        }
        Value::Map(entries) => {
            let entry = |(key, value): &(_, Node)| {
                let key: &crate::tree::Key = key;
                (key.clone(), substitute(value, &format!("{path}.{}", key.text), report))
            };
            Value::Map(entries.iter().map(entry).collect())
        }
    };
    Node { value, mark: node.mark }
}
