//! The node does not run on altered data.

use vm_tests::{Build, Disk, Recipe, Vm, binary};

use crate::{WEB, WEB_RUNS};

/// A changed bit in the only slot: the kernel restarts the machine at each read of it, until init gives up.
fn the_only_slot_is_given_up_after_a_flip_in(program: &str) {
    let build = Build::standard();
    let disk = Disk::of(&build);
    disk.flip_a_bit_of(&binary(program), "a");
    let mut vm = Vm::disk(build).on(&disk).user_data(WEB).boot();
    for _ in 0..3 {
        vm.expect("holdfast: boot init-start");
        vm.expect("device-mapper: verity: .* is corrupted");
    }
    vm.expect("holdfast: boot stopped");
    vm.never_said("holdfast: service web running");
}

#[test]
fn a_flipped_bit_in_init_stops_a_node_with_one_slot() {
    the_only_slot_is_given_up_after_a_flip_in("init");
}

#[test]
fn a_flipped_bit_in_the_agent_stops_a_node_with_one_slot() {
    the_only_slot_is_given_up_after_a_flip_in("holdfastd");
}

#[test]
fn a_flipped_bit_leads_to_the_other_slot_when_there_is_one() {
    let old = Recipe::named("corrupt-1").version("1.0.0").build();
    let new = Recipe::named("corrupt-2").version("2.0.0").build();
    let disk = Disk::of(&old);
    let mut vm = Vm::disk(old.clone()).on(&disk).user_data(WEB).boot();
    vm.expect_all(&WEB_RUNS);
    vm.expect("holdfast: boot proven");
    vm.power_off();

    disk.install("b", &new, 3);
    disk.flip_a_bit_of(&binary("init"), "b");
    let mut vm = Vm::disk(old).on(&disk).user_data(WEB).boot();
    vm.expect("device-mapper: verity: .* is corrupted");
    vm.expect_all(&WEB_RUNS);
    vm.power_off();
}
