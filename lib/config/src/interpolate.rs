//! Variables in the compose sections: `$NAME`, `${NAME}` with compose's defaults and errors, `$$` for a plain `$`.
//! They come from `holdfast.env` and from nowhere else: a node has no environment of its own to leak in.

use std::collections::BTreeMap;
use std::sync::Arc;

use userdata::{At, Kind, Node, Scalar, Value};

/// How many bytes all values may have together after their variables are put in.
const MAX_TEXT: usize = 16 << 20;
/// How deep defaults may hold variables themselves.
const MAX_NESTING: usize = 8;

/// `at` with its variables put in; an error for each that has no value.
pub(crate) fn interpolate(at: &At<'_>, variables: &BTreeMap<String, String>) -> Node {
    Interpolation { variables, left: MAX_TEXT }.node(at)
}

struct Interpolation<'a> {
    variables: &'a BTreeMap<String, String>,
    left: usize,
}

/// Why a text cannot be finished.
struct Wrong(String, &'static str);

impl Interpolation<'_> {
    /// Trees are at most [`userdata::MAX_DEPTH`] deep.
    fn node(&mut self, at: &At<'_>) -> Node {
        let value = match &at.node.value {
            Value::Scalar(scalar) if scalar.text.contains('$') => self.scalar(at, scalar),
            Value::List(_) => {
                Value::List(Arc::new(at.list().into_iter().flatten().map(|item| self.node(&item)).collect()))
            }
            Value::Map(entries) => {
                let values = at.map().into_iter().flatten().map(|(_, _, value)| self.node(&value));
                Value::Map(Arc::new(entries.iter().map(|(key, _)| key.clone()).zip(values).collect()))
            }
            other => other.clone(),
        };
        Node { value, mark: at.node.mark }
    }

    fn scalar(&mut self, at: &At<'_>, scalar: &Scalar) -> Value {
        if self.left == 0 {
            // Said once, and the file is refused: what follows would only cost time.
            return Value::Scalar(Scalar { text: Arc::from(""), kind: Kind::Text });
        }
        let text = match self.text(&scalar.text, 0) {
            Ok(text) if text.len() > self.left => {
                at.error(format!("the variables make more than {} MiB of text", MAX_TEXT >> 20));
                self.left = 0;
                String::new()
            }
            Ok(text) => {
                self.left -= text.len();
                text
            }
            Err(Wrong(message, hint)) => {
                at.error_with_hint(message, hint);
                String::new()
            }
        };
        Value::Scalar(Scalar { text: text.into(), kind: Kind::Text })
    }

    fn text(&self, text: &str, nesting: usize) -> Result<String, Wrong> {
        if nesting > MAX_NESTING {
            return Err(Wrong("variables nest too deep".to_owned(), ""));
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                after
            } else if let Some(inner) = after.strip_prefix('{') {
                let end = closing(inner).ok_or(Wrong("a '${' is not closed".to_owned(), PLAIN))?;
                out.push_str(&self.expression(&inner[..end], nesting)?);
                &inner[end + 1..]
            } else {
                let (name, after) = split_name(after);
                if name.is_empty() {
                    return Err(Wrong("a '$' stands before no name".to_owned(), PLAIN));
                }
                out.push_str(self.value(name)?);
                after
            };
            if out.len() > self.left {
                return Ok(out);
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What stands between `${` and `}`.
    fn expression(&self, inner: &str, nesting: usize) -> Result<String, Wrong> {
        let (name, operation) = split_name(inner);
        let value = self.variables.get(name);
        let (empty_counts, operation) = match operation.strip_prefix(':') {
            Some(operation) => (true, operation),
            None => (false, operation),
        };
        let set = value.filter(|value| !(empty_counts && value.is_empty()));
        match (operation.chars().next(), operation.get(1..).unwrap_or_default()) {
            _ if name.is_empty() => Err(Wrong(format!("'${{{inner}}}' names no variable"), PLAIN)),
            (None, _) if !empty_counts => self.value(name).map(str::to_owned),
            (Some('-'), default) => {
                set.map_or_else(|| self.text(default, nesting + 1), |value| Ok(value.clone()))
            }
            (Some('+'), other) => set.map_or_else(|| Ok(String::new()), |_| self.text(other, nesting + 1)),
            (Some('?'), why) => {
                let why = if why.is_empty() { "it has no value" } else { why };
                set.cloned()
                    .ok_or_else(|| Wrong(format!("the variable '{name}' is required: {why}"), DECLARE))
            }
            _ => Err(Wrong(format!("'${{{inner}}}' is not a form of a variable"), FORMS)),
        }
    }

    fn value(&self, name: &str) -> Result<&str, Wrong> {
        let value = self.variables.get(name).map(String::as_str);
        value.ok_or_else(|| Wrong(format!("the variable '{name}' is not set"), DECLARE))
    }
}

const PLAIN: &str = "write $$ for a plain $";
const DECLARE: &str = "declare it under 'holdfast.env', or give a default: ${NAME:-default}";
const FORMS: &str = "${NAME}, ${NAME:-default}, ${NAME-default}, ${NAME:?error} and ${NAME:+value} are";

/// The name at the start, and what follows.
fn split_name(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { ("", text) } else { text.split_at(end) }
}

/// Where the `}` is that belongs to a `${` before the text.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let mut before = '\0';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_take_composes_forms() {
        let pairs = [("A", "a"), ("E", ""), ("A_1", "x")];
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let interpolation = Interpolation { variables: &variables, left: MAX_TEXT };
        for (text, expected) in [
            ("$A-$A_1", Some("a-x")),
            ("${A}b$$A", Some("ab$A")),
            ("${N:-d}${E:-d}${E-d}", Some("dd")),
            ("${N:-${A}/${N:-x}}", Some("a/x")),
            ("${A:+y}${N:+y}${E:+y}${E+z}", Some("yz")),
            ("${N-}", Some("")),
            ("${N:-}", Some("")),
            ("${N+y}${A+y}", Some("y")),
            ("${E?no}", Some("")),
            ("${E:-${N:-${A}}}", Some("a")),
            ("${A:+${A_1}}", Some("x")),
            ("$${A}${N:-$$}", Some("${A}$")),
            ("${N:?}", None),
            ("${A:?no}", Some("a")),
            ("${E:?no}", None),
            ("${N?no}", None),
            ("$N", None),
            ("${N}", None),
            ("${A", None),
            ("$", None),
            ("${1}", None),
            ("${A:}", None),
            ("${A%x}", None),
        ] {
            assert_eq!(interpolation.text(text, 0).ok().as_deref(), expected, "{text}");
        }
    }
}
