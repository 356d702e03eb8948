//! What the machine's keys are read as, and what is said of them.

use super::*;

#[test]
fn the_gate_is_read() {
    let gate = read("#cloud-config\nholdfast: {gate: {settle: 2s, deadline: 1m}}\n").gate;
    assert_eq!((gate.settle_ms, gate.deadline_ms), (2_000, 60_000));
    assert_eq!(read(WEB).gate, plan::Gate::default());
}

#[test]
fn keys_that_log_in_are_kept_once() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti me";
    let text = format!("#cloud-config\nssh_authorized_keys:\n  - {key}\n  - {key}\n");
    assert_eq!(read(&text).ssh_authorized_keys, [key]);
    assert!(
        problems("#cloud-config\nssh_authorized_keys: [hello]\n")[0]
            .starts_with("error 2:23 ssh_authorized_keys[0]:")
    );
}

#[test]
fn machine_keys_are_judged_at_their_place() {
    for (text, expected) in [
        (
            "write_files: [{path: etc/a}]\n",
            "error 2:22 write_files[0].path: 'etc/a' must be an absolute path",
        ),
        ("write_files: [{path: /usr/a}]\n", "error 2:22 write_files[0].path: /usr/a is read-only"),
        ("write_files: [{path: /lib64/a}]\n", "error 2:22 write_files[0].path: /lib64/a is read-only"),
        (
            "write_files: [{path: /a, permissions: 4755}]\n",
            "error 2:39 write_files[0].permissions: must not have set-user-id",
        ),
        (
            "write_files: [{path: /a, permissions: 0999}]\n",
            "error 2:39 write_files[0].permissions: '0999' is not a mode",
        ),
        ("write_files: [{path: /a, owner: web}]\n", "error 2:33 write_files[0].owner: there is no 'web'"),
        ("write_files: [{content: a}]\n", "error 2:15 write_files[0]: a file has no 'path'"),
        (
            "write_files: [{path: /a, content: x, encoding: gzip}]\n",
            "error 2:35 write_files[0].content: the content of /a is not valid gzip",
        ),
        (
            "users: [{name: a, shel: b}]\n",
            "error 2:19 users[0].shel: 'shel' is not a key of a user (did you mean 'shell'?)",
        ),
        (
            "users: {../../etc/x: {ssh_authorized_keys: []}}\n",
            "error 2:22 users.../../etc/x: not a user name",
        ),
        ("users: [{name: ..}]\n", "error 2:16 users[0].name: not a user name"),
        ("timezone: ../etc\n", "error 2:11 timezone: not a time zone"),
        ("ntp: {servers: ['a b']}\n", "error 2:17 ntp.servers[0]: not the name or address"),
        (
            "ntp: {server: [a]}\n",
            "error 2:7 ntp.server: 'server' is not a key of 'ntp' (did you mean 'servers'?)",
        ),
        ("power_state: {mode: sleep}\n", "error 2:21 power_state.mode: 'sleep' is not supported"),
        ("mounts: [[sdb, /opt/a]]\n", "error 2:10 mounts[0]: nothing can be mounted at '/opt/a'"),
        ("mounts: [[sdb, /var/a, xfs]]\n", "error 2:10 mounts[0]: the file system 'xfs' cannot be mounted"),
        (
            "fs_setup: [{device: a, filesystem: btrfs}]\n",
            "error 2:36 fs_setup[0].filesystem: the file system 'btrfs' cannot be made",
        ),
        ("phone_home: {url: 'ftp://a'}\n", "error 2:19 phone_home.url: must begin with http"),
        ("holdfast: {env: {1a: b}}\n", "error 2:18 holdfast.env.1a: '1a' is not a variable name"),
        ("holdfast: {network: {version: 3}}\n", "error 2:31 holdfast.network.version: version '3'"),
        ("fqdn: a..b\n", "error 2:7 fqdn: not a host name"),
    ] {
        let found = problems(&format!("#cloud-config\n{text}"));
        assert!(
            found.iter().any(|found| found.starts_with(expected)),
            "{text}\n{found:#?}\nexpected {expected}"
        );
    }
}

#[test]
fn what_a_node_lacks_is_said_and_what_asks_for_nothing_is_quiet() {
    let text = "#cloud-config
packages: [nginx]
runcmd: []
package_update: false
disable_root: true
growpart: {mode: auto}
chpasswd: {list: 'root:secret'}
timezone:
x-note: hello
";
    let found = problems(text);
    let starts = [
        "warning 2:1 packages: 'packages' is not applicable",
        "warning 7:1 chpasswd: 'chpasswd' is not applicable",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:#?}");
    assert!(!found.concat().contains("secret"));
}
