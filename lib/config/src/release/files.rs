//! Secrets and configs: what the sections define, as files of a container.

use serde_json::Value as Json;
use userdata::At;

use super::Release;
use crate::Config;
use crate::compose::{self, Reference};
use crate::container::{GivenContent, GivenFile};

impl Release {
    /// The files of one service; none when one of them cannot be had.
    pub(super) fn files(
        &self,
        at: &At<'_>,
        service: &compose::Service,
        config: &Config,
    ) -> Option<Vec<GivenFile>> {
        let file = |reference: &Reference| {
            let project = &config.project;
            let section = if reference.section == "secrets" { &project.secrets } else { &project.configs };
            let definition = section.get(&reference.source)?;
            let text = |key: &str| definition.get(key).and_then(plain);
            let content = match (text("content"), text("environment"), text("file")) {
                (Some(content), ..) => GivenContent::Text(content),
                (_, Some(variable), _) => match config.machine.holdfast.env.get(&variable) {
                    Some(value) => GivenContent::Text(value.clone()),
                    None => {
                        self.not_there(at, reference, &format!("the variable '{variable}' has no value"));
                        return None;
                    }
                },
                // A file that this configuration writes is known now, and another content restarts the service.
                (.., Some(path)) => match self.texts.get(&path) {
                    Some(text) => GivenContent::Text(text.clone()),
                    None => GivenContent::File(path),
                },
                _ => {
                    self.not_there(at, reference, "it has no 'content', 'environment' or 'file'");
                    return None;
                }
            };
            let directory = if reference.section == "secrets" { "/run/secrets/" } else { "/" };
            let target = reference.target.as_ref().unwrap_or(&reference.source);
            let target =
                if target.starts_with('/') { target.clone() } else { format!("{directory}{target}") };
            Some(GivenFile { target, content, mode: reference.mode, owner: reference.owner })
        };
        // All of them, so that each is said that is not there.
        let files: Vec<Option<GivenFile>> = service.files.iter().map(file).collect();
        files.into_iter().collect()
    }

    fn not_there(&self, at: &At<'_>, reference: &Reference, why: &str) {
        let at = at.get(reference.section).unwrap_or_else(|| at.clone());
        self.refuse(&at, reference.mark, &format!("'{}' cannot be had: {why}", reference.source), "");
    }
}

/// A scalar as text.
fn plain(json: &Json) -> Option<String> {
    match json {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}
