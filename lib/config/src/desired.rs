//! What this release makes of a configuration: with its defaults, free of its spelling. [`crate::Config`] has the whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use plan::{Condition, Gate, Restart, ServiceName};
use userdata::Located;

use crate::container::{Container, Namespace, UserNamespace};
use crate::container_network::{Bridge, Firewall, Network, Reach};

/// One configuration of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The host name: one label. Absent: the datasource's, else the system's default.
    pub hostname: Option<String>,
    /// Keys that may log in, each as one line of an `authorized_keys` file.
    pub ssh_authorized_keys: Vec<String>,
    /// When a boot counts as good.
    pub gate: Gate,
    /// The container networks that are declared, by name.
    pub networks: BTreeMap<String, Bridge>,
    /// Who may reach the node; `None`: nothing is said.
    pub firewall: Option<Firewall>,
    /// The services.
    pub services: BTreeMap<ServiceName, Service>,
}

/// One service. What is `None` comes from its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The image's reference as it is written.
    pub image: Located<String>,
    /// When the image is pulled.
    pub pull_policy: PullPolicy,
    /// Arguments; empty: none, also not the image's.
    pub command: Option<Vec<String>>,
    /// What is run; empty: nothing, also not the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Variables on top of the image's.
    pub environment: BTreeMap<String, String>,
    /// Where it starts.
    pub working_dir: Option<PathBuf>,
    /// `user[:group]`, each a name or a number.
    pub user: Option<Located<String>>,
    /// When it is started again.
    pub restart: Restart,
    /// Which network it sees.
    pub network: Network,
    /// Its ports and names on that network.
    pub reach: Reach,
    /// With all rights on the host.
    pub privileged: bool,
    /// Whose processes it sees.
    pub pid: Namespace,
    /// Whose message queues and shared memory it has. When both are another service's, they are the same one's.
    pub ipc: Namespace,
    /// What comes first.
    pub depends_on: BTreeMap<ServiceName, Condition>,
    /// Time to stop before it is killed.
    pub stop_grace_period: Duration,
    /// When its container changes, the old one is stopped once the new one works. The two take turns with two names: see
    /// [`Desired::in_turn`].
    pub start_first: bool,
    /// Where its output goes.
    pub logging: Logging,
    /// Mounts, files, rights, limits.
    pub container: Container,
}

impl Service {
    /// The service whose processes or memory it shares, and whose users and groups it has when it has not the node's.
    pub fn joined(&self) -> Option<&ServiceName> {
        self.pid.joined().or(self.ipc.joined())
    }

    /// Whether its users and groups are others than the node's. They are, unless something says otherwise: with the node's
    /// network, processes or memory comes what only the node's users may do with these.
    pub fn own_ids(&self) -> bool {
        match self.container.user_namespace {
            Some(UserNamespace::Host) => false,
            Some(UserNamespace::Private) => true,
            None => {
                let node = [&self.pid, &self.ipc].contains(&&Namespace::Node);
                !self.privileged && !node && self.network != Network::Host
            }
        }
    }
}

/// Compose's `pull_policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When it is not on the node.
    #[default]
    Missing,
    /// For every new generation: a tag may have moved.
    Always,
    /// Not at all.
    Never,
}

/// Compose's `logging.driver`, as far as we have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logging {
    /// Files on the state partition.
    File(LogFiles),
    /// The node's console.
    Console,
    /// Nowhere.
    None,
}

/// The files of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFiles {
    /// Size of one, in bytes.
    pub max_size: u64,
    /// How many there are.
    pub max_files: u32,
}

impl Default for LogFiles {
    /// 10 MiB each, three of them: hours of a talkative service, and little of a small disk.
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 3 }
    }
}
