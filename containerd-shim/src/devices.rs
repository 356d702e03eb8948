//! Which devices a container may use: what its `config.json` allows is a program of its control group.
//!
//! libcontainer's own takes a library in C, allows tunnels to everybody, and costs the kernel ten times the work.

use std::io;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};
use sys::device_filter::{self, Allowed, Kind, READ, WRITE};

use crate::cgroup::Cgroup;

/// Why devices are not denied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevicesError {
    #[error("config.json denies some devices among those it allows; only all can be denied, before")]
    Order,
    #[error("cannot deny the container other devices")]
    Attach(#[from] io::Error),
}

/// Denies what runs in `cgroup` all devices but those that `spec` allows.
pub(crate) fn restrict(cgroup: &Cgroup, spec: &Spec) -> Result<(), DevicesError> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    Ok(device_filter::attach(&cgroup.open(".")?, &allowed(rules)?)?)
}

/// The devices that are left by rules of which the last one counts.
fn allowed(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Allowed>, DevicesError> {
    let mut allowed = Vec::new();
    for rule in rules {
        let kinds: &[Kind] = match rule.typ() {
            None | Some(LinuxDeviceType::A) => &[Kind::Block, Kind::Character],
            Some(LinuxDeviceType::B) => &[Kind::Block],
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => &[Kind::Character],
            // They are no devices: nobody is asked.
            Some(LinuxDeviceType::P) => &[],
        };
        let [major, minor] = [rule.major(), rule.minor()].map(|number| u32::try_from(number?).ok());
        let letters = rule.access().as_deref().unwrap_or("rwm");
        let access = [('r', READ), ('w', WRITE)].into_iter().filter(|(letter, _)| letters.contains(*letter));
        let access = access.fold(0, |all, (_, bit)| all | bit);
        if rule.allow() {
            allowed.extend(kinds.iter().map(|kind| Allowed { kind: *kind, major, minor, access }));
        } else if kinds.len() == 2 && (major, minor, access) == (None, None, READ | WRITE) {
            allowed.clear();
        } else {
            return Err(DevicesError::Order);
        }
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_config_json_allows_is_what_is_left() {
        let rules = |value| allowed(&serde_json::from_value::<Vec<_>>(value).unwrap());
        let found = rules(json!([
            { "allow": true, "type": "c", "major": 9, "minor": 9, "access": "rwm" },
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
            { "allow": true, "type": "b", "major": 8, "access": "rm" },
            { "allow": true, "type": "a", "access": "w" },
        ]));
        let all = |kind| Allowed { kind, major: None, minor: None, access: WRITE };
        let expected = [
            Allowed { kind: Kind::Character, major: Some(1), minor: Some(3), access: READ | WRITE },
            Allowed { kind: Kind::Block, major: Some(8), minor: None, access: READ },
            all(Kind::Block),
            all(Kind::Character),
        ];
        assert_eq!(found.unwrap(), expected);
        let some = rules(json!([{ "allow": false, "type": "c", "major": 1, "access": "rwm" }]));
        assert!(matches!(some, Err(DevicesError::Order)));
    }
}
