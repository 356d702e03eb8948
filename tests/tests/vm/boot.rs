//! The same user-data runs the same services however the machine was booted.

use vm_tests::{Build, Vm};

use crate::{WEB, WEB_RUNS};

#[test]
fn direct_boot_runs_the_services() {
    let mut vm = Vm::direct(Build::standard()).user_data(WEB).port(80).boot();
    vm.expect("holdfast: boot init-start");
    vm.expect("holdfast: boot root-verified");
    vm.expect("holdfast: boot state-ready");
    vm.expect_all(&WEB_RUNS);
    vm.http(80).expect("Holdfast");
    vm.power_off();
}

#[test]
fn uefi_boot_from_a_disk_of_2_gib_runs_the_services() {
    let mut vm = Vm::disk(Build::standard()).disk_size("2G").user_data(WEB).port(80).boot();
    vm.expect("holdfast: boot root-verified");
    vm.expect_all(&WEB_RUNS);
    vm.http(80).expect("Holdfast");
    vm.power_off();
}

#[test]
fn uefi_boot_from_a_disk_of_64_gib_runs_the_services() {
    let mut vm = Vm::disk(Build::standard()).disk_size("64G").user_data(WEB).boot();
    vm.expect_all(&WEB_RUNS);
    vm.power_off();
}

#[test]
fn netboot_without_a_disk_runs_the_services() {
    let mut vm = Vm::netboot(Build::standard()).user_data(WEB).port(80).boot();
    vm.expect("holdfast: boot root-verified");
    vm.expect_all(&WEB_RUNS);
    vm.http(80).expect("Holdfast");
    vm.power_off();
}

#[test]
fn without_a_network_what_needs_none_runs() {
    let mut vm = Vm::direct(Build::standard()).without_network().user_data(WEB).boot();
    vm.expect("holdfast: service hello running");
    vm.expect("holdfast: service web running");
    vm.power_off();
}

#[test]
fn a_machine_of_128_mib_boots_and_holds_a_container() {
    let mut vm = Vm::direct(Build::standard()).memory(128).user_data(WEB).boot();
    vm.expect_all(&WEB_RUNS);
    vm.power_off();
}

#[test]
fn a_machine_without_user_data_says_so_and_stays_up() {
    let mut vm = Vm::direct(Build::standard()).boot();
    vm.expect("holdfast: .*no user-data");
    vm.power_off();
}
