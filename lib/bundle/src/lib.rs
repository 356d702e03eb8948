//! A service and its image -> what the shim runs: an OCI runtime-spec `config.json` and a `shim.json`.
//!
//! Pure: it reads and writes nothing. The same inputs give the same bytes, because the bytes' digest decides whether
//! a running container is kept. So nothing that changes from one generation to the next may get into a bundle.

mod linux;
mod process;
mod signal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Logging, Service};
use images::{Image, Sealed};
use plan::{Log, ServiceName, ShimConfig, paths};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

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
    /// The user is a name.
    #[error("the user '{user}' is given by name: only 'root' and numbers are supported, as in '1000:1000'")]
    UserName {
        /// The user.
        user: String,
    },
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
        stop_signal: signal::number(input.image.config.stop_signal.as_deref())?,
        log: log(input.name, input.service.logging),
        certificates: input.certificates.map(Path::to_owned),
    };
    let config = config(input)?;
    // The writable layer is of this service in this form, so its name comes from the digest and is not in it.
    let digest = digest(&config, &shim);
    shim.writable = Path::new(paths::CONTAINERS).join(input.name.as_str()).join(&digest);
    Ok(Bundle { config, shim, digest })
}

fn config(input: &Input<'_>) -> Result<Value, BundleError> {
    let rootfs = Path::new(paths::RUN).join("shim").join(input.name.as_str()).join("rootfs");
    Ok(json!({
        "ociVersion": "1.0.2",
        "hostname": process::hostname(input),
        "root": { "path": rootfs, "readonly": false },
        "process": process::process(input)?,
        "mounts": linux::mounts(input.service),
        "linux": linux::linux(input.name, input.service, input.seccomp),
    }))
}

fn log(name: &ServiceName, logging: Logging) -> Log {
    match logging {
        Logging::File => Log::File { path: Path::new(paths::LOGS).join(format!("{name}.log")) },
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
