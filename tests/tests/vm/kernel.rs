//! The kernel does all that the product relies on: the gate for a new kernel, run for each of them
//! (`HOLDFAST_TEST_KERNEL`), and what it boots on. The watchdog's reset and the power button are part of other tests.

use vm_tests::{Build, Recipe, Vm, kernel, kernel_probe};

/// What the probe checks: see `tests/kernel-probe/src/main.rs`.
const CHECKS: &[&str] = &[
    "namespaces",
    "seccomp",
    "device-denied",
    "cgroup-controllers",
    "pressure",
    "security-modules",
    "unprivileged-bpf-off",
    "sha256-by-the-processor",
    "watchdog",
    "clock",
    "power-button",
    "tpm",
    "file-systems",
    "drivers",
    "erofs-from-a-file",
    "overlay-in-a-user-namespace",
    "idmapped-mount",
    "fs-verity",
    "project-quota",
    "dm-crypt",
    "no-link-unasked",
    "netlink-refuses-nonsense",
    "bridge",
    "veth",
    "dummy",
    "vlan",
    "bond",
    "macvlan",
    "wireguard",
    "tun",
    "ipv6",
    "vsock",
    "nat",
    "conntrack",
    "reject",
    "fib",
    "filter-log",
    "done",
];

#[test]
fn the_kernel_does_all_that_holdfast_relies_on() {
    let build = Recipe::named("kernel-probe").binary("holdfastd", &kernel_probe()).build();
    let mut vm = Vm::direct(build).boot();
    vm.expect("kernel-probe: done");
    vm.never_said("kernel-probe: .* is MISSING");
    let said = vm.lines("kernel-probe: ");
    for check in CHECKS {
        assert!(
            said.iter().any(|line| line.contains(&format!("kernel-probe: {check}"))),
            "{check} was not checked"
        );
    }
    if kernel() == "vm" {
        vm.never_said("kernel-probe: done, a kernel with modules");
    }
    vm.power_off();
}

/// A service that says that it runs.
const HELLO: &str = r#"#cloud-config
services:
  hello:
    image: busybox
    network_mode: host
    command: [sh, -c, "echo here I am; exec sleep 100000"]
    logging: {driver: console}
"#;

#[test]
fn a_real_machines_devices_are_found_by_what_they_say_they_are() {
    let mut vm = Vm::direct(Build::standard()).on_hardware().user_data(HELLO).boot();
    // A cloud has no adapter like this one: the kernels for virtual machines have no driver for it.
    let has_driver = matches!(kernel().as_str(), "debian" | "metal");
    let addressed = has_driver.then_some("address e.* 10.0.2.15");
    vm.expect_all(&addressed.into_iter().chain(["hello: here I am"]).collect::<Vec<_>>());
    vm.power_off();
}

#[test]
fn a_machine_without_firmware_and_pci_holds_a_container() {
    // Only this kernel is also there in the form that such a machine takes.
    if kernel() == "vm" {
        let mut vm = Vm::microvm(Build::standard()).user_data(HELLO).boot();
        vm.expect_all(&["address e.* 10.0.2.15", "hello: here I am"]);
        vm.power_off();
    }
}
