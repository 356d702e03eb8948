//! Checks from inside that the kernel does all that Holdfast relies on, one line for each thing.
//!
//! It takes the agent's place in an image of its own, so that PID 1, the verified root and the state are as they
//! always are. Every check stands alone: what is missing is named, and the rest is checked all the same.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sys::console;

mod drivers;
mod files;
mod host;
mod netlink;
mod network;

/// Why something that should work does not.
type Fault = Box<dyn std::error::Error>;
type Checked = Result<(), Fault>;

/// A check: what it is about, the modules that a kernel may have it in, and the check itself.
struct Check {
    name: &'static str,
    modules: &'static [&'static str],
    run: fn() -> Checked,
}

const fn check(name: &'static str, modules: &'static [&'static str], run: fn() -> Checked) -> Check {
    Check { name, modules, run }
}

/// What the product uses. `tests/tests/vm/kernel.rs` has the same names.
const CHECKS: &[Check] = &[
    check("namespaces", &[], host::namespaces),
    check("seccomp", &[], host::seccomp),
    check("device-denied", &[], host::device_is_denied),
    check("cgroup-controllers", &[], host::cgroup_controllers),
    check("pressure", &[], host::pressure),
    check("security-modules", &[], host::security_modules),
    check("unprivileged-bpf-off", &[], host::unprivileged_bpf_off),
    check("sha256-by-the-processor", &["sha256_ssse3"], host::fast_sha256),
    check("watchdog", &[], host::watchdog),
    check("clock", &[], host::clock),
    check("power-button", &["button", "evdev"], host::power_button),
    check("tpm", &["tpm_tis", "tpm_crb"], host::tpm),
    check("file-systems", &["fuse", "isofs", "vfat", "efivarfs", "overlay"], host::file_systems),
    check("drivers", &["virtio_console", "virtio_net", "nvme"], host::bus_drivers),
    check("erofs-from-a-file", &["erofs"], files::erofs_from_a_file),
    check("overlay-in-a-user-namespace", &["overlay"], files::overlay_in_a_user_namespace),
    check("idmapped-mount", &[], files::idmapped_mount),
    check("fs-verity", &["loop"], files::changed_block_is_denied),
    check("project-quota", &["loop", "quota_v2"], files::project_quota),
    check("dm-crypt", &["loop", "dm_crypt", "xts"], files::encryption),
    check("no-link-unasked", &[], network::none_unasked),
    check("netlink-refuses-nonsense", &[], network::refuses_nonsense),
    check("bridge", &["bridge"], network::bridge),
    check("veth", &["veth"], network::veth),
    check("dummy", &["dummy"], network::dummy),
    check("vlan", &["8021q"], network::vlan),
    check("bond", &["bonding"], network::bond),
    check("macvlan", &["macvlan"], network::macvlan),
    check("wireguard", &["wireguard"], network::wireguard),
    check("tun", &["tun"], network::tun),
    check("ipv6", &[], network::ipv6),
    check("vsock", &["vsock", "vmw_vsock_virtio_transport"], network::vsock),
    check("nat", &["nf_tables", "nft_chain_nat", "nft_masq"], network::nat),
    check("conntrack", &["nf_tables", "nft_ct"], network::conntrack),
    check("reject", &["nf_tables", "nft_reject_ipv4"], network::reject),
    check("fib", &["nf_tables", "nft_fib_ipv4"], network::fib),
    check("filter-log", &["nf_tables", "nft_log", "nf_log_syslog"], network::log),
];

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [role, rest @ ..] = args.as_slice() {
        if let Err(fault) = files::play(role, rest) {
            console::error(format_args!("kernel-probe: {role}: {fault}"));
            std::process::exit(1);
        }
        return;
    }
    let mut drivers = drivers::Drivers::open();
    for check in CHECKS {
        drivers.load(check.modules);
        match (check.run)() {
            Ok(()) => console::notice(format_args!("kernel-probe: {} works", check.name)),
            Err(fault) => console::error(format_args!("kernel-probe: {} is MISSING: {fault}", check.name)),
        }
    }
    let modules = if Path::new("/proc/modules").exists() { "modules" } else { "no modules" };
    console::notice(format_args!("kernel-probe: done, a kernel with {modules}"));
    // PID 1 would start it again.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// The text of a file.
fn text(path: &str) -> Result<String, Fault> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}").into())
}

/// Fails when one of `wanted` is not among the words of `text`.
fn expect_words(text: &str, wanted: &[&str]) -> Checked {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|word| !text.split([' ', ',', '\t', '\n']).any(|there| there == **word))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("without {missing:?}").into()) }
}

/// Fails when one of `paths` is not there.
fn expect_paths(paths: &[&str]) -> Checked {
    let missing: Vec<_> = paths.iter().filter(|path| !Path::new(path).exists()).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no {missing:?}").into()) }
}
