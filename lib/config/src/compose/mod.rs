//! The compose sections: the whole vocabulary of the compose-spec, checked, typed as far as a node uses it, and put into
//! the normal form that `docker compose config` has. What cannot be on a node (`build`, files beside the compose file,
//! the socket of another engine) is refused by name. What a release runs of it is decided in [`crate::release`].

mod container;
mod env_file;
mod forms;
mod limits;
mod logging;
mod ports;
mod process;
mod project;
mod relations;
mod service;
mod values;
mod volumes;

use std::collections::BTreeMap;

use plan::ServiceName;
use serde_json::{Map, Value as Json};
use userdata::{KeySpec as Key, Use};

use crate::machine::{Machine, take};

pub(crate) use container::{QUOTA_HINT, quota, tmpfs_options};
pub(crate) use logging::Logging;
pub use ports::Port;
pub(crate) use project::{read, texts};
pub use relations::Reference;
pub(crate) use service::READ;
pub use service::{CommandLine, Dependency, Service};
pub(crate) use values::parse_size;
pub use volumes::{Volume, VolumeKind, VolumeOptions};

/// The keys of the top level that are compose's. [`read`] reads the sections, when the variables are known.
pub(crate) const SECTIONS: [Key<Machine>; 8] = [
    take("services", |_, _| {}, "Services by name: what runs on the node."),
    take("volumes", |_, _| {}, "Volumes by name, for the `volumes` of services."),
    take("networks", |_, _| {}, "Networks by name, for the `networks` of services."),
    take("secrets", |_, _| {}, "Secrets by name, for the `secrets` of services."),
    take("configs", |_, _| {}, "Files by name, for the `configs` of services."),
    Key { name: "name", use_: Use::Quiet, doc: "" },
    Key { name: "include", use_: Use::Refused, doc: "put its content into this file" },
    Key { name: "models", use_: Use::Refused, doc: "run the model in a service" },
];

/// The compose sections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Project {
    /// The services.
    pub services: BTreeMap<ServiceName, Service>,
    /// The named volumes in normal form.
    pub volumes: Map<String, Json>,
    /// The networks in normal form.
    pub networks: Map<String, Json>,
    /// The secrets in normal form.
    pub secrets: Map<String, Json>,
    /// The configs in normal form.
    pub configs: Map<String, Json>,
}
