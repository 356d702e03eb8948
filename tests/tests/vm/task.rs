//! The task service of running containers: programs executed in them, what they use, and their being frozen and ended.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;
use vm_tests::{Build, Vm, task_probe};

use crate::services::ISOLATION;

/// A file of the node with the client of the task service.
fn client() -> String {
    let program = std::fs::read(task_probe()).expect("it was built");
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&program).expect("memory can be written");
    let content = STANDARD.encode(packed.finish().expect("memory can be written"));
    format!(
        "write_files: [{{path: /srv/task-probe, permissions: '0755', encoding: gz+b64, content: {content}}}]\n"
    )
}

/// A node with these services, and a privileged one that talks to them: `t NAME VERB ...`.
fn node(services: &str, look: &str) -> String {
    let look = format!(
        "t() {{ /srv/task-probe \"$$@\"; }}; until test -S /run/holdfast/tasks/web.sock; do sleep 1; done; {look}; echo looked"
    );
    format!(
        "#cloud-config\n{}services:\n{services}  look:\n    image: busybox\n    network_mode: none\n    privileged: true\n    \
         depends_on: [web]\n    volumes: ['/srv:/srv', '/run/holdfast/tasks:/run/holdfast/tasks']\n    \
         logging: {{driver: console}}\n    command: [sh, -c, {look:?}]\n",
        client()
    )
}

/// A service that compares what is executed in it with itself.
fn web(keys: &str) -> String {
    let check = format!("({ISOLATION}) > /tmp/exec; cmp /tmp/own /tmp/exec && echo the same");
    let script = format!("({ISOLATION}) > /tmp/own; echo started; while :; do sleep 1; done");
    format!(
        "  web:\n    image: probe\n    restart: always\n    healthcheck: {{disable: true}}\n    environment: {{A: b, CHECK: {check:?}}}\n    \
         logging: {{driver: console}}\n    command: [sh, -c, {script:?}]\n{keys}"
    )
}

#[test]
fn what_is_executed_in_a_container_is_isolated_as_its_container_is() {
    let services = web("    group_add: [log]\n    ulimits: {nofile: 99}\n    oom_score_adj: 7\n");
    let look = "sleep 3; t web exec sh -c 'eval \"$$CHECK\"' < /dev/null; t web exec sh -c 'echo out; echo err >&2; exit 7' < /dev/null; \
         t web exec nothing < /dev/null; echo typed | t web exec cat; t other exec id; \
         (echo 'busybox stty size; busybox tty; echo $$((6*7)); exit 3'; sleep 3) | t web tty sh";
    let mut vm = Vm::direct(Build::standard()).user_data(&node(&services, look)).boot();
    vm.expect("look: the same");
    vm.expect("look: ended with 0");
    vm.expect("look: out");
    vm.expect("look: err");
    vm.expect("look: ended with 7");
    vm.expect("look: cannot execute nothing: No such file");
    vm.expect("look: ended with 127");
    vm.expect("look: typed");
    vm.expect("look: ended with 0");
    vm.expect("look: refused: ");
    vm.expect("look: 40 100");
    vm.expect("look: /dev/pts/0");
    vm.expect("look: 42");
    vm.expect("look: ended with 3");
    vm.expect("look: looked");
    vm.never_said("service web exited");
    vm.power_off();
}

#[test]
fn a_container_is_frozen_counted_and_ended_by_clients_that_come_and_go() {
    let look = "t web state; t web connect; t web pids; t web stats; t web create; t web shutdown; \
                t web leave sh -c 'sleep 4; exit 9'; t web return; \
                i=0; while [ $$i -lt 30 ]; do t web state & i=$$((i+1)); done | grep -c Running; wait; \
                t web pause; t web state; t web exec id < /dev/null; t web resume; t web state; \
                t web wait & sleep 1; t web kill 9; wait; \
                until t web state 2>&1 | grep -q 'web is Running'; do sleep 1; done; echo it is back";
    let mut vm = Vm::direct(Build::standard()).user_data(&node(&web(""), look)).boot();
    vm.expect("look: web is Running");
    vm.expect("look: shim and container are there: true");
    vm.expect("look: [1-3] processes");
    vm.expect(r"look: \d{2,} bytes of metrics");
    vm.expect("look: refused: a service's container is made and ended by init");
    vm.expect("look: refused: a service's container is made and ended by init");
    vm.expect("look: what was left has ended with 9");
    vm.expect("look: 30$");
    vm.expect("look: web is Paused");
    vm.expect("look: refused: the container is frozen");
    vm.expect("look: web is Running");
    vm.expect_all(&["look: ended with 137", "holdfast: service web exited exit=137"]);
    vm.expect("look: it is back");
    vm.power_off();
}

#[test]
fn clients_attach_to_a_container_with_a_terminal_or_an_open_input() {
    let services = "  web:\n    image: busybox\n    network_mode: none\n    tty: true\n    stdin_open: true\n    \
                    user: '101'\n    command: [sh]\n  echo:\n    image: busybox\n    network_mode: none\n    \
                    stdin_open: true\n    logging: {driver: console}\n    \
                    command: [sh, -c, 'while read line; do echo heard $$line; done']\n";
    let look = "sleep 2; echo 'tty; id -u; echo $$((6*7))' | t web attach; echo first | t echo attach; echo second | t echo attach; \
                grep -c 'stdout F 42$$' /proc/1/root/var/log/holdfast/web.log; \
                for p in /proc/[0-9]*; do tr '\\0' ' ' < $$p/cmdline | grep -q '^[^ ]*shim-holdfast-v1 run' && grep ^Pss: $$p/smaps_rollup; done";
    let node = node(services, look).replace("privileged: true", "privileged: true\n    pid: host");
    let mut vm = Vm::direct(Build::standard()).user_data(&node).boot();
    vm.expect_all(&[
        "look: /dev/pts/0",
        "look: 101",
        "look: 42",
        "echo: heard first",
        "look: heard first",
        "look: heard second",
    ]);
    vm.expect("look: 1$");
    vm.expect("look: looked");
    assert_eq!(vm.lines("look: .*detached with 0").len(), 3);
    let shims = vm.lines("look: Pss:");
    assert_eq!(shims.len(), 3, "{shims:?}");
    for shim in shims {
        let kib: u32 =
            shim.split_whitespace().rev().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
        assert!(kib <= 1536, "a shim that was talked to has grown: {shim}");
    }
    vm.power_off();
}
