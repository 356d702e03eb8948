//! The users of a container are not the node's, and neither it nor its files notice.

use vm_tests::{Build, Disk, Vm};

/// A service without a network that runs `script` in `image` and says what it sees on the console.
fn service(name: &str, image: &str, script: &str, keys: &str) -> String {
    format!(
        "  {name}:\n    image: {image}\n    network_mode: none\n    logging: {{driver: console}}\n    \
         command: [sh, -c, {script:?}]\n{keys}"
    )
}

/// The first id of the node that a container has.
const RANGE: &str =
    "while read -r inside outside count; do echo ids $$inside $$outside $$count; done < /proc/self/uid_map";

/// What `name` has said of its ids: the first one of the node, and how many.
fn range(vm: &Vm, name: &str) -> (u32, u32) {
    let line = vm.lines(&format!(r"{name}: ids 0 \d+ \d+")).pop().expect("it has said its ids");
    let mut words = line.split_whitespace().rev().map(|word| word.parse().expect("a number"));
    let count = words.next().expect("a count");
    (words.next().expect("a first id"), count)
}

#[test]
fn each_service_has_ids_of_its_own_and_files_keep_those_of_the_container() {
    // What is on the disk: the node's root sees it as it is.
    let look = "cd /proc/1/root/var/lib/holdfast; stat -c 'disk %u %g %n' volumes/data/* containers/a/*/upper/mine; \
                stat -c 'made %u %g %n' ../../../srv/made/*; grep -h '^Uid' /proc/[0-9]*/status | sort | uniq -c; echo looked";
    let a = format!(
        "{RANGE}; echo x > /mine; chown 7:8 /mine; stat -c 'own %u %g %n' /mine /etc/passwd /srv/data/from-image /run/secrets/* \
         /host/file; echo x > /srv/data/new; chown 101:102 /srv/data/new; rm /bin/wc; touch /made/new; cat /run/secrets/key; \
         sleep 100000"
    );
    let config = |label: &str| {
        let keys = format!(
            "    user: '0'\n    labels: {{label: {label}}}\n    secrets: [{{source: key, uid: 101, mode: 0400}}]\n    \
             volumes: ['data:/srv/data', '/etc/host:/host:ro', '/srv/made:/made']\n"
        );
        let started = "{condition: service_started}";
        format!(
            "#cloud-config\nvolumes: {{data: }}\nsecrets: {{key: {{content: \"sesame\\n\"}}}}\n\
             write_files: [{{path: /etc/host/file, content: x}}]\nservices:\n{}{}{}{}",
            service("a", "probe", &a, &keys),
            service("b", "probe", &format!("{RANGE}; id -u; sleep 100000"), ""),
            service("node", "probe", &format!("{RANGE}; id -u; sleep 100000"), "    userns_mode: host\n"),
            service(
                "look",
                "busybox",
                &format!("sleep 4; {look}"),
                &format!(
                    "    privileged: true\n    pid: host\n    depends_on: {{a: {started}, b: {started}}}\n"
                )
            ),
        )
    };
    let build = Build::standard();
    let disk = Disk::of(&build);
    let mut vm = Vm::direct(build.clone()).on(&disk).user_data(&config("one")).boot();
    vm.expect_all(&[
        "a: own 7 8 /mine",
        "a: own 0 0 /etc/passwd",
        "a: own 0 0 /srv/data/from-image",
        "a: own 101 0 /run/secrets/key",
        "a: own 0 0 /host/file",
        "a: sesame",
        r"b: ids 0 \d+ 65536",
        "b: 101$",
        "node: ids 0 0 4294967295",
        "look: disk 101 102 volumes/data/new",
        "look: disk 0 0 volumes/data/from-image",
        "look: disk 7 8 containers/a/.*/upper/mine",
        "look: made 0 0 .*/srv/made/new",
        "look: looked",
    ]);
    let (a, b) = (range(&vm, "a"), range(&vm, "b"));
    assert!(a.1 == 65_536 && a.0 >= 65_536 && a.0.abs_diff(b.0) >= 65_536, "{a:?} {b:?}");
    // Nobody but the node's own processes and those who asked for it is the node's root.
    assert!(
        !vm.lines(&format!(r"look: +\d+ Uid:\s{}\s", a.0)).is_empty(),
        "no process has the container's id"
    );
    vm.power_off();

    // The next container of the service, at the next boot.
    let mut vm = Vm::direct(build).on(&disk).user_data(&config("two")).boot();
    vm.expect_all(&["a: own 0 0 /srv/data/from-image", "look: looked"]);
    assert_eq!(range(&vm, "a"), a);
    vm.power_off();
}

#[test]
fn who_needs_other_ids_is_told_and_devices_work() {
    let device = "stat -c 'device %u %g %a' /dev/given; dd if=/dev/given of=/dev/null bs=512 count=1 2>/dev/null && echo read";
    let user = "    user: '70000'\n";
    let config = format!(
        "#cloud-config\nservices:\n{}{}{}",
        service("far", "busybox", "echo ran", user),
        service("near", "busybox", "id -u", "    user: '65535:65535'\n"),
        service("device", "busybox", device, "    devices: ['/dev/vda:/dev/given:r']\n"),
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "holdfast: cannot run far: its user and groups must be below 65536, 70000 is not; with 'userns_mode: host' it has",
        "near: 65535",
        "device: device 0 0 6",
        "device: read",
    ]);
    vm.never_said("far: ran");
    vm.power_off();
}

#[test]
fn a_network_is_used_and_not_changed_by_whose_it_is_not() {
    let guest = "while ! wget -q -O /dev/null http://127.0.0.1/etc/passwd; do sleep 1; done; echo reached; \
                 ip link set eth0 down || echo not changed; sleep 100000";
    let host =
        format!("{RANGE}; ls /sys/class/net; httpd -p 80 || echo no port; touch /sys/new; sleep 100000");
    let config = format!(
        "#cloud-config\nservices:\n  \
         server: {{image: busybox, command: [httpd, -f, -p, '80', -h, /]}}\n  \
         guest:\n    image: busybox\n    network_mode: service:server\n    depends_on: [server]\n    cap_add: [NET_ADMIN]\n    \
         logging: {{driver: console}}\n    healthcheck: {{test: [CMD, wget, -q, -O, /dev/null, http://127.0.0.1/etc/passwd]}}\n    \
         command: [sh, -c, {guest:?}]\n  \
         host:\n    image: busybox\n    network_mode: host\n    userns_mode: private\n    logging: {{driver: console}}\n    \
         command: [sh, -c, {host:?}]\n"
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "guest: reached",
        "guest: not changed",
        "holdfast: service guest healthy",
        r"host: ids 0 \d+ 65536",
        "host: eth0",
        "host: no port",
        "host: touch: /sys/new: Read-only file system",
    ]);
    vm.power_off();
}
