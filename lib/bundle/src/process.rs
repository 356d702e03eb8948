//! The container's first process: program, environment, user, rights.

use std::collections::BTreeMap;

use config::Network;
use serde_json::{Value, json};

use crate::{BundleError, Input};

/// Docker's search path for images that set none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's default capabilities without MKNOD and NET_RAW: a container needs neither device nodes of its own nor
/// forged packets. (SYS_RESOURCE, which would lift the quota of a writable layer, is not among Docker's either.)
const CAPABILITIES: [&str; 12] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Those that only privileged containers have (capabilities(7), up to Linux 5.9, the last one that added any).
const PRIVILEGED: [&str; 29] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_DAC_READ_SEARCH",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

/// Open files: the soft limit that programs written for select(2) can live with, and the hard one of systemd.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// The name that the container sees as its host's.
pub(crate) fn hostname<'a>(input: &Input<'a>) -> &'a str {
    match input.service.network {
        Network::Host => input.hostname,
        Network::None | Network::Own(_) | Network::Of(_) => input.name.as_str(),
    }
}

/// `process` of the runtime-spec.
pub(crate) fn process(input: &Input<'_>) -> Result<Value, BundleError> {
    let (uid, gid) = user(input)?;
    let privileged = input.service.privileged;
    let mut all: Vec<&str> = CAPABILITIES.to_vec();
    if privileged {
        all.extend(PRIVILEGED);
    }
    // A program of another user than root gains none of them when it is executed (capabilities(7)).
    let held: &[&str] = if uid == 0 { &all } else { &[] };
    Ok(json!({
        "terminal": false,
        "user": { "uid": uid, "gid": gid },
        "args": args(input)?,
        "env": environment(input),
        "cwd": working_dir(input),
        "capabilities": { "bounding": all, "effective": held, "permitted": held, "inheritable": [], "ambient": [] },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": OPEN_FILES.0, "hard": OPEN_FILES.1 }],
        "noNewPrivileges": !privileged,
    }))
}

/// Docker's rule: an entrypoint of the service's own makes the image's arguments void.
fn args(input: &Input<'_>) -> Result<Vec<String>, BundleError> {
    let (service, image) = (input.service, &input.image.config);
    let entrypoint = service.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let default: &[String] = if service.entrypoint.is_some() { &[] } else { &image.cmd };
    let command = service.command.as_deref().unwrap_or(default);
    let args: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    if args.is_empty() { Err(BundleError::NoProgram) } else { Ok(args) }
}

fn environment(input: &Input<'_>) -> Vec<String> {
    let mut all = BTreeMap::from([("PATH", PATH), ("HOSTNAME", hostname(input))]);
    all.extend(input.image.config.env.iter().filter_map(|pair| pair.split_once('=')));
    all.extend(input.service.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn working_dir(input: &Input<'_>) -> String {
    let own = input.service.working_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned());
    let image = || input.image.config.working_dir.clone().filter(|dir| dir.starts_with('/'));
    own.or_else(image).unwrap_or_else(|| "/".to_owned())
}

/// User and group by number. A group that is not given is root's, as with Docker for users the image does not know.
fn user(input: &Input<'_>) -> Result<(u32, u32), BundleError> {
    let own = input.service.user.as_ref().map(|user| user.value.as_str());
    let user = own.or(input.image.config.user.as_deref()).unwrap_or_default();
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let number = |text: &str| if matches!(text, "" | "root") { Some(0) } else { text.parse().ok() };
    number(name).zip(number(group)).ok_or_else(|| BundleError::UserName { user: user.to_owned() })
}
