//! A killed process comes back, and takes nothing else with it.

use vm_tests::{Build, Vm};

/// A service that beats, and another that gets `command` with all rights over the host's processes.
fn with_killer(command: &str) -> String {
    format!(
        r#"#cloud-config
services:
  beat:
    image: busybox
    network_mode: none
    restart: always
    command: [sh, -c, "echo first beat; i=0; while sleep 1; do i=$$((i+1)); echo beat $$i; done"]
    logging: {{driver: console}}
  victim:
    image: busybox
    network_mode: none
    restart: always
    command: [tail, -f, /dev/null]
  killer:
    image: busybox
    network_mode: none
    privileged: true
    pid: host
    command: [sh, -c, {command:?}]
    logging: {{driver: console}}
"#
    )
}

#[test]
fn a_killed_agent_is_restarted_and_containers_never_stop() {
    let command = "sleep 8; kill -9 $$(pidof holdfastd) && echo killed the agent";
    let mut vm = Vm::direct(Build::standard()).user_data(&with_killer(command)).boot();
    vm.expect_all(&["killer: killed the agent", "holdfast: agent exited exit=137"]);
    vm.expect("holdfast: agent running");
    vm.expect("beat: beat");
    assert_eq!(vm.lines("beat: first beat").len(), 1, "the container was restarted");
    vm.power_off();
}

#[test]
fn a_killed_shim_takes_its_container_with_it_and_both_come_back() {
    let find = "for p in /proc/[0-9]*; do grep -q b[u]ndles/victim $$p/cmdline && kill -9 $${p#/proc/}; done";
    let command = format!("sleep 8; {find}; echo killed the shim");
    let mut vm = Vm::direct(Build::standard()).user_data(&with_killer(&command)).boot();
    vm.expect_all(&["killer: killed the shim", "holdfast: service victim running restarts=1"]);
    assert_eq!(vm.lines("beat: first beat").len(), 1, "another container was restarted");
    vm.power_off();
}

#[test]
fn a_killed_container_is_restarted() {
    let command = "sleep 8; kill -9 $$(pidof tail) && echo killed the container";
    let mut vm = Vm::direct(Build::standard()).user_data(&with_killer(command)).boot();
    vm.expect_all(&[
        "killer: killed the container",
        "holdfast: service victim exited exit=137",
        "holdfast: service victim running restarts=1",
    ]);
    assert_eq!(vm.lines("beat: first beat").len(), 1, "another container was restarted");
    vm.power_off();
}

#[test]
fn killing_everything_leaves_pid_1_which_starts_everything_again() {
    // A shim that dies is always replaced, the killer's as well: it kills once.
    let command = "[ -e /done ] && exit 0; sleep 8; touch /done; echo now; sleep 1; kill -9 -1";
    let mut vm = Vm::direct(Build::standard()).user_data(&with_killer(command)).boot();
    vm.expect("killer: now");
    vm.expect_all(&[
        "holdfast: agent running restarts=1",
        "holdfast: service victim running restarts=1",
        "holdfast: service beat running restarts=1",
        "beat: first beat",
        "holdfast: service killer exited exit=0",
    ]);
    vm.never_said("Kernel panic");
    vm.power_off();
}
