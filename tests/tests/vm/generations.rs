//! A configuration becomes a generation, whole or not at all.

use std::process::Command;

use serde_json::Value;
use vm_tests::{Build, Disk, Vm, binary};

/// Two services that count the boots of their writable layer; `greeting` belongs to the second one.
fn two(greeting: &str) -> String {
    let count = "echo x >> /boots; echo boot $$(wc -l < /boots)";
    format!(
        r#"#cloud-config
hostname: harbour
services:
  kept:
    image: busybox
    network_mode: none
    command: [sh, -c, "{count}; exec sleep 100000"]
    logging: {{driver: console}}
  changed:
    image: busybox
    network_mode: none
    command: [sh, -c, "echo {greeting}; {count}; exec sleep 100000"]
    logging: {{driver: console}}
"#
    )
}

#[test]
fn a_rejected_configuration_leaves_the_last_one_running_and_a_good_one_changes_what_it_changes() {
    let build = Build::standard();
    let disk = Disk::of(&build);
    let boot = |user_data: &str| Vm::direct(build.clone()).on(&disk).user_data(user_data).boot();

    let mut vm = boot(&two("hello"));
    vm.expect("holdfast: config .* accepted as generation 1");
    vm.expect_all(&["kept: boot 1", "changed: hello", "changed: boot 1"]);
    vm.power_off();

    let mut vm = boot(&two("hello"));
    vm.expect_all(&["holdfast: config .* unchanged, generation 1", "kept: boot 2", "changed: boot 2"]);
    vm.power_off();

    let mut vm = boot(&two("hello").replace("network_mode", "netwrk_mode"));
    vm.expect_all(&[
        r"holdfast: config error \S+:6:5 services.kept.netwrk_mode: ",
        "holdfast: config rejected: generation 1 keeps running",
        "kept: boot 3",
        "changed: boot 3",
    ]);
    assert_eq!(vm.lines("accepted as generation").len(), 0);
    vm.power_off();

    let mut vm = boot(&two("good evening"));
    vm.expect("holdfast: config .* accepted as generation 2");
    vm.expect("holdfast: generation 1 -> 2: restart changed: its image or its settings changed");
    vm.expect("changed: good evening");
    vm.expect("changed: boot 1");
    assert_eq!(vm.lines("generation 1 -> 2: ").len(), 1, "another service changed");
    assert_eq!(vm.lines("kept: boot").len(), 1, "the other service was restarted");
    assert_eq!(vm.lines("kept: boot 4").len(), 1, "the other service has lost what it had written");
    vm.power_off();
}

#[test]
fn a_signal_makes_a_changed_configuration_run_without_a_reboot() {
    // The pattern does not find itself, so this service stays as it is.
    let edit = "mkdir -p /mnt; while ! mount -t vfat /proc/1/root/dev/vdb /mnt; do sleep 1; done; sleep 5; \
                sed -i s/hi-on[e]/hi-two/ /mnt/user-data; umount /mnt; kill -HUP $$(pidof holdfastd); exec sleep 100000";
    let editor = format!(
        "  editor:\n    image: busybox\n    network_mode: none\n    privileged: true\n    pid: host\n    command: [sh, -c, \
         {edit:?}]\n    logging: {{driver: console}}\n"
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&(two("hi-one") + &editor)).boot();
    vm.expect("holdfast: config .* accepted as generation 1");
    vm.expect_all(&["kept: boot 1", "changed: hi-one"]);
    vm.expect("holdfast: config .* accepted as generation 2");
    vm.expect("holdfast: generation 1 -> 2: restart changed: ");
    vm.expect("changed: hi-two");
    assert_eq!(vm.lines("generation 1 -> 2: ").len(), 1, "another service changed");
    assert_eq!(vm.lines("kept: boot|service kept running").len(), 2, "the other service was restarted");
    vm.power_off();
}

#[test]
fn commands_run_in_the_image_that_is_named() {
    let user_data = "#cloud-config
holdfast: {compat: {run_in: busybox}}
bootcmd: [[echo, at every, boot]]
runcmd: ['false', 'cat /proc/1/root/etc/hostname', [echo, once]]
hostname: harbour
";
    let build = Build::standard();
    let disk = Disk::of(&build);
    let mut vm = Vm::direct(build.clone()).on(&disk).user_data(user_data).boot();
    for line in ["at every boot", r"runcmd\[0\] has failed with exit code 1", "harbour", "once"] {
        vm.expect(&format!("commands: {line}"));
    }
    vm.expect("holdfast: service commands exited exit=0");
    vm.power_off();
    let mut vm = Vm::direct(build).on(&disk).user_data(user_data).boot();
    vm.expect("commands: at every boot");
    vm.expect("holdfast: service commands exited exit=0");
    vm.never_said("commands: once");
    vm.power_off();
}

#[test]
fn five_mistakes_are_said_on_the_console_as_the_command_says_them() {
    let user_data = "#cloud-config
hostname: not_a_name
timezone: ../UTC
write_files:
  - {path: /usr/bin/x, content: x}
servces: {}
services:
  web:
    image: busybox
    network_mode: brige
";
    let mut vm = Vm::direct(Build::standard()).user_data(user_data).boot();
    vm.expect("holdfast: config rejected: there is no earlier generation");

    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), user_data).expect("a file can be written");
    let checked = Command::new(binary("holdfast"))
        .args(["check", "--node", "--format", "json"])
        .arg(file.path())
        .output();
    let checked: Value = serde_json::from_slice(&checked.expect("holdfast starts").stdout).expect("JSON");
    let problems = checked["problems"].as_array().expect("a list");
    assert_eq!(problems.len(), 5, "{problems:#?}");
    for problem in problems {
        let text = |key: &str| regex::escape(problem[key].as_str().expect("a text"));
        let place =
            format!("{}:{} {}: {}", problem["line"], problem["column"], text("path"), text("message"));
        assert_eq!(vm.lines(&format!(r"holdfast: config error \S+:{place}")).len(), 1, "{place}");
    }
    vm.power_off();
}

#[test]
fn a_new_container_takes_the_place_of_the_old_one_when_it_works() {
    // No pattern finds itself, so this service stays as it is.
    let edit = "mkdir -p /mnt; change() { while ! mount -t vfat /proc/1/root/dev/vdb /mnt; do sleep 1; done; \
                sed -i s/$$1/$$2/ /mnt/user-data; umount /mnt; kill -HUP $$(pidof holdfastd); }; sleep 5; \
                change hi-on[e] hi-b''ad; sleep 20; change hi-ba[d] hi-two; exec sleep 100000";
    let config = format!(
        "#cloud-config
services:
  editor:
    image: busybox
    network_mode: none
    privileged: true
    pid: host
    command: [sh, -c, {edit:?}]
  web:
    image: busybox
    init: true
    environment: {{SAYS: hi-one}}
    command: [sh, -c, 'echo $$SAYS; case $$SAYS in *ad) ;; *) touch /works;; esac; exec sleep 100000']
    healthcheck: {{test: [CMD, test, -e, /works], interval: 1s, retries: 2}}
    deploy: {{update_config: {{order: start-first}}}}
    logging: {{driver: console}}
  client:
    image: busybox
    depends_on: [web]
    logging: {{driver: console}}
    command: [sh, -c, 'while sleep 1; do nslookup web | grep -c Address.*172 | tr 0123 abcd; done']
"
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&["web: hi-one", "holdfast: service web healthy"]);
    vm.expect_all(&[
        "generation 1 -> 2: start web-2: it takes the place of web",
        "generation 1 -> 2: stop web: once web-2 works, which takes its place",
        "web-2: hi-bad",
        "holdfast: service web-2 unhealthy",
    ]);
    vm.never_said("service web stopped");
    vm.expect_all(&["web-2: hi-two", "holdfast: service web-2 healthy", "holdfast: service web stopped"]);
    vm.never_said("service client (exited|stopped)|client: [ab]");
    vm.power_off();
}
