//! What runs in a service: image, command, user, and when it is started again.

use plan::Restart;
use serde_json::json;
use userdata::At;

use super::forms::raw;
use super::service::{CommandLine, Service};
use crate::words;

pub(super) fn image(at: &At<'_>, service: &mut Service) {
    let Some(image) = at.located_text() else { return };
    let reference = image.value.as_str();
    let word = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    let repository = reference.rsplit_once('/').map_or(reference, |(_, last)| last);
    let name = repository.split([':', '@']).next().unwrap_or_default();
    if name.is_empty() || !reference.chars().all(word) || name.contains(|c: char| c.is_ascii_uppercase()) {
        at.error_with_hint("not an image reference", "as in nginx, nginx:1.27 or ghcr.io/owner/name:tag");
    } else {
        service.put(at, json!(reference));
        service.image = Some(image);
    }
}

pub(super) fn command_line(at: &At<'_>, service: &mut Service) -> Option<CommandLine> {
    raw(at, service);
    if at.is_list() {
        return at.texts().map(CommandLine);
    }
    match words::split(at.text()?) {
        Ok(words) => Some(CommandLine(words)),
        Err(words::Unfinished(why)) => {
            at.error(why);
            None
        }
    }
}

pub(super) fn user(at: &At<'_>, service: &mut Service) {
    let Some(user) = at.located_text() else { return };
    let word = |c: char| c.is_ascii_alphanumeric() || "._-$".contains(c);
    let number = |part: &str| !part.starts_with(|c: char| c.is_ascii_digit()) || part.parse::<u32>().is_ok();
    let valid = |part: &str| !part.is_empty() && part.chars().all(word) && number(part);
    if user.value.split(':').count() <= 2 && user.value.split(':').all(valid) {
        service.put(at, json!(user.value));
        service.user = Some(user);
    } else {
        at.error_with_hint("not a user", "USER or USER:GROUP, each a name or a number");
    }
}

pub(super) fn restart(at: &At<'_>) -> Option<Restart> {
    let text = at.text()?;
    if let Some(max) = text.strip_prefix("on-failure:") {
        let max = max.parse().ok().filter(|max| *max > 0);
        if max.is_none() {
            at.error_with_hint("the number behind 'on-failure:' is not one", "as in on-failure:3");
        }
        return max.map(|max| Restart::OnFailure { max: Some(max) });
    }
    at.word(&[
        ("no", Restart::No),
        ("always", Restart::Always),
        ("unless-stopped", Restart::UnlessStopped),
        ("on-failure", Restart::OnFailure { max: None }),
    ])
}
