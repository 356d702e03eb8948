//! Values that several keys have, read and put into normal form.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use userdata::{At, Node};

/// A tree as JSON, as it is.
pub(super) fn json(node: &Node) -> Json {
    serde_json::to_value(node).unwrap_or(Json::Null)
}

/// A map of names to texts, or a list of `NAME=value`. `None` as a value: only the name is given.
pub(super) fn pairs<'a>(at: &At<'a>) -> Vec<(At<'a>, String, Option<String>)> {
    let mut pairs = Vec::new();
    if at.is_list() {
        for item in at.list().into_iter().flatten() {
            let Some(text) = item.text() else { continue };
            let (name, value) =
                text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            let (name, value) = (name.to_owned(), value.map(str::to_owned));
            pairs.push((item, name, value));
        }
    } else {
        for (name, _, value) in at.map().into_iter().flatten() {
            let text =
                if value.is_null() { Some(None) } else { value.text().map(|text| Some(text.to_owned())) };
            pairs.extend(text.map(|text| (value, name.to_owned(), text)));
        }
    }
    pairs
}

/// The same as a map in normal form.
pub(super) fn pairs_json(at: &At<'_>) -> Json {
    let text = |text: Option<String>| text.map_or(Json::String(String::new()), Json::String);
    pairs(at).into_iter().map(|(_, name, value)| (name, text(value))).collect::<Map<_, _>>().into()
}

/// Variables of an environment. A name alone takes its value from `holdfast.env`.
pub(super) fn environment(at: &At<'_>, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (at, name, value) in pairs(at) {
        if name.is_empty() || name.contains(['=', ' ', '\t', '\n', '\0']) {
            at.error("has no valid variable name");
        } else if let Some(value) = value.or_else(|| env.get(&name).cloned()) {
            variables.insert(name, value);
        } else {
            let message = format!("the variable '{name}' has no value");
            at.error_with_hint(message, "give one; it may be empty: ''");
        }
    }
    variables
}

/// Bytes as compose and cloud-init write them: `64m`, `1.5G`, `512mb`, `1024`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let mut bytes = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if !fraction.is_empty() {
        let parts = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor);
        bytes = bytes
            .checked_add(u64::try_from(parts / 10_u128.pow(u32::try_from(fraction.len()).ok()?)).ok()?)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_units_and_fractions() {
        for (text, bytes) in [
            ("1024", Some(1024)),
            ("64m", Some(64 << 20)),
            ("1.5G", Some(3 << 29)),
            ("2 GiB", Some(2 << 30)),
            ("0.5kb", Some(512)),
            ("", None),
            ("m", None),
            (".5g", None),
            ("1.2.3", None),
            ("1x", None),
            ("99999999999999999999", None),
            ("18446744073709551615t", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
