//! Whatever is wrong is said, and the rest runs.

use vm_tests::{Build, Vm};

/// A service that runs beside what is wrong.
const GOOD: &str = "#cloud-config
services:
  good: {image: busybox, network_mode: none, command: [sleep, '100000']}
";

fn boot(user_data: &str) -> Vm {
    Vm::direct(Build::standard()).user_data(user_data).boot()
}

#[test]
fn a_file_that_is_not_yaml_is_refused_with_its_place() {
    let mut vm = boot("#cloud-config\nservices: [\n");
    vm.expect(r"holdfast: config error \S+:2:11: not valid YAML");
    vm.power_off();
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_a_suggestion() {
    let mut vm = boot("#cloud-config\nhostnam: harbour\n");
    vm.expect(r"holdfast: config error \S+:2:1 hostnam: .*hostname");
    vm.power_off();
}

#[test]
fn a_binary_file_is_refused() {
    let mut vm = boot("\u{1}\u{2}\u{3} this is no user-data");
    vm.expect("holdfast: config error");
    vm.power_off();
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let mut vm = boot(&format!("{GOOD}  bad: {{image: nowhere, pull_policy: never, network_mode: none}}\n"));
    vm.expect("holdfast: config error .*nowhere");
    vm.power_off();
}

#[test]
fn a_program_that_does_not_exist_fails_its_service_alone() {
    let mut vm = boot(&format!("{GOOD}  bad: {{image: busybox, network_mode: none, command: [/nowhere]}}\n"));
    vm.expect_all(&["holdfast: service good running", "holdfast: service bad exited exit=127"]);
    vm.power_off();
}

#[test]
fn a_container_that_exits_at_once_is_restarted_ever_more_slowly() {
    let mut vm = boot(&format!(
        "{GOOD}  bad: {{image: busybox, network_mode: none, restart: always, command: ['false']}}\n"
    ));
    // The first starts take as long as a busy machine makes them; the last wait is longer than that, if it has doubled.
    let times: Vec<_> = (0..8).map(|_| vm.expect("holdfast: service bad exited exit=1")).collect();
    assert!(times[7] - times[6] > times[1] - times[0], "the waits do not grow: {times:?}");
    assert_eq!(vm.lines("holdfast: service good running").len(), 1);
    vm.power_off();
}

#[test]
fn a_container_that_eats_all_memory_is_killed_alone() {
    let eat = "{image: busybox, network_mode: none, command: [sh, -c, 'tail /dev/zero']}";
    let mut vm = boot(&format!("{GOOD}  bad: {eat}\n"));
    vm.expect("holdfast: service good running");
    vm.expect("holdfast: service bad exited exit=1(37|43)?");
    assert_eq!(vm.lines("holdfast: service good (exited|failed)").len(), 0, "another container died");
    vm.power_off();
}
