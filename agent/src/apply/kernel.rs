//! `holdfast.sysctl` and `holdfast.modules`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::Failures;
use crate::drivers;

/// Loads modules. Those that are built in are there already.
pub(super) fn load_modules(names: &[String], failures: &mut Failures) {
    for name in names {
        let name = name.replace('-', "_");
        drivers::load(&[&name]);
        if !Path::new("/sys/module").join(&name).exists() {
            failures.add(
                "holdfast.modules",
                format_args!("the kernel module '{name}' is not in this release, or cannot be loaded"),
            );
        }
    }
}

/// Sets kernel parameters.
pub(super) fn set_parameters(values: &BTreeMap<String, String>, failures: &mut Failures) {
    for (name, value) in values {
        let path = Path::new("/proc/sys").join(file(name));
        if let Err(error) = fs::write(&path, value) {
            let why = match error.kind() {
                io::ErrorKind::NotFound => "this kernel has no such parameter".to_owned(),
                _ => error.to_string(),
            };
            failures.add("holdfast.sysctl", format_args!("cannot set {name} to '{value}': {why}"));
        }
    }
}

/// The file of a parameter, by sysctl(8)'s rule: dots and slashes change places when a dot comes first, so that names
/// of links may have dots.
fn file(name: &str) -> String {
    let dots_first = name.find(['.', '/']).is_some_and(|at| name.as_bytes().get(at) == Some(&b'.'));
    if !dots_first {
        return name.to_owned();
    }
    name.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_files() {
        for (name, expected) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ] {
            assert_eq!(file(name), expected);
        }
    }
}
