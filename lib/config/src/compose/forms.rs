//! Keys of which only the form is judged: text, truth values, lists.

use serde_json::json;
use userdata::At;

use super::service::Service;
use super::values::{json as as_is, pairs_json};

pub(super) fn raw(at: &At<'_>, service: &mut Service) {
    service.put(at, as_is(at.node));
}

pub(super) fn text(at: &At<'_>, service: &mut Service) {
    if let Some(text) = at.text() {
        service.put(at, json!(text));
    }
}

pub(super) fn truth(at: &At<'_>, service: &mut Service) {
    if let Some(truth) = at.truth() {
        service.put(at, json!(truth));
    }
}

pub(super) fn texts(at: &At<'_>, service: &mut Service) {
    let texts: Vec<String> =
        at.list_or_one().iter().filter_map(|item| item.text().map(str::to_owned)).collect();
    service.put(at, json!(texts));
}

pub(super) fn pairs_of_texts(at: &At<'_>, service: &mut Service) {
    service.put(at, pairs_json(at));
}
