//! What Linux isolates a container with: mounts, namespaces, devices, masked paths, limits.

use std::path::{Path, PathBuf};

use config::container::Namespace;
use config::{Network, Service};
use plan::container::Bind;
use plan::{ServiceName, paths};
use serde_json::{Value, json};

use crate::{BundleError, limits, rights, storage};

/// Docker's character devices by major and minor number: null, zero, full, random, urandom, tty, console, ptmx, and
/// the pseudo-terminals (all minors). See the kernel's admin-guide/devices.txt.
const DEVICES: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// What containers neither see nor need of /proc and /sys (Docker's list).
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What they may read (Docker's list).
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `mounts` of the runtime-spec, in order. What a container with ids of its own mounts of the node goes to `binds`.
pub(crate) fn mounts(name: &ServiceName, service: &Service, binds: &mut Vec<Bind>) -> Value {
    // A privileged container administers the host: it may change sysctls and the cgroups below its own.
    let kernel: &[&str] = if service.privileged { &[] } else { &["ro"] };
    let with = |options: &[&'static str]| [options, kernel].concat();
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &with(&["nosuid", "noexec", "nodev"])),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &with(&["nosuid", "noexec", "nodev", "relatime"])),
    ];
    let memory = match service.ipc {
        Namespace::Own => None,
        Namespace::Node => Some("/dev/shm".into()),
        // The shim puts the other container's there.
        Namespace::Of(_) => Some(shim_directory(name).join("shm")),
    };
    if let Some(source) = memory {
        let options = ["bind", "nosuid", "noexec", "nodev"];
        for shm in mounts.iter_mut().filter(|mount| mount["destination"] == "/dev/shm") {
            *shm = mount("/dev/shm", "bind", &source.to_string_lossy(), &options);
        }
    }
    for file in ["hosts", "resolv.conf"] {
        let target = Path::new("/etc").join(file);
        let source = match service.network {
            Network::Host => target.clone(),
            Network::None => continue,
            Network::Own(_) | Network::Of(_) => paths::given_file(name.as_str(), file),
        };
        let options = ["bind", "ro", "nosuid", "noexec", "nodev"];
        mounts.push(mount(&target.to_string_lossy(), "bind", &source.to_string_lossy(), &options));
    }
    if service.own_ids() && !has_own_network(service) {
        // The kernel lets only the owner of a network mount its sysfs.
        binds.push(Bind { source: "/sys".into(), whole: false, propagation: None });
        let source = paths::bind(name.as_str(), 0);
        let options = ["bind", "ro", "nosuid", "noexec", "nodev"];
        for sys in mounts.iter_mut().filter(|mount| mount["destination"] == "/sys") {
            *sys = mount("/sys", "bind", &source.to_string_lossy(), &options);
        }
    }
    storage::add(&mut mounts, name, service, binds);
    mounts.into()
}

/// Where the shim puts what is the container's own.
fn shim_directory(name: &ServiceName) -> PathBuf {
    Path::new(paths::RUN).join("shim").join(name.as_str())
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// `linux` of the runtime-spec.
pub(crate) fn linux(name: &ServiceName, service: &Service, seccomp: &Value) -> Result<Value, BundleError> {
    let mut linux = json!({
        "cgroupsPath": Path::new("/").join(paths::SERVICES_SLICE).join(name.as_str()).join("container"),
        "namespaces": namespaces(name, service),
        "resources": limits::resources(&service.container.limits),
    });
    linux["resources"]["devices"] = devices(service);
    if !service.container.sysctls.is_empty() {
        linux["sysctl"] = json!(service.container.sysctls);
    }
    if storage::shares_mounts(service) {
        linux["rootfsPropagation"] = json!("shared");
    }
    if !service.privileged {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
    }
    if let Some(filter) = rights::seccomp(service, seccomp)? {
        linux["seccomp"] = filter;
    }
    Ok(linux)
}

fn namespaces(name: &ServiceName, service: &Service) -> Value {
    let mut kinds = vec!["mount"];
    for (kind, namespace) in [("ipc", &service.ipc), ("pid", &service.pid)] {
        if *namespace == Namespace::Own {
            kinds.push(kind);
        }
    }
    if !service.container.node_cgroups {
        kinds.push("cgroup");
    }
    if !service.container.node_name {
        kinds.push("uts");
    }
    if has_own_network(service) {
        kinds.push("network");
    }
    let mut namespaces: Vec<Value> = kinds.into_iter().map(|kind| json!({ "type": kind })).collect();
    if service.own_ids() {
        // The shim makes it a link to the one whose ids it has mounted everything with.
        namespaces.push(json!({ "type": "user", "path": shim_directory(name).join("userns") }));
    }
    // The shim makes links to the other container's.
    let joined = [
        ("network", "netns", matches!(service.network, Network::Of(_))),
        ("ipc", "ipcns", service.ipc.joined().is_some()),
        ("pid", "pidns", service.pid.joined().is_some()),
    ];
    for (kind, link, _) in joined.into_iter().filter(|(.., is_joined)| *is_joined) {
        namespaces.push(json!({ "type": kind, "path": shim_directory(name).join(link) }));
    }
    namespaces.into()
}

fn has_own_network(service: &Service) -> bool {
    matches!(service.network, Network::None | Network::Own(_))
}

fn devices(service: &Service) -> Value {
    if service.privileged {
        return json!([{ "allow": true, "access": "rwm" }]);
    }
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    for (major, minor) in DEVICES {
        let mut rule = json!({ "allow": true, "type": "c", "major": major, "access": "rwm" });
        if let Some(minor) = minor {
            rule["minor"] = minor.into();
        }
        rules.push(rule);
    }
    for rule in &service.container.device_rules {
        let mut value = json!({ "allow": true, "type": rule.kind, "access": rule.access });
        for (key, number) in [("major", rule.major), ("minor", rule.minor)] {
            if let Some(number) = number {
                value[key] = number.into();
            }
        }
        rules.push(value);
    }
    rules.into()
}
