//! What a container's programs may do: capabilities, and the system calls that go with them.

use std::collections::BTreeSet;

use config::Service;
use serde_json::{Value, json};

use crate::BundleError;

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

/// System calls that are good for nothing without a capability, so that the default filter has them not, and a container
/// with the capability gets them. The kernel still asks for the capability at each.
const CALLS: [(&str, &[&str]); 13] = [
    ("CAP_BPF", &["bpf"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "pivot_root",
            "quotactl",
            "setdomainname",
            "sethostname",
            "setns",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "migrate_pages", "move_pages", "set_mempolicy"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_vm_readv", "process_vm_writev", "ptrace"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYSLOG", &["syslog"]),
];

/// The capabilities of `service`, in order. A capability that is added and dropped is dropped, unless all are.
pub(crate) fn capabilities(service: &Service) -> Vec<&'static str> {
    let (add, drop) = (&service.container.cap_add, &service.container.cap_drop);
    let has = |list: &[String], name: &str| list.iter().any(|item| item == name);
    let all = service.privileged || has(add, "ALL");
    let known = CAPABILITIES.iter().chain(&PRIVILEGED).copied();
    let kept = |name: &&str| {
        let default = all || !has(drop, "ALL") && CAPABILITIES.contains(name);
        (default && !has(drop, name)) || has(add, name) && !has(drop, name)
    };
    known.filter(kept).collect()
}

/// The filter of `service` on system calls: the default one, and what its capabilities are good for.
pub(crate) fn seccomp(service: &Service, default: &Value) -> Result<Option<Value>, BundleError> {
    if service.privileged || service.container.unconfined || default.is_null() {
        return Ok(None);
    }
    let held = capabilities(service);
    if let Some(profile) = &service.container.filter {
        let unusable = |error: &dyn std::error::Error| BundleError::Filter { reason: error.to_string() };
        let filter = ::seccomp::resolve(profile, &held).map_err(|error| unusable(&error))?;
        let mut filter = serde_json::to_value(filter).map_err(|error| unusable(&error))?;
        keep_counting(service, &mut filter);
        return Ok(Some(filter));
    }
    let calls = CALLS.iter().filter(|(capability, _)| held.contains(capability));
    let calls: BTreeSet<&str> = calls.flat_map(|(_, calls)| calls.iter().copied()).collect();
    let mut filter = default.clone();
    if !calls.is_empty()
        && let Some(rules) = filter["syscalls"].as_array_mut()
    {
        for names in rules.iter_mut().filter_map(|rule| rule["names"].as_array_mut()) {
            names.retain(|name| !name.as_str().is_some_and(|name| calls.contains(name)));
        }
        rules.retain(|rule| rule["names"].as_array().is_none_or(|names| !names.is_empty()));
        rules.push(json!({ "names": calls, "action": "SCMP_ACT_ALLOW" }));
    }
    keep_counting(service, &mut filter);
    Ok(Some(filter))
}

/// Refuses, to a container with the node's ids, what would change to which quota its files count.
fn keep_counting(service: &Service, filter: &mut Value) {
    let rules = filter.as_object_mut().map(|filter| filter.entry("syscalls").or_insert_with(|| json!([])));
    if !service.own_ids()
        && let Some(rules) = rules.and_then(Value::as_array_mut)
    {
        rules.splice(0..0, COUNTING.map(refuse_ioctl));
    }
}

/// Requests of ioctl(2) that change to which quota a file counts: `FS_IOC_FSSETXATTR` and `FS_IOC_SETFLAGS` of linux/fs.h. The
/// kernel refuses them to whoever has ids of its own.
const COUNTING: [u32; 2] = [0x401c_5820, 0x4008_6602];

/// The kernel looks at 32 bits of a request. The first rule for a call that applies counts.
fn refuse_ioctl(request: u32) -> Value {
    json!({ "names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [
        { "index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": u32::MAX, "valueTwo": request },
    ] })
}
