//! Kernel settings: hardened where that costs nothing a container host needs, and raised where defaults are too low.

use std::fs;
use std::io::ErrorKind;

use crate::console;

/// File below `/proc/sys`, value, and why. User namespaces stay allowed: rootless containers are made of them.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("kernel/kptr_restrict", "2", "kernel addresses help an attacker and nobody else"),
    ("kernel/dmesg_restrict", "1", "the kernel log is the host's, not the containers'"),
    ("kernel/unprivileged_bpf_disabled", "1", "no program for the kernel from who is not root"),
    ("net/core/bpf_jit_harden", "2", "no gadgets by way of BPF constants"),
    ("kernel/perf_event_paranoid", "3", "no performance counters for who is not root"),
    ("kernel/yama/ptrace_scope", "1", "only parents trace"),
    ("kernel/kexec_load_disabled", "1", "the kernel that was booted is the one that runs"),
    ("kernel/sysrq", "0", "no commands to the kernel by keyboard or serial break"),
    ("kernel/ctrl-alt-del", "0", "the keys are a request to PID 1, not a reset"),
    ("kernel/panic_on_oops", "1", "a kernel that has lost its way is restarted"),
    ("kernel/pid_max", "4194304", "process ids are not reused soon"),
    ("fs/protected_hardlinks", "1", "no hard links to files of others"),
    ("fs/protected_symlinks", "1", "no links of others followed in /tmp"),
    ("fs/protected_fifos", "2", "no pipes of others opened in /tmp"),
    ("fs/protected_regular", "2", "no files of others opened for writing in /tmp"),
    ("fs/suid_dumpable", "0", "no memory of privileged programs in files"),
    ("fs/inotify/max_user_instances", "8192", "all containers share the limit of their user id"),
    ("fs/inotify/max_user_watches", "1048576", "the same"),
    ("vm/max_map_count", "262144", "databases map many files"),
    ("vm/unprivileged_userfaultfd", "0", "no kernel paused at a point that user space chose"),
    ("dev/tty/ldisc_autoload", "0", "no line disciplines that nobody asked for"),
    ("dev/tty/legacy_tiocsti", "0", "no input typed into another's terminal"),
    ("net/ipv4/tcp_syncookies", "1", "a flood of connections does not lock others out"),
    ("net/ipv4/ping_group_range", "0 2147483647", "ping without the capability for raw sockets"),
    ("net/ipv4/conf/all/accept_redirects", "0", "nobody on the link changes our routes"),
    ("net/ipv4/conf/default/accept_redirects", "0", "the same"),
    ("net/ipv4/conf/all/send_redirects", "0", "we change nobody's"),
    ("net/ipv4/conf/default/send_redirects", "0", "the same"),
    ("net/ipv4/conf/all/accept_source_route", "0", "senders do not choose our routes"),
    ("net/ipv6/conf/all/accept_redirects", "0", "as for IPv4"),
    ("net/ipv6/conf/default/accept_redirects", "0", "the same"),
];

/// Makes every setting. What this kernel does not have is no error.
pub(crate) fn apply() {
    for (file, value, _) in SETTINGS {
        if let Err(error) = fs::write(format!("/proc/sys/{file}"), value)
            && error.kind() != ErrorKind::NotFound
        {
            console::warning(format_args!("cannot set {file} to {value}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_namespaces_stay_allowed() {
        assert!(SETTINGS.iter().all(|(file, ..)| !file.contains("namespaces") && !file.contains("userns")));
    }

    #[test]
    fn each_setting_is_made_once() {
        let names: std::collections::BTreeSet<_> = SETTINGS.iter().map(|(file, ..)| file).collect();
        assert_eq!(names.len(), SETTINGS.len());
    }
}
