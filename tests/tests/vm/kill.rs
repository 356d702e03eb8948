//! A killed process comes back, and takes nothing else with it.

use std::fmt::Write as _;
use std::time::Duration;

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

/// What [`KILLS`] prints of what the node holds.
fn held(vm: &Vm, when: &str) -> String {
    let lines = vm.lines(&format!("killer: {when}: "));
    let line = lines.first().expect("it was printed");
    line.split_once(&format!("{when}: ")).expect("it matched").1.to_owned()
}

const KILLS: &str = include_str!("kills.sh");

#[test]
fn after_200_kills_all_services_run_and_nothing_is_left_over() {
    let mut services = String::from("#cloud-config\nservices:\n");
    for number in 0..50 {
        let network = if number % 5 == 0 { "networks: [default]" } else { "network_mode: none" };
        writeln!(
            services,
            "  s{number}: {{image: busybox, restart: always, {network}, command: [sleep, '100000']}}"
        )
        .expect("a text can be written to");
    }
    let script = KILLS.replace('$', "$$");
    write!(
        services,
        "  killer:\n    image: busybox\n    network_mode: none\n    privileged: true\n    pid: host\n    \
         environment: {{SEED: '20261125'}}\n    command: [sh, -c, {script:?}]\n    logging: {{driver: console}}\n"
    )
    .expect("a text can be written to");
    let mut vm = Vm::direct(Build::standard()).memory(1024).user_data(&services).boot();
    let patience = Duration::from_secs(600);
    vm.expect_within("killer: before: ", patience);
    vm.expect_within("killer: kills: 200", patience);
    vm.expect_within("killer: after: ", patience);
    assert_eq!(held(&vm, "after"), held(&vm, "before"));
    vm.never_said("holdfast: service .* failed");
    vm.power_off();
}
