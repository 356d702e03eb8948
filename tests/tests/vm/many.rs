//! Many services at once.

use std::fmt::Write as _;

use vm_tests::{Build, Vm};

/// How many: what a busy node holds.
const SERVICES: usize = 50;

#[test]
fn fifty_services_run_and_stop_with_the_machine() {
    let mut services = String::from("#cloud-config\nservices:\n");
    for number in 0..SERVICES {
        writeln!(services, "  s{number}: {{image: busybox, network_mode: none, command: [sleep, '100000']}}")
            .expect("a text can be written to");
    }
    let mut vm = Vm::direct(Build::standard()).memory(1024).user_data(&services).boot();
    let running: Vec<String> = (0..SERVICES).map(|n| format!("holdfast: service s{n} running")).collect();
    vm.expect_all(&running.iter().map(String::as_str).collect::<Vec<_>>());
    vm.never_said("holdfast: service .* (exited|failed)");
    vm.power_off();
}
