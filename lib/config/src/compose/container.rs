//! Keys that say what a container is made of: groups, memory, rights, devices, names.

use serde_json::json;
use userdata::{At, alternatives};

use super::forms::{pairs_of_texts, raw, text, texts, truth};
use super::service::Service;
use super::values::{pairs, parse_size};
use super::volumes::container_path;
use crate::container::{Device, DeviceRule, Mount, MountSource, UserNamespace};
use crate::signal::signal_number;

/// Capabilities as compose names them, without `CAP_` (capabilities(7), up to Linux 5.9, the last one that added any).
const CAPABILITIES: &str = "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE \
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN \
    NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE \
    SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM";

pub(super) fn group_add(at: &At<'_>, service: &mut Service) {
    texts(at, service);
    let word = |c: char| c.is_ascii_alphanumeric() || "._-$".contains(c);
    for item in at.list_or_one() {
        match item.text() {
            Some(group) if !group.is_empty() && group.chars().all(word) => {
                service.container.groups.push(group.to_owned());
            }
            Some(_) => item.error("must be the name or the number of a group"),
            None => {}
        }
    }
}

/// `PATH` or `PATH:OPTIONS`. Docker's options come first, so that the given ones win.
pub(super) fn tmpfs(at: &At<'_>, service: &mut Service) {
    raw(at, service);
    for item in at.list_or_one() {
        let Some(text) = item.text() else { continue };
        let (path, given) = text.split_once(':').unwrap_or((text, ""));
        let Some(target) = container_path(&item, path) else { continue };
        let given: Vec<&str> = given.split(',').filter(|option| !option.is_empty()).collect();
        if let Some(unknown) = given.iter().find(|option| !is_tmpfs_option(option)) {
            item.error(format!("'{unknown}' is not an option of a tmpfs"));
            continue;
        }
        let read_only = given.contains(&"ro");
        let source = MountSource::Tmpfs { options: tmpfs_options(&given) };
        service.container.mounts.push(Mount { target, read_only, source });
    }
}

/// Docker's options of a tmpfs, and the `given` ones.
pub(crate) fn tmpfs_options(given: &[&str]) -> Vec<String> {
    let opposite = |option: &str| match option {
        "noexec" => "exec",
        "nosuid" => "suid",
        _ => "dev",
    };
    let kept = ["noexec", "nosuid", "nodev"].into_iter().filter(|option| !given.contains(&opposite(option)));
    let mode = (!given.iter().any(|option| option.starts_with("mode="))).then_some("mode=1777");
    kept.chain(mode).chain(given.iter().copied()).map(str::to_owned).collect()
}

fn is_tmpfs_option(option: &str) -> bool {
    match option.split_once('=') {
        None => ["ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime"].contains(&option),
        Some(("size", value)) => {
            let percent = value.strip_suffix('%').is_some_and(|value| value.parse::<u8>().is_ok());
            percent || value.chars().all(|c| c.is_ascii_alphanumeric()) && parse_size(value).is_some()
        }
        Some(("mode", value)) => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        Some(("uid" | "gid" | "nr_inodes", value)) => value.parse::<u32>().is_ok(),
        Some(_) => false,
    }
}

pub(super) fn read_only(at: &At<'_>, service: &mut Service) {
    truth(at, service);
    service.container.read_only = at.truth().unwrap_or_default();
}

pub(super) fn init(at: &At<'_>, service: &mut Service) {
    truth(at, service);
    service.container.init = at.truth().unwrap_or_default();
}

pub(super) fn terminal(at: &At<'_>, service: &mut Service) {
    truth(at, service);
    service.container.terminal = at.truth().unwrap_or_default();
}

pub(super) fn stdin_open(at: &At<'_>, service: &mut Service) {
    truth(at, service);
    service.container.stdin_open = at.truth().unwrap_or_default();
}

pub(super) fn capabilities(at: &At<'_>, service: &mut Service) -> Vec<String> {
    texts(at, service);
    let name = |item: At<'_>| {
        let text = item.text()?.to_ascii_uppercase();
        let short = text.strip_prefix("CAP_").unwrap_or(&text);
        if short == "ALL" {
            return Some(short.to_owned());
        }
        if !CAPABILITIES.split_whitespace().any(|known| known == short) {
            item.error(format!("'{text}' is not a capability"));
            return None;
        }
        Some(format!("CAP_{short}"))
    };
    at.list_or_one().into_iter().filter_map(name).collect()
}

pub(super) fn userns_mode(at: &At<'_>, service: &mut Service) {
    service.container.user_namespace = match word(at, service, &["host", "private"]) {
        Some("host") => Some(UserNamespace::Host),
        Some(_) => Some(UserNamespace::Private),
        None => None,
    };
}

/// One of `words`; an empty text says nothing.
pub(super) fn word(at: &At<'_>, service: &mut Service, words: &[&'static str]) -> Option<&'static str> {
    text(at, service);
    let text = at.text().filter(|text| !text.is_empty())?;
    let found = words.iter().copied().find(|word| *word == text);
    if found.is_none() {
        at.error(format!("'{text}' is not supported: it must be {}", alternatives(words)));
    }
    found
}

/// `KIND MAJOR:MINOR ACCESS`, as the kernel's old interface had it (admin-guide/cgroup-v1/devices.rst).
pub(super) fn device_rules(at: &At<'_>, service: &mut Service) {
    texts(at, service);
    for item in at.list_or_one() {
        let Some(text) = item.text() else { continue };
        match device_rule(text) {
            Some(rule) => service.container.device_rules.push(rule),
            None => item.error_with_hint(format!("'{text}' is not a rule for devices"), "as in 'c 1:3 rwm'"),
        }
    }
}

fn device_rule(text: &str) -> Option<DeviceRule> {
    let [kind, numbers, access] = text.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let known = matches!(kind, "a" | "b" | "c") && access.chars().all(|c| "rwm".contains(c));
    known.then_some(DeviceRule {
        kind: kind.chars().next()?,
        major: number(major)?,
        minor: number(minor)?,
        access: access.to_owned(),
    })
}

/// What other systems have and a node has not is accepted when it asks for nothing.
pub(super) fn security_opt(at: &At<'_>, service: &mut Service) {
    texts(at, service);
    for item in at.list_or_one() {
        let Some(text) = item.text() else { continue };
        let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        match (name, value) {
            ("no-new-privileges", "" | "true") => service.container.no_new_privileges = true,
            ("no-new-privileges", "false") => service.container.no_new_privileges = false,
            ("seccomp", "unconfined") => service.container.unconfined = true,
            ("seccomp", path) if path.starts_with('/') => {
                service.container.filter = filter(&item, path, service)
            }
            ("apparmor", "unconfined") | ("label", "disable") => {}
            _ => item.error_with_hint(
                format!("'{text}' is not supported"),
                "no-new-privileges, no-new-privileges=false, seccomp=unconfined or seccomp=/PATH",
            ),
        }
    }
}

/// The profile that `write_files` writes to `path`: a node has no files beside the compose file.
fn filter(at: &At<'_>, path: &str, service: &Service) -> Option<String> {
    let Some(text) = service.texts.get(path) else {
        at.error_with_hint(format!("'{path}' is not among the texts of 'write_files'"), "write it there");
        return None;
    };
    match seccomp::resolve(text, &[]) {
        Ok(_) => Some(text.clone()),
        Err(error) => {
            at.error(format!("'{path}' cannot be used: {error}"));
            None
        }
    }
}

/// `PATH[:TARGET[:rwm]]`
pub(super) fn devices(at: &At<'_>, service: &mut Service) {
    texts(at, service);
    for item in at.list_or_one() {
        let Some(text) = item.text() else { continue };
        let parts: Vec<&str> = text.split(':').collect();
        let is_access = |part: &str| !part.is_empty() && part.chars().all(|c| "rwm".contains(c));
        let (path, target, access) = match parts[..] {
            [path] => (path, path, "rwm"),
            [path, access] if is_access(access) => (path, path, access),
            [path, target] => (path, target, "rwm"),
            [path, target, access] if is_access(access) => (path, target, access),
            _ => {
                item.error_with_hint(format!("'{text}' is not a device"), "as in /dev/ttyUSB0:/dev/modem:rw");
                continue;
            }
        };
        let below = |path: &str| path.starts_with("/dev/") && path.split('/').all(|part| part != "..");
        if !below(path) || !below(target) {
            item.error(format!("'{text}' must name paths below /dev, without '..'"));
            continue;
        }
        let owned = str::to_owned;
        service.container.devices.push(Device {
            path: owned(path),
            target: owned(target),
            access: owned(access),
        });
    }
}

/// Kernel parameters that belong to a container's own namespaces.
pub(super) fn sysctls(at: &At<'_>, service: &mut Service) {
    pairs_of_texts(at, service);
    const IPC: [&str; 8] =
        ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    for (at, name, value) in pairs(at) {
        let ipc = name.strip_prefix("kernel.").is_some_and(|rest| IPC.contains(&rest));
        let word = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let own = ipc || name.starts_with("fs.mqueue.") || name.starts_with("net.");
        if !own || !name.chars().all(word) || name.contains("..") {
            at.error_with_hint(
                format!("'{name}' is not a parameter of a container's own"),
                "net.*, kernel.msg*, kernel.sem, kernel.shm* or fs.mqueue.*; others belong to 'holdfast.sysctl'",
            );
            continue;
        }
        service.container.sysctls.insert(name, value.unwrap_or_default());
    }
}

pub(super) fn stop_signal(at: &At<'_>, service: &mut Service) {
    text(at, service);
    let Some(text) = at.text() else { return };
    service.container.stop_signal = signal_number(text);
    if service.container.stop_signal.is_none() {
        at.error(format!("'{text}' is not a signal"));
    }
}

/// A name of a host: the kernel takes up to 64 bytes.
pub(super) fn host_name(at: &At<'_>, service: &mut Service) -> Option<String> {
    text(at, service);
    let name = at.text()?;
    let word = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if name.is_empty() || name.len() > 63 || !name.chars().all(word) {
        at.error(format!("'{name}' is not the name of a host"));
        return None;
    }
    Some(name.to_owned())
}

/// Labels and annotations.
pub(super) fn annotations(at: &At<'_>, service: &mut Service) {
    pairs_of_texts(at, service);
    let named = pairs(at).into_iter().filter(|(_, name, _)| !name.is_empty());
    service.container.annotations.extend(named.map(|(_, name, value)| (name, value.unwrap_or_default())));
}

/// `size`, as Docker's overlay2 driver has it.
pub(super) fn storage_opt(at: &At<'_>, service: &mut Service) {
    raw(at, service);
    for (name, _, value) in at.map().into_iter().flatten() {
        let size = value.node.text().and_then(quota);
        match (name, size) {
            ("size", Some(size)) => service.container.layer_size = Some(size),
            ("size", None) => value.error_with_hint("not a size", QUOTA_HINT),
            _ => value.error_with_hint(format!("'{name}' is not supported"), "size"),
        }
    }
}

/// The space of a limited directory: it has a few blocks of its own before anything is in it.
pub(crate) fn quota(text: &str) -> Option<u64> {
    parse_size(text).filter(|size| *size >= 1 << 20)
}

pub(crate) const QUOTA_HINT: &str = "1m or more: a number with k, m, g or t";

/// A size in bytes.
pub(super) fn bytes(at: &At<'_>, service: &mut Service) -> Option<u64> {
    match at.text() {
        Some(text) => {
            let bytes = parse_size(text);
            if bytes.is_none() {
                at.error_with_hint("not a size", "bytes, or a number with k, m or g");
            }
            service.put(at, json!(text));
            bytes
        }
        None => None,
    }
}
