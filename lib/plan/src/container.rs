//! What the shim does for a container that `config.json` cannot say.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Shared;

/// Whose rights the container's program has, as names that only the image's files explain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct User {
    /// `USER` or `USER:GROUP`, each a name or a number; empty: root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// More groups, each a name or a number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// The ids of the node that users and groups of a container are: as many as programs know of, so that 0 in the container is
/// the first one outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdRange {
    /// What 0 is.
    pub first: u32,
}

impl IdRange {
    /// How many there are.
    pub const COUNT: u32 = 1 << 16;

    /// What `id` of the container is on the node; `None`: the container has no such id.
    pub fn on_node(self, id: u32) -> Option<u32> {
        if id < Self::COUNT { self.first.checked_add(id) } else { None }
    }

    /// What `id` of the node is in the container.
    pub fn in_container(self, id: u32) -> Option<u32> {
        id.checked_sub(self.first).filter(|id| *id < Self::COUNT)
    }
}

/// The container of another service, which this one shares processes or memory with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    /// Whose.
    pub of: Shared,
    /// Its processes (pid_namespaces(7)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pid: bool,
    /// Its message queues and shared memory (ipc_namespaces(7)), with what lies in its `/dev/shm`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipc: bool,
}

/// Something of the node for a container with ids of its own, or with mounts that are made later: such a container cannot find
/// it by itself, so the shim puts it where `config.json` mounts it from, [`crate::paths::bind`] and its place in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// A file or directory of the node.
    pub source: PathBuf,
    /// What is mounted below it is part of it, and its ids on the disk are the container's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// How mounts below it that are made later reach it; absent: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
}

/// Which mounts reach where (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Those of the node reach the container.
    Slave,
    /// And those of the container the node.
    Shared,
}

/// A directory of the node that is made before the container is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Its path on the node.
    pub path: PathBuf,
    /// While it is empty, what the image has at this path of the container is copied into it, with owners and modes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<PathBuf>,
    /// The space that a volume may take, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A file that the shim writes in memory for `config.json` to mount: a secret or a config.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenFile {
    /// Its name below the shim's own [`crate::paths::given_file`].
    pub name: String,
    /// What it holds.
    pub content: GivenContent,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// What such a file holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GivenContent {
    /// This text.
    Text(String),
    /// What this file of the node holds.
    File(PathBuf),
}

/// Without the content: it may be secret.
impl std::fmt::Debug for GivenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GivenFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Without the text.
impl std::fmt::Debug for GivenContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// A device of the node that the container gets; its number is known only on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its path on the node.
    pub path: PathBuf,
    /// Its path in the container.
    pub target: PathBuf,
    /// Letters of `rwm`.
    pub access: String,
}

/// The container's program says itself that it works: sd_notify(3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// It says so again within this time, in milliseconds, or is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog_ms: Option<u64>,
}

/// How it is seen that the container works. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// What is executed in the container; code 0 means that it works.
    pub test: Vec<String>,
    /// Time between two checks.
    pub interval_ms: u64,
    /// Time that one may take.
    pub timeout_ms: u64,
    /// Failures in a row that make the container unhealthy.
    pub retries: u32,
    /// Time after the start in which a failure does not count.
    pub start_period_ms: u64,
    /// Time between two checks until the first one passes.
    pub start_interval_ms: u64,
    /// An unhealthy container is ended.
    pub restart: bool,
}
