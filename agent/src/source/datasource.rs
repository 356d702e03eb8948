//! What kind of place a configuration is from.

use serde::{Deserialize, Serialize};

/// A kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Datasource {
    CommandLine,
    NoCloud,
    BakedIn,
}

impl Datasource {
    /// Its name, as cloud-init has it where cloud-init has one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "CommandLine",
            Self::NoCloud => "NoCloud",
            Self::BakedIn => "BakedIn",
        }
    }
}
