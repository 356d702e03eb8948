//! How far pulls and imports have come: on the console, a line when one begins, now and then, and when it ends; and all of them in
//! `/run/holdfast/images.json`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use plan::paths;
use serde::Serialize;

use crate::{console, file};

/// How often the console hears of a pull that takes long.
const INTERVAL: Duration = Duration::from_secs(10);

/// What became of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct State {
    state: &'static str,
    /// Bytes of its blobs that were received, and all there are to receive.
    received: u64,
    size: u64,
    /// Digest of its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// Why it could not be pulled the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

static STATES: Mutex<BTreeMap<String, State>> = Mutex::new(BTreeMap::new());

/// One image that is being pulled.
#[derive(Debug)]
pub(super) struct Task {
    image: String,
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    received: u64,
    size: u64,
    said: Instant,
}

impl Task {
    /// Nothing is known but the name.
    pub(super) fn begin(image: &str) -> Self {
        set(image, |state| {
            *state = State { state: "asking", reason: state.reason.take(), ..State::default() }
        });
        let counted = Counted { received: 0, size: 0, said: Instant::now() };
        Self { image: image.to_owned(), counted: Mutex::new(counted) }
    }

    /// So many layers of so many bytes together are to come from `base`.
    pub(super) fn expect(&self, layers: usize, size: u64, base: &str) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        (counted.received, counted.size) = (0, size);
        set(&self.image, |state| (state.state, state.received, state.size) = ("pulling", 0, size));
        let layers = if layers == 1 { "1 layer".to_owned() } else { format!("{layers} layers") };
        console::notice(format_args!("image {}: pulling {layers}, {}, from {base}", self.image, shown(size)));
    }

    /// What comes from `from` has so many bytes, as far as that is known.
    pub(super) fn expect_import(&self, from: &str, size: Option<u64>) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        (counted.received, counted.size) = (0, size.unwrap_or_default());
        set(&self.image, |state| {
            (state.state, state.received, state.size) = ("importing", 0, counted.size);
        });
        let size = size.map(|size| format!(", {}", shown(size))).unwrap_or_default();
        console::notice(format_args!("image {}: importing it from {from}{size}", self.image));
    }

    /// More bytes were received.
    pub(super) fn add(&self, bytes: u64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.received += bytes;
        if counted.said.elapsed() >= INTERVAL {
            counted.said = Instant::now();
            let (received, size) = (counted.received, counted.size);
            set(&self.image, |state| state.received = received);
            let of = if size > 0 { format!(" of {}", shown(size)) } else { String::new() };
            console::notice(format_args!("image {}: {}{of}", self.image, shown(received)));
        }
    }

    /// It is on the node: `pulled` or `imported`.
    pub(super) fn done(&self, how: &'static str, digest: &str) {
        let received = self.counted.lock().unwrap_or_else(PoisonError::into_inner).received;
        set(&self.image, |state| {
            *state =
                State { state: how, received, size: received, digest: Some(digest.to_owned()), reason: None };
        });
        console::notice(format_args!("image {}: {how}, {digest}", self.image));
    }
}

/// An image could not be pulled; the same reason is said once.
pub(super) fn failed(image: &str, reason: &str) {
    let mut is_new = false;
    set(image, |state| {
        is_new = state.reason.as_deref() != Some(reason);
        (state.state, state.reason) = ("failed", Some(reason.to_owned()));
    });
    if is_new {
        console::error(format_args!("image {image}: {reason}; it is tried again until it works"));
    }
}

/// Nobody asks for these images any more.
pub(super) fn forget(gone: impl Fn(&str) -> bool) {
    let mut states = STATES.lock().unwrap_or_else(PoisonError::into_inner);
    states.retain(|image, _| !gone(image));
    publish(&states);
}

fn set(image: &str, change: impl FnOnce(&mut State)) {
    let mut states = STATES.lock().unwrap_or_else(PoisonError::into_inner);
    change(states.entry(image.to_owned()).or_default());
    publish(&states);
}

fn publish(states: &BTreeMap<String, State>) {
    // Tests have no such directory, and a node always has.
    if !Path::new(paths::RUN).is_dir() {
        return;
    }
    let written = serde_json::to_vec(states).map_err(|error| error.to_string()).and_then(|text| {
        file::replace(Path::new(paths::PULLS), 0o644, &text)
            .map_err(|error| console::chain(&error).to_string())
    });
    if let Err(error) = written {
        console::warning(format_args!("cannot say how far images are: {error}"));
    }
}

fn shown(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} bytes"),
        10_000..=999_999 => format!("{} kB", bytes / 1000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}
