//! The JSON schema of user-data, for editors. It accepts everything that a node accepts; what depends on more than one
//! value (a port that is taken twice, a service that is not there) only `holdfast check` sees.

use serde_json::{Map, Value as Json, json};
use userdata::{Fate, Known};

use crate::shape::{Fields, Shape, Single, shape};

/// Keys that say how parts merge. They are gone when the merged tree is read.
const MERGE_RULES: [&str; 2] = ["merge_how", "merge_type"];

/// The schema by JSON Schema draft 7, which is what editors know.
pub fn schema() -> Json {
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Holdfast user-data",
        "description": "A #cloud-config file for a Holdfast node: cloud-init's keys for the machine, compose's sections for \
                        the services, and the section 'holdfast'.",
        "definitions": {
            "text": { "type": ["string", "number", "boolean"] },
            "truth": {
                "anyOf": [
                    { "type": "boolean" },
                    { "type": "string", "pattern": any_case(&["true", "yes", "on", "y", "false", "no", "off", "n"]) },
                ],
            },
            "digits": { "type": "string", "pattern": "^([-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+)$" },
            "duration": { "type": "string", "pattern": "^([0-9]+(us|ms|s|m|h))+$" },
        },
    });
    let mut root = of(&shape());
    if let Some(properties) = root.pointer_mut("/properties").and_then(Json::as_object_mut) {
        for name in MERGE_RULES {
            let doc = "How this part is merged with those before it, by cloud-init's rules.";
            properties.insert(name.to_owned(), json!({ "description": doc }));
        }
    }
    if let (Some(schema), Json::Object(root)) = (schema.as_object_mut(), root) {
        schema.extend(root);
    }
    schema
}

fn of(shape: &Shape) -> Json {
    let Shape::Of { scalar, list, map } = shape else { return json!({}) };
    let mut kinds: Vec<Json> = scalar.iter().flat_map(single).collect();
    kinds.extend(list.iter().map(|items| json!({ "type": "array", "items": or_nothing(of(items)) })));
    kinds.extend(map.iter().map(fields));
    match <[Json; 1]>::try_from(kinds) {
        Ok([kind]) => kind,
        Err(kinds) => json!({ "anyOf": kinds }),
    }
}

/// A key without a value is one that is not given.
fn or_nothing(mut schema: Json) -> Json {
    match schema.as_object_mut() {
        Some(map) if !map.is_empty() => match map.get_mut("anyOf").and_then(Json::as_array_mut) {
            Some(kinds) => {
                kinds.push(json!({ "type": "null" }));
                schema
            }
            None => json!({ "anyOf": [schema, { "type": "null" }] }),
        },
        _ => schema,
    }
}

/// Single values: quotes around numbers and truth values do not matter to a node.
fn single(single: &Single) -> Vec<Json> {
    let mut kinds = Vec::new();
    if !single.words.is_empty() {
        kinds.push(json!({ "enum": single.words }));
    }
    let defined = |name: &str| json!({ "$ref": format!("#/definitions/{name}") });
    if single.truth {
        kinds.push(defined("truth"));
    }
    if let Some(range) = &single.int {
        kinds.push(json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() }));
        kinds.push(defined("digits"));
    }
    if single.duration {
        kinds.push(defined("duration"));
    }
    if single.text {
        kinds.push(defined("text"));
    }
    kinds
}

fn any_case(words: &[&str]) -> String {
    let letter = |c: char| format!("[{}{c}]", c.to_ascii_uppercase());
    let words: Vec<String> = words.iter().map(|word| word.chars().map(letter).collect()).collect();
    format!("^({})$", words.join("|"))
}

fn fields(fields: &Fields) -> Json {
    match fields {
        Fields::Named(value) => json!({
            "type": "object",
            "patternProperties": { "^x-": {} },
            "additionalProperties": or_nothing(of(value)),
        }),
        Fields::Known(keys) => {
            let properties: Map<String, Json> = keys
                .iter()
                .filter(|(known, _)| known.fate != Fate::Refused)
                .map(|(known, shape)| (known.name.clone(), described(known, or_nothing(of(shape)))))
                .collect();
            json!({
                "type": "object",
                "properties": properties,
                "patternProperties": { "^x-": {} },
                "additionalProperties": false,
            })
        }
    }
}

fn described(known: &Known, mut schema: Json) -> Json {
    let text = match known.fate {
        Fate::Read | Fate::Quiet | Fate::Refused => known.doc.to_owned(),
        Fate::NotApplicable => format!("Not applicable on a node, and reported. {}", known.doc),
        Fate::Unsupported => format!("Not supported by this version, and reported. {}", known.doc),
    };
    if let Some(map) = schema.as_object_mut().filter(|_| !text.is_empty()) {
        map.insert("description".to_owned(), json!(text.trim_end()));
    }
    schema
}
