//! YAML as a tree whose every node knows its place, and whose scalars keep the text they were written as.
//!
//! A tree and not typed structs: one pass over it finds all problems instead of the first, and merging of several
//! parts works on trees.

use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::problem::Mark;

/// A value and where it is used (an alias: where the alias stands).
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub mark: Mark,
}

/// What a node holds. Lists and maps are shared, so that an alias costs nothing.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: `~`, `null`, or no text at all.
    Null,
    /// One value.
    Scalar(Scalar),
    /// A list.
    List(Arc<Vec<Node>>),
    /// A map in the order of the file; no key occurs twice.
    Map(Arc<Vec<(Key, Node)>>),
}

/// A mapping's key.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key.
    pub text: Arc<str>,
    /// Where it stands.
    pub mark: Mark,
}

/// One value as it is written (`0644`, `yes`) and how it reads by itself. What is wanted decides in the end: the
/// consumer reads a mode, a truth value or a text from `text`.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// The text, without quotes and escapes.
    pub text: Arc<str>,
    /// What it is by YAML 1.2's core schema.
    pub kind: Kind,
}

/// What a scalar is by YAML 1.2's core schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`. `yes` and `on` are text: only YAML 1.1 reads them as truth values.
    Bool,
    /// A whole number. One with leading zeros is text: YAML 1.1 reads it as octal, 1.2 as decimal.
    Int,
    /// A number with a fraction or an exponent.
    Float,
    /// Text.
    Text,
    /// Bytes in base64, tagged `!!binary`.
    Binary,
}

impl Node {
    /// A map without entries at `mark`.
    pub fn empty_map(mark: Mark) -> Self {
        Self { value: Value::Map(Arc::default()), mark }
    }

    /// The entry `key` of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(name, _)| &*name.text == key).map(|(_, node)| node)
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

impl Scalar {
    /// What a plain scalar (without quotes) reads as.
    pub(crate) fn kind_of(text: &str) -> Kind {
        match text {
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Kind::Bool,
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan"
            | ".NaN" | ".NAN" => return Kind::Float,
            _ => {}
        }
        let hex = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let octal = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if text.strip_prefix("0x").is_some_and(hex) || text.strip_prefix("0o").is_some_and(octal) {
            return Kind::Int;
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Kind::Text;
        }
        let whole = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        if whole > 1 && digits.starts_with('0') {
            Kind::Text
        } else if whole == digits.len() {
            Kind::Int
        } else if is_float(digits) {
            Kind::Float
        } else {
            Kind::Text
        }
    }

    /// Whether it is null by the core schema, when it has no quotes.
    pub(crate) fn is_null(text: &str) -> bool {
        matches!(text, "" | "~" | "null" | "Null" | "NULL")
    }

    /// A whole number, also hexadecimal and `0o` octal.
    pub fn int(&self) -> Option<i128> {
        if self.kind != Kind::Int {
            return None;
        }
        let text = &*self.text;
        text.strip_prefix("0x").map_or_else(
            || text.strip_prefix("0o").map_or_else(|| text.parse().ok(), |o| i128::from_str_radix(o, 8).ok()),
            |hex| i128::from_str_radix(hex, 16).ok(),
        )
    }
}

/// `[0-9]*(\.[0-9]*)?([eE][-+]?[0-9]+)?` with a digit before the exponent.
fn is_float(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && all_digits(exponent)
    });
    all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_fits
}

/// As JSON or the like: what reads as a number or truth value becomes one, the rest is text.
impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Scalar(scalar) => scalar.serialize(serializer),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items.iter() {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries.iter() {
                    map.serialize_entry(&*key.text, value)?;
                }
                map.end()
            }
        }
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = match self.kind {
            Kind::Bool => return serializer.serialize_bool(self.text.eq_ignore_ascii_case("true")),
            Kind::Int => self.int(),
            Kind::Float => {
                let float = self.text.parse::<f64>().ok().filter(|float| float.is_finite());
                return match float {
                    Some(float) => serializer.serialize_f64(float),
                    None => serializer.serialize_str(&self.text),
                };
            }
            Kind::Text | Kind::Binary => None,
        };
        match number.map(|n| (i64::try_from(n), u64::try_from(n))) {
            Some((Ok(int), _)) => serializer.serialize_i64(int),
            Some((_, Ok(int))) => serializer.serialize_u64(int),
            _ => serializer.serialize_str(&self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_read_by_the_core_schema() {
        for (text, kind) in [
            ("true", Kind::Bool),
            ("yes", Kind::Text),
            ("0", Kind::Int),
            ("-12", Kind::Int),
            ("+30", Kind::Int),
            ("0x1f", Kind::Int),
            ("0o17", Kind::Int),
            ("0644", Kind::Text),
            ("0o", Kind::Text),
            ("1.5", Kind::Float),
            (".5", Kind::Float),
            ("1.", Kind::Float),
            ("1e3", Kind::Float),
            ("1e", Kind::Text),
            (".", Kind::Text),
            (".nan", Kind::Float),
            ("1.2.3", Kind::Text),
            ("22:22", Kind::Text),
            ("-", Kind::Text),
            ("12ab", Kind::Text),
        ] {
            assert_eq!(Scalar::kind_of(text), kind, "{text}");
        }
    }

    #[test]
    fn numbers_become_numbers_and_what_is_too_large_stays_text() {
        for (text, json) in [
            ("18446744073709551615", "18446744073709551615"),
            ("99999999999999999999", "\"99999999999999999999\""),
            ("0x10", "16"),
            ("0o10", "8"),
            ("1.5", "1.5"),
            (".inf", "\".inf\""),
            ("TRUE", "true"),
        ] {
            let scalar = Scalar { text: text.into(), kind: Scalar::kind_of(text) };
            assert_eq!(serde_json::to_string(&scalar).unwrap_or_default(), json);
        }
    }
}
