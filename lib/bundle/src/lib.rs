//! A service and its image -> what the shim runs: an OCI runtime-spec `config.json` and a `shim.json`.
//!
//! Pure: it reads and writes nothing. The same inputs give the same bytes, because the bytes' digest decides whether
//! a running container is kept. So nothing that changes from one generation to the next may get into a bundle.

mod health;
mod ids;
mod limits;
mod linux;
mod process;
mod rights;
mod storage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{LogFiles, Logging, Service};
use images::{Image, Sealed};
use plan::container::{Bind, Device, IdRange, Joined, User};
use plan::{ContainerNetwork, Log, ServiceName, Shared, ShimConfig, paths};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use ids::ranges;

/// signal(7).
const SIGTERM: i32 = 15;

/// What a bundle is made of.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The service's name.
    pub name: &'a ServiceName,
    /// What the configuration says of it.
    pub service: &'a Service,
    /// Its image.
    pub image: &'a Image,
    /// The image store that has the layers.
    pub store: &'a Path,
    /// What that store has recorded of layers.
    pub sealed: &'a BTreeMap<String, Sealed>,
    /// The default seccomp profile (`linux.seccomp` of the runtime-spec); `Null` means none.
    pub seccomp: &'a Value,
    /// The node's name, which containers on its network have, too.
    pub hostname: &'a str,
    /// Certificate authorities that containers get. Another content must have another path.
    pub certificates: Option<&'a Path>,
    /// Its network, unless that is the node's or none.
    pub network: Option<&'a ContainerNetwork>,
    /// The service whose processes or memory it shares.
    pub joined: Option<&'a Shared>,
    /// The ids that it has when it has not the node's: its own, or those of the service that it joins.
    pub ids: IdRange,
}

/// A bundle, ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// `config.json`.
    pub config: Value,
    /// `shim.json`.
    pub shim: ShimConfig,
    /// Hex SHA-256 of what both say: another digest means that the container has to be restarted.
    pub digest: String,
}

/// Why a service cannot be run from its image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Nothing to run.
    #[error("the image names no program to run, and neither 'entrypoint' nor 'command' does")]
    NoProgram,
    /// The image's stop signal is none.
    #[error("the image's stop signal '{signal}' is not known")]
    StopSignal {
        /// The signal.
        signal: String,
    },
    /// The image store lies.
    #[error("the image store has no valid digest for a layer: '{digest}'")]
    Layer {
        /// The digest.
        digest: String,
    },
    /// Its own filter on system calls is none for its capabilities.
    #[error("the profile of 'security_opt' cannot be used: {reason}")]
    Filter {
        /// What is wrong with it.
        reason: String,
    },
}

/// Makes the bundle of one service.
pub fn bundle(input: &Input<'_>) -> Result<Bundle, BundleError> {
    let layer = |digest: &String| {
        images::layer_path(input.store, digest).ok_or_else(|| BundleError::Layer { digest: digest.clone() })
    };
    let layers: Vec<PathBuf> = input.image.layers.iter().map(layer).collect::<Result<_, _>>()?;
    let digests = input.image.layers.iter().map(|digest| input.sealed.get(digest));
    let sealed =
        layers.iter().zip(digests).filter_map(|(path, seal)| Some((path.clone(), seal?.verity.clone())));
    let mut shim = ShimConfig {
        name: input.name.clone(),
        sealed: sealed.collect(),
        layers,
        writable: PathBuf::new(),
        layer_size: input.service.container.layer_size,
        stop_signal: stop_signal(input)?,
        log: log(input.name, input.service.logging),
        certificates: input.certificates.map(Path::to_owned),
        user: User { user: process::user(input).to_owned(), groups: input.service.container.groups.clone() },
        directories: storage::directories(input.service),
        files: storage::files(input.service),
        joined: input.joined.map(|of| Joined {
            of: of.clone(),
            pid: input.service.pid.joined().is_some(),
            ipc: input.service.ipc.joined().is_some(),
        }),
        ids: input.service.own_ids().then_some(input.ids),
        binds: Vec::new(),
        devices: devices(input.service),
        health: health::check(input.service, &input.image.config),
        notify: health::notify(input.service),
        init: input.service.container.init,
        terminal: input.service.container.terminal,
        stdin_open: input.service.container.stdin_open,
        network: input.network.cloned(),
    };
    let config = config(input, &mut shim.binds)?;
    // The writable layer is of this service in this form, so its name comes from the digest and is not in it.
    let digest = digest(&config, &shim);
    shim.writable = Path::new(paths::CONTAINERS).join(input.name.as_str()).join(&digest);
    Ok(Bundle { config, shim, digest })
}

fn config(input: &Input<'_>, binds: &mut Vec<Bind>) -> Result<Value, BundleError> {
    let rootfs = Path::new(paths::RUN).join("shim").join(input.name.as_str()).join("rootfs");
    let container = &input.service.container;
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": rootfs, "readonly": container.read_only },
        "process": process::process(input)?,
        "mounts": linux::mounts(input.name, input.service, binds),
        "linux": linux::linux(input.name, input.service, input.seccomp)?,
    });
    if !container.node_name {
        config["hostname"] = json!(process::hostname(input));
    }
    if let Some(domain) = &container.domainname {
        config["domainname"] = json!(domain);
    }
    if !container.annotations.is_empty() {
        config["annotations"] = json!(container.annotations);
    }
    Ok(config)
}

/// The service's, else the image's, else SIGTERM.
fn stop_signal(input: &Input<'_>) -> Result<i32, BundleError> {
    let image = input.image.config.stop_signal.as_deref().filter(|name| !name.is_empty());
    match (input.service.container.stop_signal, image) {
        (Some(number), _) => Ok(number),
        (None, Some(name)) => {
            config::signal_number(name).ok_or_else(|| BundleError::StopSignal { signal: name.to_owned() })
        }
        (None, None) => Ok(SIGTERM),
    }
}

fn devices(service: &Service) -> Vec<Device> {
    let device = |device: &config::container::Device| Device {
        path: device.path.clone().into(),
        target: device.target.clone().into(),
        access: device.access.clone(),
    };
    service.container.devices.iter().map(device).collect()
}

fn log(name: &ServiceName, logging: Logging) -> Log {
    match logging {
        Logging::File(LogFiles { max_size, max_files }) => {
            Log::File { path: Path::new(paths::LOGS).join(format!("{name}.log")), max_size, max_files }
        }
        Logging::Console => Log::Console,
        Logging::None => Log::None,
    }
}

fn digest(config: &Value, shim: &ShimConfig) -> String {
    // A JSON map prints its keys in order, so equal values print equally.
    let text = json!([config, shim]).to_string();
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
