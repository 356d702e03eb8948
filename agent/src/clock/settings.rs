//! Who is asked for the time: whom the configuration names, else whom the network does, else everybody's pool.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::file::{self, FileError};

/// Where the last settings are kept: the time is asked for before user-data is there, which may come over TLS.
const KEPT: &str = "/var/lib/holdfast/ntp.json";

/// The release's own choice.
const DEFAULT_POOLS: [&str; 4] = ["0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org", "3.pool.ntp.org"];

/// The configuration's `ntp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) enabled: bool,
    servers: Vec<String>,
    pools: Vec<String>,
}

/// Names to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Each stands for one server.
    pub(super) servers: Vec<String>,
    /// Each stands for several.
    pub(super) pools: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, servers: Vec::new(), pools: Vec::new() }
    }
}

impl Settings {
    /// What the configuration says; without a word of it, it says nothing against asking.
    pub(super) fn new(ntp: Option<&config::Ntp>) -> Self {
        let said = |ntp: &config::Ntp| Self {
            enabled: ntp.enabled,
            servers: ntp.servers.clone(),
            pools: ntp.pools.clone(),
        };
        ntp.map(said).unwrap_or_default()
    }

    /// Those of the last configuration.
    pub(super) fn kept() -> Option<Self> {
        plan::read_json(Path::new(KEPT)).ok()
    }

    /// Keeps them for the next boot.
    pub(super) fn keep(&self) -> Result<(), FileError> {
        file::replace(Path::new(KEPT), 0o600, &serde_json::to_vec(self).unwrap_or_default())
    }

    /// Whom to ask, and whom to ask when none of them answers: whoever is configured is meant, but a network often
    /// names a server that has never been there. `network` is what the network names.
    pub(super) fn choices(&self, network: &[String]) -> Vec<Names> {
        let own = Names { servers: self.servers.clone(), pools: self.pools.clone() };
        let network = Names { servers: network.to_vec(), pools: Vec::new() };
        let default = Names { servers: Vec::new(), pools: DEFAULT_POOLS.map(str::to_owned).to_vec() };
        let choices = if own == Names::default() { vec![network, default] } else { vec![own] };
        choices.into_iter().filter(|names| *names != Names::default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_comes_first_then_the_network_then_the_pool() {
        let network = ["192.0.2.1".to_owned()];
        let first = |settings: &Settings, network: &[String]| settings.choices(network).swap_remove(0);
        let own = Settings { servers: vec!["a".to_owned()], pools: vec!["b".to_owned()], enabled: true };
        let choices = own.choices(&network);
        assert_eq!(choices, [Names { servers: vec!["a".to_owned()], pools: vec!["b".to_owned()] }]);
        let none = Settings::new(None);
        assert!(none.enabled);
        assert_eq!(first(&none, &network).servers, network);
        assert_eq!(none.choices(&network).len(), 2);
        assert_eq!(first(&none, &[]).pools, DEFAULT_POOLS);
    }

    #[test]
    fn settings_are_read_as_they_were_kept() {
        let ntp = config::Ntp { enabled: false, servers: vec!["a".to_owned()], pools: Vec::new() };
        let settings = Settings::new(Some(&ntp));
        let text = serde_json::to_vec(&settings).unwrap();
        assert_eq!(serde_json::from_slice::<Settings>(&text).unwrap(), settings);
    }
}
