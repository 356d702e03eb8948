//! What is kept between boots, and what happens when it is damaged or missing.

use vm_tests::{Build, Disk, Recipe, Vm};

use crate::{WEB, WEB_RUNS};

const COUNTER: &str = r#"#cloud-config
services:
  counter:
    image: busybox
    network_mode: none
    command: [sh, -c, "echo x >> /boots; echo this is boot $$(wc -l < /boots); exec sleep 100000"]
    logging: {driver: console}
"#;

#[test]
fn a_second_boot_goes_on_with_the_same_state() {
    let build = Build::standard();
    let disk = Disk::of(&build);
    let mut vm = Vm::disk(build.clone()).on(&disk).user_data(COUNTER).boot();
    vm.expect("counter: this is boot 1");
    vm.power_off();
    let mut vm = Vm::disk(build).on(&disk).user_data(COUNTER).boot();
    vm.expect("counter: this is boot 2");
    vm.power_off();
}

#[test]
fn state_survives_a_power_cut_and_a_grown_disk() {
    let build = Build::standard();
    let disk = Disk::of(&build);
    let mut vm = Vm::direct(build.clone()).on(&disk).user_data(COUNTER).boot();
    vm.expect("counter: this is boot 1");
    // Written back within ext4's commit interval of five seconds.
    std::thread::sleep(std::time::Duration::from_secs(20));
    vm.cut_power();
    let mut vm = Vm::direct(build).on(&disk).disk_size("8G").user_data(COUNTER).boot();
    vm.expect("counter: this is boot 2");
    vm.power_off();
}

#[test]
fn a_state_partition_full_of_garbage_is_not_wiped() {
    let build = Build::standard();
    let disk = Disk::of(&build);
    let mut vm = Vm::direct(build.clone()).on(&disk).user_data(WEB).boot();
    vm.expect_all(&WEB_RUNS);
    vm.power_off();

    let (start, _) = disk.partition("state");
    let garbage: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    disk.write(start, &garbage);
    let mut vm = Vm::direct(build).on(&disk).user_data(WEB).boot();
    vm.expect("holdfast: state is in memory.*left as it is");
    vm.expect_all(&WEB_RUNS);
    vm.power_off();
    assert_eq!(disk.read(start, garbage.len()), garbage, "the garbage was overwritten");
}

#[test]
fn without_a_disk_state_is_in_memory_and_the_node_says_so() {
    let mut vm = Vm::netboot(Build::standard()).user_data(COUNTER).boot();
    vm.expect("holdfast: state is in memory");
    vm.expect("counter: this is boot 1");
    vm.power_off();
}

#[test]
fn a_service_of_the_last_plan_runs_when_the_agent_cannot_start() {
    let build = Build::standard();
    let disk = Disk::of(&build);
    let mut vm = Vm::disk(build.clone()).on(&disk).user_data(COUNTER).boot();
    vm.expect("counter: this is boot 1");
    vm.power_off();

    let broken = Recipe::named("broken-agent").version("0.2.0").broken("holdfastd").build();
    disk.install("b", &broken, 0);
    let mut vm = Vm::disk(broken).on(&disk).user_data(COUNTER).boot();
    vm.expect_all(&["holdfast: agent cannot be started", "counter: this is boot 2"]);
    vm.power_off();
}
