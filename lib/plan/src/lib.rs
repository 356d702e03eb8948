//! What PID 1 executes: the plan of one generation, and the small vocabulary it shares with the agent and the shim.
//!
//! The agent compiles a plan from the configuration; PID 1 reads it, the shim reads the bundle it names. All three
//! are JSON files on the state partition, written once and never changed. This crate holds no I/O beyond reading a
//! file, so that PID 1 can link it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub mod container;
mod difference;
mod network;
pub mod paths;

pub use difference::{Change, difference};
pub use network::{BRIDGE_ALIAS, Bridge, ContainerNetwork, Interface, Shared};

/// The name of a service: what compose calls the key below `services`.
///
/// 1 to 63 characters of `a-z A-Z 0-9 . _ -`, the first one a letter or digit, so that it can be a cgroup, a
/// directory and a word on the console.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// Checks `name` against the rule above.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidServiceName> {
        let name = name.into();
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let valid = name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(word);
        if valid { Ok(Self(name)) } else { Err(InvalidServiceName { name }) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidServiceName;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

/// A name that cannot be a service's.
#[derive(Debug, thiserror::Error)]
#[error("'{name}' is not a service name: 1 to 63 of a-z A-Z 0-9 . _ - that begin with a letter or digit")]
pub struct InvalidServiceName {
    /// The name as it was given.
    pub name: String,
}

/// Everything PID 1 is to keep running, as one generation of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The generation's number, counted from 1.
    pub generation: u64,
    /// Version of the operating system that made it.
    pub os_version: String,
    /// The kernel's host name.
    pub hostname: String,
    /// When a boot counts as good.
    pub gate: Gate,
    /// The services by name.
    pub services: BTreeMap<ServiceName, Service>,
}

/// When a boot counts as good (`holdfast.gate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// How long every required service must have run, in milliseconds.
    pub settle_ms: u64,
    /// How long after init's start the gate waits for that, in milliseconds.
    pub deadline_ms: u64,
}

impl Default for Gate {
    /// Ten seconds of steady running within five minutes.
    fn default() -> Self {
        Self { settle_ms: 10_000, deadline_ms: 300_000 }
    }
}

/// One service: one shim process, one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// Changes exactly when the service must be restarted: hex SHA-256 over the bundle's content.
    pub digest: String,
    /// When to start it again.
    pub restart: Restart,
    /// Services that come first.
    pub depends_on: BTreeMap<ServiceName, Condition>,
    /// What the host must offer before it can start.
    pub needs: Needs,
    /// Time between the stop signal and the kill, in milliseconds.
    pub stop_timeout_ms: u64,
    /// Whether the gate asks for it.
    pub required: bool,
    /// Whose place it takes: that one is no longer in the plan, and stopped when this one works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Replaced>,
}

/// A service whose place another one takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// Its name.
    pub service: ServiceName,
    /// Whether the other one counts as working when it has run for a while, or when it is healthy.
    pub when: Condition,
}

/// Compose's `restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never: a one-shot.
    No,
    /// After every exit.
    Always,
    /// After every exit unless somebody stopped it.
    UnlessStopped,
    /// After an exit code other than 0, at most so many times in a row when a number is given.
    OnFailure {
        /// The most restarts in a row; absent: without limit.
        max: Option<u32>,
    },
}

/// Compose's conditions of `depends_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Its container has been started.
    ServiceStarted,
    /// Its health check passes.
    ServiceHealthy,
    /// It has exited with code 0.
    ServiceCompletedSuccessfully,
}

/// What the host must offer before a service can start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// An address on a link. PID 1 waits for the agent's word, but not for ever.
    pub network: bool,
    /// Files and mounts of the host as the configuration wants them. It waits as for the network.
    #[serde(default)]
    pub machine: bool,
}

/// `shim.json` in a bundle: what the shim needs beside the OCI `config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShimConfig {
    /// The service's name.
    pub name: ServiceName,
    /// The image's layers as EROFS files, lowest first.
    pub layers: Vec<PathBuf>,
    /// The fs-verity digests (`sha256:` and 64 hex digits) of those layers that lie on the state partition. None is mounted
    /// that does not have it. Layers in the root have none: dm-verity checks them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sealed: BTreeMap<PathBuf, String>,
    /// Directory of the writable layer (`upper` and `work` are made below it).
    pub writable: PathBuf,
    /// The space that the writable layer may take, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_size: Option<u64>,
    /// Signal that asks the container to stop, by number.
    pub stop_signal: i32,
    /// Where its output goes.
    pub log: Log,
    /// Certificate authorities (PEM) for the container: mounted read-only as `/etc/ssl/certs/ca-certificates.crt` when the
    /// image has the directory `/etc/ssl/certs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<PathBuf>,
    /// Whose rights the program has.
    #[serde(default)]
    pub user: container::User,
    /// Directories of the node that are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<container::Directory>,
    /// Secrets and configs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<container::GivenFile>,
    /// Whose processes or memory it shares, unless that is the node's or nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<container::Joined>,
    /// The ids of the node that are its own, or those of the container that it joins; absent: it has the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<container::IdRange>,
    /// What it mounts of the node, when it has ids of its own, or when later mounts are to reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<container::Bind>,
    /// Devices of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<container::Device>,
    /// How it is seen that the container works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<container::HealthCheck>,
    /// It is heard from its program instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<container::Notify>,
    /// Its program is the child of an init.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
    /// Its program has a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// Its input stays open, for clients of its task service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_open: bool,
    /// Its network, unless that is the node's or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<ContainerNetwork>,
}

/// Compose's `logging.driver`, as far as we have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "driver")]
pub enum Log {
    /// Lines appended to a file, in the CRI's form.
    File {
        /// The file, absolute; older ones are beside it, `.1` and so on behind their name.
        path: PathBuf,
        /// Its most bytes.
        max_size: u64,
        /// How many there are, at least 1.
        max_files: u32,
    },
    /// Lines on the node's console, each behind the service's name.
    Console,
    /// Thrown away.
    None,
}

/// Why a JSON file of ours could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what this version writes.
    #[error("cannot understand {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads one of our JSON files.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ReadError> {
    let text = std::fs::read(path).map_err(|source| ReadError::Read { path: path.into(), source })?;
    serde_json::from_slice(&text).map_err(|source| ReadError::Parse { path: path.into(), source })
}
