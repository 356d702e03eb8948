//! What the shim does for a container that `config.json` cannot say.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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

/// A directory of the node that is made before the container is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Its path on the node.
    pub path: PathBuf,
    /// While it is empty, what the image has at this path of the container is copied into it, with owners and modes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<PathBuf>,
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
