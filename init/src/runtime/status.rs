//! `paths::STATUS`: what PID 1 knows of its units, for everybody else. Replaced whole, so that a reader always sees
//! one state of affairs; it lies in memory, so writing it cannot block.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use plan::paths;
use serde::Serialize;

use crate::supervise::{Id, Supervisor};

/// The least time between two versions: a service in a crash loop must not keep PID 1 busy with writing.
const INTERVAL: Duration = Duration::from_millis(100);

/// When to publish again.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    dirty: bool,
    last: Option<Duration>,
}

impl Publisher {
    /// Something may have changed.
    pub(super) fn changed(&mut self) {
        self.dirty = true;
    }

    /// When the next version is due.
    pub(super) fn due(&self) -> Option<Duration> {
        self.dirty.then(|| self.last.map_or(Duration::ZERO, |last| last + INTERVAL))
    }

    /// The next version has been written.
    pub(super) fn published(&mut self, now: Duration) {
        *self = Self { dirty: false, last: Some(now) };
    }
}

#[derive(Serialize)]
struct Status<'a> {
    generation: Option<u64>,
    gate: &'a str,
    agent: Option<Unit<'a>>,
    services: BTreeMap<&'a str, Unit<'a>>,
}

#[derive(Serialize)]
struct Unit<'a> {
    state: &'a str,
    pid: Option<i32>,
    restarts: u32,
    exit: Option<i32>,
    /// Time since boot at which it came into this state.
    since_ms: u64,
    status: &'a str,
}

/// Writes what is true now. `gate` is the gate's state; `pid` tells the process of a unit.
pub(super) fn write(supervisor: &Supervisor, gate: &str, pid: impl Fn(&Id) -> Option<i32>) -> io::Result<()> {
    let new = Path::new(paths::STATUS).with_extension("new");
    fs::write(&new, render(supervisor, gate, pid)?)?;
    fs::rename(new, paths::STATUS)
}

fn render(
    supervisor: &Supervisor,
    gate: &str,
    pid: impl Fn(&Id) -> Option<i32>,
) -> serde_json::Result<Vec<u8>> {
    let mut status =
        Status { generation: supervisor.generation(), gate, agent: None, services: BTreeMap::new() };
    for (id, view) in supervisor.view() {
        let unit = Unit {
            state: view.state,
            pid: pid(id),
            restarts: view.restarts,
            exit: view.exit,
            since_ms: u64::try_from(view.since.as_millis()).unwrap_or(u64::MAX),
            status: view.status,
        };
        match id {
            Id::Agent => status.agent = Some(unit),
            Id::Service(name) => {
                status.services.insert(name.as_str(), unit);
            }
        }
    }
    serde_json::to_vec(&status)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::supervise::Event;

    #[test]
    fn the_status_has_its_documented_form() {
        let mut supervisor = Supervisor::new(Duration::ZERO);
        supervisor.step(Event::Agent, Duration::from_millis(1500));
        let plan = json!({
            "generation": 7, "os_version": "1", "hostname": "node",
            "gate": {"settle_ms": 1, "deadline_ms": 2},
            "services": {"web": {
                "bundle": "/b", "digest": "1", "restart": "always", "depends_on": {}, "needs": {"network": true},
                "stop_timeout_ms": 1, "required": true,
            }},
        });
        supervisor.step(Event::Plan(serde_json::from_value(plan).unwrap()), Duration::from_secs(2));
        let pid = |id: &Id| (*id == Id::Agent).then_some(42);
        let status: Value = serde_json::from_slice(&render(&supervisor, "pending", pid).unwrap()).unwrap();
        let unit = |state, pid: Option<i32>, since, status| json!({"state": state, "pid": pid, "restarts": 0, "exit": null, "since_ms": since, "status": status});
        let expected = json!({
            "generation": 7,
            "gate": "pending",
            "agent": unit("starting", Some(42), 1500, ""),
            "services": {"web": unit("waiting", None, 2000, "waits for the network")},
        });
        assert_eq!(status, expected);
    }

    #[test]
    fn a_crash_loop_does_not_keep_the_publisher_busy() {
        let mut publisher = Publisher::default();
        assert_eq!(publisher.due(), None);
        publisher.changed();
        assert_eq!(publisher.due(), Some(Duration::ZERO));
        publisher.published(Duration::from_secs(1));
        assert_eq!(publisher.due(), None);
        publisher.changed();
        assert_eq!(publisher.due(), Some(Duration::from_millis(1100)));
    }
}
