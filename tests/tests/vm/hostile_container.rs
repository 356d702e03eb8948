//! A container that means harm gets nothing that is not its own, and takes nobody with it.

use vm_tests::{Build, Recipe, Vm, hostile_image};

/// What the probe tries: see `tests/hostile-probe/src/main.rs`.
const ATTEMPTS: [&str; 43] = [
    "mount",
    "mount-new-api",
    "unmount",
    "pivot-root",
    "raw-disk",
    "dev-mem",
    "dev-kmsg",
    "open-by-handle",
    "host-files",
    "project-id",
    "write-sysctl",
    "write-sysrq",
    "write-sys",
    "move-cgroup",
    "lift-own-limits",
    "load-module",
    "kexec",
    "reboot",
    "set-clock",
    "set-hostname",
    "kernel-log",
    "port-io",
    "bpf",
    "perf",
    "userfaultfd",
    "io-uring",
    "keyring",
    "swap",
    "accounting",
    "new-user-namespace",
    "clone-user-namespace",
    "clone3",
    "join-namespace",
    "more-capabilities",
    "packet-socket",
    "raw-socket",
    "change-link",
    "other-processes",
    "trace-others",
    "node-sockets",
    "terminal-input",
    "engine-program",
    "no-process-limit",
];

/// What nobody may: the root that programs come from is never written, the kernel is not replaced, and there is always a limit.
const NEVER: [&str; 3] = ["engine-program", "kexec", "no-process-limit"];

/// What kernels of our own configuration do not have, so that not even a privileged container may.
fn lacking() -> &'static [&'static str] {
    const LEAN: [&str; 7] =
        ["load-module", "dev-mem", "write-sysrq", "port-io", "userfaultfd", "io-uring", "accounting"];
    match &*vm_tests::kernel() {
        "vm" => &LEAN,
        // It loads modules.
        "metal" => &LEAN[1..],
        _ => &[],
    }
}

fn build() -> Build {
    Recipe::named("hostile").image("hostile", &hostile_image()).build()
}

/// Fails unless `service` has tried everything, and what `may` says was allowed and the rest was not.
fn assert_tried(vm: &Vm, service: &str, may: impl Fn(&str) -> bool) {
    let said = vm.lines(&format!("{service}: .*: (denied|allowed)"));
    let wrong: Vec<String> = ATTEMPTS
        .iter()
        .filter_map(|name| {
            let prefix = format!(" {service}: {name}: ");
            let line = said.iter().find(|line| line.contains(&prefix));
            let Some(line) = line else { return Some(format!("{name} was not tried")) };
            (line.ends_with(": allowed") != may(name)).then(|| line.clone())
        })
        .collect();
    assert!(wrong.is_empty() && said.len() == ATTEMPTS.len(), "{service}: {} lines; {wrong:#?}", said.len());
}

#[test]
fn nothing_is_allowed_to_a_container_and_all_to_a_privileged_one() {
    let service = |name: &str, keys: &str| {
        format!("  {name}:\n    image: hostile\n    logging: {{driver: console}}\n{keys}")
    };
    // The checks are what the probe looks for a program of the engine in.
    let check = "    healthcheck: {test: [CMD, /probe, 'true'], interval: 1s}\n";
    let config = format!(
        "#cloud-config\nservices:\n{}{}{}",
        service("hostile", check),
        service("node-ids", &format!("    userns_mode: host\n{check}")),
        service("privileged", &format!("    privileged: true\n    pid: host\n{check}")),
    );
    let mut vm = Vm::direct(build()).user_data(&config).boot();
    vm.expect_all(&["hostile: done", "node-ids: done", "privileged: done"]);
    assert_tried(&vm, "hostile", |_| false);
    assert_tried(&vm, "node-ids", |_| false);
    assert_tried(&vm, "privileged", |name| !NEVER.contains(&name) && !lacking().contains(&name));
    vm.power_off();
}

#[test]
fn who_takes_all_processes_or_all_memory_hurts_itself_alone() {
    let look = "sleep 5; for p in /proc/[0-9]*; do n=$$(cat $$p/comm); case $$n in init|holdfastd|containerd-shim*) \
                echo score $$n $$(cat $$p/oom_score_adj);; esac; done; cat /proc/self/oom_score_adj; echo looked";
    let config = format!(
        "#cloud-config\nservices:\n  \
         look: {{image: busybox, privileged: true, pid: host, logging: {{driver: console}}, command: [sh, -c, {look:?}]}}\n  \
         fork: {{image: hostile, command: [fork], pids_limit: 60, logging: {{driver: console}}}}\n  \
         memory: {{image: hostile, command: [memory], logging: {{driver: console}}}}\n  \
         small: {{image: hostile, command: [memory], mem_limit: 64m, logging: {{driver: console}}}}\n  \
         after: {{image: busybox, logging: {{driver: console}}, command: [echo, still here], depends_on: [gone]}}\n  \
         gone: {{image: busybox, network_mode: none, command: [sleep, '20']}}\n"
    )
    .replace("depends_on: [gone]", "depends_on: {gone: {condition: service_completed_successfully}}");
    let mut vm = Vm::direct(build()).user_data(&config).boot();
    vm.expect_all(&[
        "fork: fork: 59 processes, then Resource temporarily unavailable",
        "holdfast: service memory out of memory: the kernel has ended 1 of its processes",
        "holdfast: service memory failed exit=137",
        "holdfast: service small out of memory: the kernel has ended 1 of its processes",
        "look: score init -900",
        "look: score holdfastd -900",
        "look: score containerd-shim -900",
        "look: 0$",
        "after: still here",
    ]);
    vm.never_said("look: score (init|holdfastd) 0$");
    vm.never_said("service (look|after|gone|agent) .*restarts=");
    vm.never_said("holdfast: agent (exited|failed)");
    vm.power_off();
}
