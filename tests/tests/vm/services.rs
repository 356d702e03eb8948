//! What the keys of a service say is so in its container.

use vm_tests::{Build, Disk, Vm};

/// A service called `name` that runs `script` in `image`, with more `keys`, and says what it sees on the console.
fn service(name: &str, image: &str, script: &str, keys: &str) -> String {
    format!(
        "  {name}:\n    image: {image}\n    network_mode: none\n    logging: {{driver: console}}\n    \
         command: [sh, -c, {script:?}]\n{keys}"
    )
}

/// A configuration of these services, with more top-level `sections`.
fn node(sections: &str, services: &[String]) -> String {
    format!("#cloud-config\n{sections}\nservices:\n{}", services.concat())
}

#[test]
fn users_and_groups_are_the_image_s() {
    let who = "id; echo home $$HOME; sleep 100000";
    let config = node(
        "",
        &[
            service("image", "probe", who, ""),
            service("given", "probe", who, "    user: web:log\n    group_add: [ssl, 7]\n"),
            service("number", "probe", who, "    user: '101'\n"),
            service("root", "probe", who, "    user: '0'\n"),
            service("stranger", "probe", who, "    user: nginx\n"),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        r"image: uid=101\(web\) gid=102\(web\) groups=102\(web\),110\(ssl\)",
        "image: home /home/web",
        r"given: uid=101\(web\) gid=111\(log\) groups=7,110\(ssl\),111\(log\)",
        r"number: uid=101\(web\) gid=102\(web\) groups=102\(web\),110\(ssl\)",
        r"root: uid=0\(root\) gid=0\(root\)",
        "root: home /root",
        "holdfast: cannot run stranger: the image has no user 'nginx' in its /etc/passwd",
    ]);
    vm.power_off();
}

#[test]
fn volumes_outlive_containers_and_lead_nowhere_else() {
    let keeper = "cd /srv/data; cat from-image; stat -c '%a %u %g' . from-image; echo x >> runs; echo run $$(wc -l < runs)";
    let binder = "cat /etc/app/settings; touch /etc/app/new; ls -d /made; touch /made/here && echo written; echo bound";
    let away = "ls /var/lib/holdfast/keys/in; touch /away/in/file && echo inside";
    let look =
        "cd /proc/1/root; ls var/lib/holdfast/volumes; ls var/lib/holdfast/keys; ls srv/made; echo looked";
    let sections = "volumes: {data: , other: {name: renamed}}\nwrite_files: [{path: /etc/app/settings, content: \"set\\n\"}]";
    let done = "{condition: service_completed_successfully}";
    let config = |tag: &str| {
        node(
            sections,
            &[
                service(
                    "keeper",
                    "probe",
                    keeper,
                    &format!("    volumes: ['data:/srv/data']\n    labels: {{tag: {tag}}}\n"),
                ),
                service(
                    "binder",
                    "busybox",
                    binder,
                    "    volumes: ['/etc/app:/etc/app:ro', '/srv/made:/made']\n",
                ),
                service("away", "probe", away, "    user: '0'\n    volumes: ['other:/away/in']\n"),
                service(
                    "look",
                    "busybox",
                    look,
                    &format!(
                        "    privileged: true\n    pid: host\n    depends_on: {{away: {done}, binder: {done}}}\n"
                    ),
                ),
            ],
        )
    };
    let build = Build::standard();
    let disk = Disk::of(&build);
    let mut vm = Vm::direct(build.clone()).on(&disk).user_data(&config("one")).boot();
    vm.expect_all(&[
        "keeper: from the image",
        "keeper: 750 101 102",
        "keeper: 604 0 0",
        "keeper: run 1",
        "binder: set",
        "binder: .*/etc/app/new: Read-only file system",
        "binder: written",
        "away: inside",
        "look: data",
        "look: renamed",
        "look: here",
        "look: looked",
    ]);
    vm.never_said("look: in$");
    vm.power_off();

    // Another label makes it another container, with the same volume.
    let mut vm = Vm::direct(build).on(&disk).user_data(&config("two")).boot();
    vm.expect("keeper: run [23]");
    vm.power_off();
}

#[test]
fn memory_and_a_root_that_cannot_be_written() {
    let script = "touch /file; touch /run/file && echo run written; grep -E ' (/run|/dev/shm|/scratch) ' /proc/mounts; \
                  /bin/busybox cp /bin/busybox /scratch/busybox && /scratch/busybox true && echo executed";
    let keys =
        "    read_only: true\n    tmpfs: ['/run:size=1m,mode=755', '/scratch:exec']\n    shm_size: 2m\n";
    let mut vm = Vm::direct(Build::standard())
        .user_data(&node("", &[service("memory", "busybox", script, keys)]))
        .boot();
    vm.expect_all(&[
        "memory: .*/file: Read-only file system",
        "memory: run written",
        "memory: tmpfs /run tmpfs .*noexec.*size=1024k,mode=755",
        "memory: shm /dev/shm tmpfs .*size=2048k",
        "memory: executed",
    ]);
    vm.power_off();
}

#[test]
fn secrets_and_configs_are_files_of_the_container_alone() {
    let script = "cd /run/secrets; stat -c '%n %a %u %g' *; cat token /app.conf late; echo; env | grep FROM; sleep 100000";
    let sections = "holdfast: {env: {WORD: open-sesame}}
secrets: {token: {content: top-secret}, word: {environment: WORD}, late: {file: /var/lib/late}}
configs: {settings: {file: /etc/app.conf}}
write_files:
  - {path: /etc/app.conf, content: \"a=b\\n\"}
  - {path: /etc/app.env, content: \"FROM=file\\n\"}
  - {path: /var/lib/late, encoding: b64, content: /2xhdGU=}";
    let keys = "    env_file: /etc/app.env
    secrets: [token, {source: word, target: renamed, mode: 0400, uid: 101}, late]
    configs: [{source: settings, target: /app.conf}]
";
    let look = "sleep 3; cd /proc/1/root; for s in top-secret open-sesame; do busybox grep -rl $$s var/lib/holdfast/generations | \
                while read f; do stat -c '%a %u' $$f; done; done; echo looked";
    let config = node(
        sections,
        &[
            service("reader", "probe", script, keys),
            service("look", "busybox", look, "    privileged: true\n    pid: host\n"),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "reader: late 444 0 0",
        "reader: renamed 400 101 0",
        "reader: token 444 0 0",
        "reader: top-secreta=b",
        r"reader: \\xfflate",
        "reader: FROM=file",
        "look: 600 0",
        "look: looked",
    ]);
    assert!(
        vm.lines(r"look: \d+ \d+").iter().all(|line| line.ends_with("look: 600 0")),
        "others can read a secret"
    );
    vm.power_off();
}

/// What a process may do and where it is, as text.
pub(crate) const ISOLATION: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status; cat /proc/self/cgroup \
                         /proc/self/oom_score_adj /proc/self/uid_map; for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$$n; done; \
                         ulimit -n; env | grep -E '^(HOME|PATH|A)='";

#[test]
fn a_health_check_is_isolated_as_its_container_is() {
    let isolation = |name: &str, keys: &str| {
        let script = format!(
            "({ISOLATION}) > /tmp/own; while ! test -e /tmp/probed; do sleep 1; done; cmp /tmp/own /tmp/probe && echo the same; \
             grep -E 'Seccomp:|CapBnd' /tmp/probe; sleep 100000"
        );
        let test = format!("({ISOLATION}) > /tmp/new; mv /tmp/new /tmp/probe; touch /tmp/probed")
            .replace("mv", "/bin/busybox mv");
        let check =
            format!("    healthcheck: {{test: {test:?}, interval: 1s}}\n    environment: {{A: b}}\n{keys}");
        service(name, "probe", &script, &check)
    };
    let after = "    depends_on: {user: {condition: service_healthy}}\n    user: '0'\n    healthcheck: {disable: true}\n";
    let config = node(
        "",
        &[
            isolation("user", "    group_add: [log]\n    oom_score_adj: 7\n    ulimits: {nofile: 99}\n"),
            isolation("root", "    user: '0'\n    cap_drop: [KILL]\n"),
            isolation(
                "bare",
                "    user: '0'\n    security_opt: ['seccomp=unconfined', 'no-new-privileges=false']\n",
            ),
            service("after", "probe", "echo at last", after),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "holdfast: service user healthy",
        "holdfast: service root healthy",
        "user: the same",
        "root: the same",
        "bare: the same",
        r"user: Seccomp:\t2",
        r"bare: Seccomp:\t0",
        "after: at last",
    ]);
    let said = vm.lines("holdfast: service user healthy|holdfast: service after running");
    assert!(said[0].contains("healthy"), "it did not wait: {said:?}");
    vm.power_off();
}

#[test]
fn who_fails_its_checks_is_unhealthy_and_checks_do_not_pile_up() {
    let hangs = "    healthcheck: {test: 'sleep 1000 & sleep 1000', interval: 1s, timeout: 2s, retries: 2}\n";
    let ends = "    restart: always\n    healthcheck: {test: [CMD, test, -e, /nothing], interval: 1s, retries: 2, x-holdfast-restart: true}\n";
    // A check is a shell and what it starts; however busybox names these, the line is in their arguments.
    let watch = "while sleep 1; do echo $$(ps | grep -c 'sleep 100[0]') of a check; done";
    let recovers = "sleep 8; touch /tmp/well; sleep 100000";
    let config = node(
        "",
        &[
            service("hangs", "busybox", watch, hangs),
            service(
                "ends",
                "busybox",
                "trap 'echo asked; exit 0' TERM; echo started; while :; do sleep 1; done",
                ends,
            ),
            // The image's own check.
            service("recovers", "probe", recovers, "    healthcheck: {interval: 2s, retries: 1}\n"),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "holdfast: service hangs unhealthy: 2 checks in a row failed, the last one was ended by signal 9",
        "holdfast: service ends unhealthy: 2 checks in a row failed, the last one ended with 1",
        "ends: asked",
        "holdfast: service ends running restarts=1",
        "holdfast: service recovers unhealthy",
        "holdfast: service recovers healthy",
        "hangs: [1-3] of a check",
        "hangs: 0 of a check",
    ]);
    vm.never_said("hangs: ([4-9]|[0-9]{2,}) of a check");
    vm.power_off();
}

#[test]
fn limits_hold_and_who_exceeds_them_is_named() {
    let script = "cd /sys/fs/cgroup; for f in memory.max memory.swap.max memory.low cpu.max pids.max; do echo $$f $$(cat $$f); done; \
                  cat /proc/self/oom_score_adj /proc/sys/net/core/somaxconn; echo files $$(ulimit -n)";
    let keys = "    mem_limit: 64m\n    memswap_limit: 64m\n    mem_reservation: 8m\n    cpus: 0.5\n    pids_limit: 50\n    \
                oom_score_adj: 500\n    sysctls: {net.core.somaxconn: 99}\n    ulimits: {nofile: {soft: 100, hard: 200}}\n";
    let hungry = "    deploy: {resources: {limits: {memory: 16m}}}\n    memswap_limit: 16m\n";
    let config = node(
        "",
        &[
            service("limited", "busybox", script, keys),
            service("hungry", "busybox", "tail /dev/zero; echo ended $$?", hungry),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "limited: memory.max 67108864",
        "limited: memory.swap.max 0",
        "limited: memory.low 8388608",
        "limited: cpu.max 50000 100000",
        "limited: pids.max 50",
        "limited: 500$",
        "limited: 99$",
        "limited: files 100",
        "holdfast: service hungry out of memory: the kernel has ended 1 of its processes",
        "hungry: ended 137",
    ]);
    vm.power_off();
}

#[test]
fn rights_devices_and_names_are_as_asked_for() {
    let status = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status";
    let rights = format!("{status}; mount -t tmpfs x /tmp && echo mounted");
    let device = "dd if=/dev/given of=/dev/null bs=512 count=1 2>/dev/null && echo read; \
                  dd if=/dev/zero of=/dev/given bs=512 count=1 2>&1 | grep -o 'not permitted'";
    let waits = "hostname; trap 'echo asked by QUIT; exit 0' QUIT; echo waiting; while :; do sleep 1; done";
    let config = node(
        "",
        &[
            service("few", "busybox", status, "    cap_drop: [ALL]\n    cap_add: [CHOWN]\n"),
            service("more", "busybox", &rights, "    cap_add: [SYS_ADMIN]\n"),
            service("suid", "busybox", status, "    security_opt: ['no-new-privileges:false']\n"),
            service("device", "busybox", device, "    devices: ['/dev/vda:/dev/given:r']\n"),
            service(
                "waits",
                "busybox",
                waits,
                "    stop_signal: SIGQUIT\n    hostname: other\n    container_name: x\n",
            ),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        r"few: CapEff:\t0000000000000001",
        r"few: NoNewPrivs:\t1",
        "more: mounted",
        r"suid: CapEff:\t00000000a00405fb",
        r"suid: NoNewPrivs:\t0",
        r"suid: Seccomp:\t2",
        "device: read",
        "device: not permitted",
        "waits: other",
        "waits: waiting",
        // The driver of the power button comes late.
        "holdfast: boot proven",
    ]);
    vm.monitor("system_powerdown");
    vm.expect("waits: asked by QUIT");
    vm.power_off();
}

#[test]
fn names_control_groups_and_devices_are_the_node_s_when_asked_for() {
    let see = "echo name $$(hostname) $$HOSTNAME; cat /proc/self/cgroup; dd if=/dev/given of=/dev/null bs=512 count=1 2>/dev/null && echo read";
    let make = "mknod /dev/given b $$((0x$$(stat -c %t /node/vda))) $$((0x$$(stat -c %T /node/vda))); dd if=/dev/given of=/dev/null bs=512 count=1 2>/dev/null && \
                echo read";
    let rule = "    userns_mode: host\n    cap_add: [MKNOD]\n    volumes: ['/dev:/node:ro']\n";
    let config = node(
        "hostname: harbour",
        &[
            service("node", "busybox", see, "    uts: host\n    cgroup: host\n    platform: linux/amd64\n"),
            service("own", "busybox", see, "    cgroup: private\n    ipc: private\n"),
            service("without", "busybox", make, rule),
            service("rule", "busybox", make, &format!("{rule}    device_cgroup_rules: ['b *:* rm']\n")),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "node: name harbour harbour",
        "node: 0::/services.slice/node/container",
        "own: name own own",
        "own: 0::/$",
        "rule: read",
        "holdfast: service without exited exit=1",
    ]);
    vm.never_said("without: read");
    vm.power_off();
}

#[test]
fn who_joins_another_container_has_its_processes_memory_and_users() {
    let owner = "cat /proc/self/uid_map > /dev/shm/map; touch /dev/mqueue/queue; echo note > /dev/shm/note; \
                 until test -e /dev/shm/answer; do sleep 1; done; echo answered $$(cat /dev/shm/answer); \
                 test -e /ended || { touch /ended; sleep 12; exit 3; }; exec sleep 100000";
    let joined = "until test -e /dev/shm/note; do sleep 1; done; ls /dev/mqueue; cmp /proc/self/uid_map /dev/shm/map && echo same users; \
                  echo first $$(tr '\\0' ' ' < /proc/1/cmdline | cut -c1-10) me $$(($$$$ > 1)); ls /proc/1/root/dev/shm; \
                  echo hi > /dev/shm/answer; exec sleep 100000";
    let watch = "    healthcheck: {test: 'cmp /proc/self/uid_map /proc/1/uid_map && test -e /dev/shm/note', interval: 1s}\n    restart: always\n";
    let share = "    pid: service:owner\n    ipc: service:owner\n";
    let node_s = "until test -e /dev/shm/left; do sleep 1; done; cat /dev/shm/left";
    let config = node(
        "",
        &[
            service("owner", "busybox", owner, "    ipc: shareable\n    restart: always\n"),
            service("joined", "busybox", joined, &format!("{share}{watch}")),
            service(
                "stranger",
                "busybox",
                "sleep 3; echo sees $$(ls /dev/shm /dev/mqueue | grep -c e$$)",
                "",
            ),
            service("leaves", "busybox", "echo for the node > /dev/shm/left", "    ipc: host\n"),
            service("finds", "busybox", node_s, "    ipc: host\n"),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "joined: queue",
        "joined: same users",
        "joined: first sh -c cat me 1",
        "joined: note",
        "owner: answered hi",
        "holdfast: service joined healthy",
        "stranger: sees 0",
        "finds: for the node",
    ]);
    // With the one its processes and its memory end, and so does the other, which is made again in the next one.
    vm.expect_all(&["holdfast: service owner exited exit=3", "holdfast: service joined exited exit=137"]);
    vm.expect_all(&[
        "joined: queue",
        "joined: same users",
        "owner: answered hi",
        "holdfast: service joined healthy",
    ]);
    vm.power_off();
}

#[test]
fn mounts_that_are_made_later_reach_who_asks_for_them() {
    let look = "until test -e /mnt/done; do sleep 1; done; echo finds $$(cat /mnt/late/file 2>/dev/null || echo nothing)";
    let root = "until test -e /node/var/shared/done; do sleep 1; done; echo finds $$(cat /node/var/shared/late/file)";
    let make = "sleep 2; mkdir -p /mnt/late; mount -t tmpfs tmpfs /mnt/late; echo a mount > /mnt/late/file; touch /mnt/done";
    let inside = "until test -e /mnt/done; do sleep 1; done; mkdir -p /mnt/own; mount -t tmpfs tmpfs /mnt/own; \
                  touch /mnt/own/file && echo made; sleep 100000";
    let volume = |option: &str| format!("    volumes: ['/var/shared:/mnt{option}']\n");
    let before = "    depends_on: [private, slave, node, inside]\n";
    let config = node(
        "",
        &[
            service("private", "busybox", look, &volume("")),
            service("slave", "busybox", look, &volume(":rslave")),
            service("node", "busybox", root, "    volumes: ['/:/node:ro,rslave']\n"),
            service("inside", "busybox", inside, &format!("    privileged: true\n{}", volume(":rslave"))),
            service(
                "maker",
                "busybox",
                make,
                &format!("    privileged: true\n{before}{}", volume(":rshared")),
            ),
            service(
                "after",
                "busybox",
                "sleep 1; echo $$(ls /mnt/late /mnt/own | grep -c file) file",
                &format!(
                    "    depends_on: {{maker: {{condition: service_completed_successfully}}}}\n{}",
                    volume("")
                ),
            ),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "private: finds nothing",
        "slave: finds a mount",
        "node: finds a mount",
        "inside: made",
        // What the maker has mounted is the node's and stays; what a slave mounts is its own.
        "after: 1 file",
        "holdfast: boot proven",
    ]);
    vm.monitor("system_powerdown");
    vm.expect("holdfast: powering off");
    vm.never_said("cannot unmount");
    vm.power_off();
}

#[test]
fn a_health_check_begins_often_and_a_reservation_is_kept() {
    let slow = "sleep 12; touch /up; echo often $$(($$(wc -l < /count) > 3)); sleep 100000";
    let check = "    healthcheck: {test: 'echo >> /count; test -e /up', interval: 1h, start_period: 1h, start_interval: 1s, retries: 1}\n";
    let kept = "cat /sys/fs/cgroup/memory.low; echo of $$(cat /sys/fs/cgroup/memory.max)";
    let resources =
        "    deploy: {resources: {limits: {memory: 64m}, reservations: {memory: 8m, cpus: '0.1'}}}\n";
    let config = node(
        "",
        &[
            service("slow", "busybox", slow, check),
            service(
                "waits",
                "busybox",
                "echo goes",
                "    depends_on: {slow: {condition: service_healthy}}\n",
            ),
            service("kept", "busybox", kept, resources),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&["slow: often 1", "waits: goes", "kept: 8388608", "kept: of 67108864"]);
    vm.never_said("slow unhealthy");
    vm.power_off();
}

#[test]
fn an_init_passes_signals_on_reaps_and_ends_as_its_program_does() {
    let see = "(sleep 1 &); trap 'echo asked; exit 0' TERM; sleep 3; echo first $$(tr '\\0' ' ' < /proc/1/cmdline | cut -d' ' -f1) me $$$$; \
               echo dead $$(grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l); ls /proc/1/fd | wc -l; \
               while :; do sleep 1; done";
    let init = "    init: true\n";
    let none =
        "  none:\n    image: busybox\n    network_mode: none\n    init: true\n    command: [/nothing]\n";
    let config = node(
        "",
        &[
            service("reaper", "busybox", see, init),
            service("user", "probe", "id -u; kill -9 1; echo not mine", &format!("{init}    user: web\n")),
            service("code", "busybox", "exit 5", init),
            service("signal", "busybox", "kill -9 $$$$", init),
            none.to_owned(),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "reaper: first init me [2-9]",
        "reaper: dead 0",
        // What every process has, and its signals.
        "reaper: [34]$",
        "user: 101",
        "user: not mine",
        "holdfast: service code exited exit=5",
        "holdfast: service signal exited exit=137",
        "holdfast: cannot run none: cannot execute /nothing: no such file in the image",
        // By then the driver of the power button is there, which comes late.
        "holdfast: this boot is not good: service code is failed",
    ]);
    vm.monitor("system_powerdown");
    vm.expect("reaper: asked");
    vm.power_off();
}

#[test]
fn a_profile_that_the_configuration_writes_is_the_filter() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_X86_64"}], "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122},
        {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122, "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;
    let see = "mkdir /tmp/a 2>&1; rmdir /gone 2>&1; grep Seccomp: /proc/self/status";
    let config = node(
        &format!("write_files: [{{path: /etc/own.json, content: {profile:?}}}]"),
        &[service("own", "busybox", see, "    security_opt: ['seccomp=/etc/own.json']\n")],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "own: mkdir: .*: Disk quota exceeded",
        "own: rmdir: .*: No such file",
        "own: Seccomp:\\s*2",
    ]);
    vm.power_off();
}

#[test]
fn replicas_are_found_by_one_name_and_come_and_go_alone() {
    let build = Build::standard();
    let disk = Disk::of(&build);
    let config = |scale: u32| {
        format!(
            "#cloud-config\nservices:\n  web:\n    image: busybox\n    scale: {scale}\n    command: [sleep, '100000']\n  client:\n    \
             image: busybox\n    depends_on: [web]\n    logging: {{driver: console}}\n    \
             command: [sh, -c, 'nslookup web; echo asked; sleep 100000']\n"
        )
    };
    let mut vm = Vm::direct(build.clone()).on(&disk).user_data(&config(3)).boot();
    vm.expect_all(&[
        "holdfast: service web running",
        "holdfast: service web-2 running",
        "holdfast: service web-3 running",
    ]);
    vm.expect("client: asked");
    let addresses = vm.lines("client: Address: 1").len();
    assert_eq!(addresses, 3, "each has one");
    vm.power_off();

    let mut vm = Vm::direct(build).on(&disk).user_data(&config(2)).boot();
    vm.expect_all(&[
        "holdfast: generation 1 -> 2: stop web-3: it is no longer in the configuration",
        // It waits for one less.
        "holdfast: generation 1 -> 2: adjust client: it keeps running",
        "holdfast: service web-3 stopped",
    ]);
    assert_eq!(vm.lines("holdfast: generation 1 -> 2: ").len(), 2, "another service was concerned");
    vm.power_off();
}

#[test]
fn a_program_says_itself_that_it_works_and_is_ended_when_it_falls_silent() {
    // What logger(1) says goes to a datagram socket, as lines behind one of its own.
    let say = "say() { logger \"$$(printf 'said\\n%s' $$1)\"; }; ln -s $$NOTIFY_SOCKET /dev/log; sleep 2; \
               echo ready of $$WATCHDOG_USEC; say READY=1; for n in 1 2 3; do sleep 3; say WATCHDOG=1; done; echo silent; \
               sleep 100000";
    let health = "    restart: always\n    healthcheck: {x-holdfast-notify: true, x-holdfast-watchdog: 7s}\n";
    let waits = "    depends_on: {said: {condition: service_healthy}}\n";
    let config = node(
        "",
        &[service("said", "busybox", say, health), service("waits", "busybox", "echo it is healthy", waits)],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    for line in [
        "said: ready of 7000000",
        "waits: it is healthy",
        "said: silent",
        "holdfast: service said unhealthy: no WATCHDOG=1 for 7000 ms",
        "holdfast: service said exited",
        "holdfast: service said running restarts=1",
    ] {
        vm.expect(line);
    }
    vm.power_off();
}

#[test]
fn what_is_run_where_on_what_and_for_how_long_is_as_asked_for() {
    let see = "echo entry $$0 $$1; pwd; cat /proc/sys/kernel/domainname; cat /sys/fs/cgroup/cpuset.cpus; \
               echo weight $$(cat /sys/fs/cgroup/cpu.weight)";
    let asked = format!(
        "  asked:\n    image: busybox\n    network_mode: none\n    logging: {{driver: console}}\n    attach: false\n    \
         entrypoint: [sh, -c, {see:?}]\n    command: [one, two]\n    working_dir: /tmp\n    hostname: berth\n    \
         domainname: example.com\n    cpuset: '0'\n    cpu_shares: 2048\n    annotations: {{org.example.pier: north}}\n"
    );
    let look = "grep -o '\"org.example.pier\": *\"[a-z]*\"' /proc/1/root/var/lib/holdfast/generations/current/bundles/asked/config.json";
    let looks = "    privileged: true\n    pid: host\n    depends_on: [asked]\n";
    let stays = "trap '' TERM; echo stays; while :; do sleep 1; done";
    let leaves = "trap 'sleep 14; echo left in peace; exit 0' TERM; echo waits; while :; do sleep 1; done";
    let config = node(
        "holdfast: {env: {COMPOSE_PROFILES: 'on,other'}}",
        &[
            asked,
            service("looks", "busybox", look, looks),
            service("chosen", "busybox", "echo chosen", "    profiles: [\"on\"]\n"),
            service("left-out", "busybox", "echo chosen", "    profiles: [\"off\"]\n"),
            service("stays", "busybox", stays, "    stop_grace_period: 1s\n"),
            service("leaves", "busybox", leaves, "    stop_grace_period: 40s\n"),
        ],
    );
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect_all(&[
        "asked: entry one two",
        "asked: /tmp",
        "asked: example.com",
        "asked: 0$",
        // Others have 100.
        "asked: weight 174",
        "looks: \"org.example.pier\": *\"north\"",
        "chosen: chosen",
        "stays: stays",
        "leaves: waits",
        // The driver of the power button comes late.
        "holdfast: boot proven",
    ]);
    vm.never_said("left-out");
    vm.monitor("system_powerdown");
    // The one is killed long before the other is ready to go.
    vm.expect("holdfast: service stays did not stop in time: killed");
    vm.expect("leaves: left in peace");
    vm.never_said("service leaves did not stop in time");
    vm.power_off();
}
