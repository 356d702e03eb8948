//! `/run/holdfast/clock.json`: what the clock is led by.

use std::path::Path;
use std::time::Instant;

use plan::paths;
use serde::Serialize;

use super::select::Agreement;
use super::servers::Server;
use crate::{console, file};

/// Whether the clock can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// The configuration wants nobody to be asked.
    Off,
    /// It has not been compared with a server.
    #[default]
    Unknown,
    /// It is led by servers.
    Synchronised,
    /// It was, and nobody who is believed has answered lately.
    Holdover,
}

/// The file.
#[derive(Debug, Default, Serialize)]
pub(super) struct Status {
    pub(super) state: State,
    /// The best of the servers that are believed.
    server: Option<String>,
    /// Its distance from a reference clock.
    stratum: Option<u8>,
    /// How much our clock was behind at the last comparison.
    offset_seconds: Option<f64>,
    /// How much that may be wrong.
    error_seconds: Option<f64>,
    /// By how much the oscillator is corrected.
    pub(super) frequency_ppm: Option<f64>,
    /// How long until the next question.
    pub(super) poll_seconds: Option<u64>,
    /// Why the last comparison came to nothing.
    pub(super) problem: Option<String>,
    servers: Vec<ServerStatus>,
}

/// One server.
#[derive(Debug, Serialize)]
struct ServerStatus {
    name: String,
    address: String,
    /// Whether most of the others agree with it; none when it has given no time.
    believed: Option<bool>,
    stratum: Option<u8>,
    offset_seconds: Option<f64>,
    delay_seconds: Option<f64>,
    /// The last eight questions, one bit each, the last one lowest: 1 for an answer.
    reached: u8,
    failure: Option<String>,
}

impl Status {
    /// Nobody is asked.
    pub(super) fn off() -> Self {
        Self { state: State::Off, ..Self::default() }
    }

    /// The servers, when those in `candidates` (their numbers and offsets) have been compared.
    pub(super) fn of(
        servers: &[Server],
        candidates: &[usize],
        agreement: Option<&Agreement>,
        now: Instant,
    ) -> Self {
        let believed: Vec<usize> = agreement
            .iter()
            .flat_map(|agreement| &agreement.believed)
            .filter_map(|number| candidates.get(*number).copied())
            .collect();
        let best = believed.first().and_then(|number| servers.get(*number));
        let describe = |(number, server): (usize, &Server)| {
            let sample = server.filter.best(now, None);
            ServerStatus {
                name: server.name.clone(),
                address: server.address.ip().to_string(),
                believed: (agreement.is_some() && candidates.contains(&number))
                    .then(|| believed.contains(&number)),
                stratum: server.time.map(|time| time.stratum),
                offset_seconds: sample.map(|sample| seconds(sample.offset)),
                delay_seconds: sample.map(|sample| sample.delay.as_secs_f64()),
                reached: server.filter.reached(),
                failure: server.failure.clone(),
            }
        };
        Self {
            server: best.map(|server| server.name.clone()),
            stratum: best.and_then(|server| server.time).map(|time| time.stratum),
            offset_seconds: agreement.map(|agreement| seconds(agreement.offset)),
            error_seconds: agreement.map(|agreement| agreement.error.as_secs_f64()),
            servers: servers.iter().enumerate().map(describe).collect(),
            ..Self::default()
        }
    }

    /// Writes the file.
    pub(super) fn publish(&self) {
        let path = Path::new(paths::RUN).join("clock.json");
        if let Err(error) = file::replace(&path, 0o644, &serde_json::to_vec(self).unwrap_or_default()) {
            console::warning(console::chain(&error));
        }
    }
}

/// Nanoseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(super) fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e9
}
