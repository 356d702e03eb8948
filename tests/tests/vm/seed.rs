//! User-data is found wherever it may lie.

use vm_tests::{Build, Recipe, Vm};

const HELLO: &str = r#"#cloud-config
services:
  hello:
    image: busybox
    network_mode: none
    command: [sh, -c, "echo seed was read; exec sleep 100000"]
    logging: {driver: console}
"#;

fn hello_is_read_from(kind: &str) {
    let mut vm = Vm::direct(Build::standard()).user_data(HELLO).seed(kind).boot();
    vm.expect_all(&["holdfast: service hello running", "hello: seed was read"]);
    vm.power_off();
}

#[test]
fn from_a_fat_disk() {
    hello_is_read_from("vfat");
}

#[test]
fn from_an_iso_9660_disk() {
    hello_is_read_from("iso");
}

#[test]
fn from_the_kernel_command_line() {
    hello_is_read_from("cmdline");
}

#[test]
fn from_the_verified_root() {
    let mut vm = Vm::netboot(Recipe::named("appliance").config(HELLO).build()).without_network().boot();
    vm.expect_all(&["holdfast: service hello running", "hello: seed was read"]);
    vm.power_off();
}
