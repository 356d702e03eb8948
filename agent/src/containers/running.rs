//! Which services run at this moment, as PID 1 tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use plan::{ServiceName, paths};
use serde::Deserialize;

/// What is looked at of [`paths::STATUS`].
#[derive(Deserialize)]
struct Status {
    services: BTreeMap<ServiceName, Unit>,
}

#[derive(Deserialize)]
struct Unit {
    state: String,
}

/// The services whose container runs and is not known to be unhealthy. None while nobody tells.
pub(crate) fn running() -> BTreeSet<ServiceName> {
    fs::read(paths::STATUS).map(|text| understand(&text)).unwrap_or_default()
}

fn understand(text: &[u8]) -> BTreeSet<ServiceName> {
    let Ok(status) = serde_json::from_slice::<Status>(text) else { return BTreeSet::new() };
    let runs = |unit: &Unit| matches!(unit.state.as_str(), "running" | "healthy");
    status.services.into_iter().filter(|(_, unit)| runs(unit)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_what_pid_1_calls_running_or_healthy() {
        let unit = |state: &str| format!(r#"{{"state": "{state}", "pid": 1, "restarts": 0}}"#);
        let text = format!(
            r#"{{"generation": 1, "services": {{"a": {}, "b": {}, "c": {}, "d": {}}}}}"#,
            unit("running"),
            unit("healthy"),
            unit("unhealthy"),
            unit("backing-off")
        );
        let names: Vec<String> = understand(text.as_bytes()).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(understand(b"{").is_empty());
    }
}
