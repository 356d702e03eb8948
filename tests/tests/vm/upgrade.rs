//! A new version is tried, and kept only when its services run.

use vm_tests::{Build, Disk, Recipe, Vm, faulty_init};

fn config(command: &str) -> String {
    format!(
        r#"#cloud-config
holdfast:
  gate: {{settle: 3s, deadline: 60s}}
services:
  main:
    image: busybox
    network_mode: none
    command: [sh, -c, {command:?}]
    logging: {{driver: console}}
"#
    )
}

fn old() -> Build {
    let config = config("echo version one works; exec sleep 100000");
    Recipe::named("upgrade-1").version("1.0.0").config(&config).build()
}

fn new(name: &str, config: &str) -> Recipe {
    Recipe::named(name).version("2.0.0").config(config)
}

/// Boots version 1 until it is proven, puts `new` into slot b to be tried twice, and boots again.
fn upgraded_to(new: &Build) -> (Disk, Vm) {
    let old = old();
    let disk = Disk::of(&old);
    let mut vm = Vm::disk(old.clone()).on(&disk).boot();
    vm.expect("main: version one works");
    vm.expect("holdfast: boot proven");
    vm.power_off();
    disk.install("b", new, 2);
    let vm = Vm::disk(old).on(&disk).surviving_panics().boot();
    (disk, vm)
}

/// Version 1 runs at last, without a hand on the machine.
fn falls_back(new: &Build) {
    let (_disk, mut vm) = upgraded_to(new);
    vm.expect("holdfast: boot trial");
    vm.expect("holdfast: boot fallback");
    vm.expect("main: version one works");
    vm.power_off();
}

#[test]
fn a_version_whose_services_run_is_blessed_and_stays() {
    let config = config("echo version two works; exec sleep 100000");
    let new = new("upgrade-good", &config).build();
    let (disk, mut vm) = upgraded_to(&new);
    vm.expect("holdfast: boot trial");
    vm.expect("main: version two works");
    vm.expect("holdfast: boot blessed");
    vm.power_off();
    let mut vm = Vm::disk(new).on(&disk).boot();
    vm.expect("main: version two works");
    vm.never_said("holdfast: boot trial");
    vm.power_off();
}

#[test]
fn a_version_whose_service_keeps_failing_falls_back() {
    falls_back(&new("upgrade-failing", &config("exit 1")).build());
}

#[test]
fn a_version_whose_init_panics_falls_back() {
    let config = config("exec sleep 100000");
    let new = new("upgrade-panic", &config).binary("init", &faulty_init("fault-panic")).build();
    let (_disk, mut vm) = upgraded_to(&new);
    vm.expect("holdfast: PID 1 has failed");
    vm.expect("main: version one works");
    vm.power_off();
}

#[test]
fn a_version_whose_init_hangs_falls_back() {
    let config = config("exec sleep 100000");
    let new = new("upgrade-hang", &config).binary("init", &faulty_init("fault-hang")).build();
    let (_disk, mut vm) = upgraded_to(&new);
    vm.expect("holdfast: boot root-verified");
    vm.expect("holdfast: boot init-start");
    vm.expect("main: version one works");
    vm.power_off();
}
