//! Services in, bundles out; every bundle must be what the runtime's own types read.

use oci_spec::runtime::{Capability, LinuxNamespaceType, Spec};

use plan::container::Propagation;

use super::*;

fn image() -> Image {
    Image {
        digest: String::new(),
        layers: vec![format!("sha256:{}", "1".repeat(64)), format!("sha256:{}", "2".repeat(64))],
        config: images::Config {
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["serve".to_owned()],
            env: vec!["A=image".to_owned(), "B=image".to_owned()],
            working_dir: Some("/srv".to_owned()),
            user: None,
            stop_signal: Some("SIGQUIT".to_owned()),
            healthcheck: None,
        },
    }
}

fn service(lines: &str) -> Service {
    let text = format!("#cloud-config\nservices:\n  web:\n    image: i\n{lines}");
    let (desired, problems) = config::check("f", text.as_bytes());
    let desired = desired.unwrap_or_else(|| panic!("{problems:#?}"));
    desired.services.into_values().next().expect("one service")
}

fn make_with(lines: &str, image: &Image, hostname: &str) -> Result<Bundle, BundleError> {
    let name = ServiceName::new("web").expect("a valid name");
    let seccomp = json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"] });
    let store = Path::new("/store");
    let service = service(lines);
    bundle(&Input {
        name: &name,
        service: &service,
        image,
        store,
        sealed: &[(image.layers[1].clone(), Sealed { verity: "sha256:v".to_owned(), size: 1 })].into(),
        seccomp: &seccomp,
        hostname,
        certificates: None,
        network: None,
        joined: None,
        ids: plan::container::IdRange { first: 1 << 16 },
    })
}

fn make(lines: &str) -> (Bundle, Spec) {
    let bundle = make_with(lines, &image(), "node-1").expect("a bundle");
    let spec: Spec = serde_json::from_value(bundle.config.clone()).expect("a runtime-spec configuration");
    (bundle, spec)
}

const HOST: &str = "    network_mode: host\n";
const NONE: &str = "    network_mode: none\n";

#[test]
fn the_shim_is_told_where_everything_is() {
    let (bundle, spec) = make(HOST);
    let hex = "1".repeat(64);
    assert_eq!(bundle.shim.layers[0], Path::new(&format!("/store/layers/sha256/{hex}.erofs")));
    let recorded: Vec<_> = bundle.shim.sealed.iter().collect();
    assert_eq!(recorded, [(&bundle.shim.layers[1], &"sha256:v".to_owned())]);
    assert_eq!(bundle.shim.writable, Path::new(paths::CONTAINERS).join("web").join(&bundle.digest));
    assert_eq!(bundle.shim.stop_signal, 3);
    let path = "/var/log/holdfast/web.log".into();
    assert_eq!(bundle.shim.log, Log::File { path, max_size: 10 << 20, max_files: 3 });
    let root = spec.root().as_ref().expect("a root");
    assert_eq!(root.path(), Path::new("/run/holdfast/shim/web/rootfs"));
    let cgroup = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    assert_eq!(cgroup, Some("/services.slice/web/container".into()));
}

#[test]
fn no_key_is_unknown_to_the_runtime() {
    for lines in [HOST, "    network_mode: none\n    privileged: true\n    pid: host\n"] {
        let (bundle, spec) = make(lines);
        let mut back = serde_json::to_value(spec).expect("a value");
        let mut sent = bundle.config;
        for value in [&mut back, &mut sent] {
            // The types keep capabilities as sets, without an order.
            let sets = value["process"]["capabilities"].as_object_mut().expect("capabilities");
            for set in sets.values_mut().filter_map(Value::as_array_mut) {
                set.sort_by_key(Value::to_string);
            }
        }
        assert_eq!(back, sent);
    }
}

#[test]
fn a_container_has_few_rights_by_default() {
    let (_, spec) = make(HOST);
    let process = spec.process().as_ref().expect("a process");
    assert_eq!(process.no_new_privileges(), Some(true));
    let held = process.capabilities().as_ref().and_then(|c| c.effective().clone()).expect("capabilities");
    assert_eq!(held.len(), 12);
    for lacking in [Capability::Mknod, Capability::NetRaw, Capability::SysResource, Capability::SysAdmin] {
        assert!(!held.contains(&lacking), "{lacking}");
    }
    let linux = spec.linux().as_ref().expect("linux");
    assert!(linux.seccomp().is_some() && linux.masked_paths().is_some());
    let rules = linux.resources().as_ref().and_then(|r| r.devices().clone()).expect("device rules");
    assert!(!rules[0].allow() && rules[0].typ().is_none(), "everything is forbidden first");
    assert!(rules[1..].iter().all(|rule| rule.major().is_some()), "and only named devices are allowed");
}

#[test]
fn a_privileged_container_has_all_rights() {
    let (_, spec) = make("    network_mode: host\n    privileged: true\n");
    let process = spec.process().as_ref().expect("a process");
    let held = process.capabilities().as_ref().and_then(|c| c.effective().clone()).expect("capabilities");
    assert_eq!(held.len(), 41);
    assert_eq!(process.no_new_privileges(), Some(false));
    let linux = spec.linux().as_ref().expect("linux");
    assert_eq!((linux.seccomp(), linux.masked_paths(), linux.readonly_paths()), (&None, &None, &None));
}

#[test]
fn namespaces_follow_the_service() {
    for (lines, pid, network) in
        [(HOST, true, false), (NONE, true, true), ("    network_mode: host\n    pid: host\n", false, false)]
    {
        let (_, spec) = make(lines);
        let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().clone()).expect("namespaces");
        let has = |kind| namespaces.iter().any(|namespace| namespace.typ() == kind);
        assert_eq!(has(LinuxNamespaceType::Pid), pid, "{lines}");
        assert_eq!(has(LinuxNamespaceType::Network), network, "{lines}");
        assert!(has(LinuxNamespaceType::Mount) && has(LinuxNamespaceType::Cgroup), "{lines}");
    }
}

#[test]
fn what_it_shares_with_another_service_is_joined_where_the_shim_puts_it() {
    let (bundle, spec) = make(
        "    network_mode: none\n    pid: service:z\n    ipc: service:z\n    shm_size: 1g\n  z: {image: i}\n",
    );
    let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().clone()).expect("namespaces");
    let path = |kind| {
        let found = namespaces.iter().find(|namespace| namespace.typ() == kind);
        found.and_then(|namespace| Some(namespace.path().as_ref()?.to_str()?.to_owned()))
    };
    let shim = |name: &str| Some(format!("/run/holdfast/shim/web/{name}"));
    assert_eq!(path(LinuxNamespaceType::Pid), shim("pidns"));
    assert_eq!(path(LinuxNamespaceType::Ipc), shim("ipcns"));
    assert_eq!(mount_at(&bundle, "/dev/shm")["source"], "/run/holdfast/shim/web/shm");
    let (bundle, spec) = make("    network_mode: none\n    ipc: host\n");
    let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().clone()).expect("namespaces");
    assert!(namespaces.iter().all(|namespace| namespace.typ() != LinuxNamespaceType::Ipc));
    assert_eq!(mount_at(&bundle, "/dev/shm")["source"], "/dev/shm");
    assert_eq!(bundle.shim.ids, None);
}

#[test]
fn mounts_that_are_made_later_reach_it_through_the_shim() {
    let (bundle, spec) = make("    network_mode: none\n    volumes: ['/a:/v:ro,rslave', '/b:/w']\n");
    let binds: Vec<_> = bundle.shim.binds.iter().map(|bind| bind.propagation).collect();
    assert_eq!(binds, [Some(Propagation::Slave), None]);
    assert_eq!(mount_at(&bundle, "/v")["options"], json!(["rbind", "ro", "rro", "rslave"]));
    assert_eq!(spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().clone()), None);
    let long = "volumes: [{type: bind, source: /a, target: /v, bind: {propagation: rshared}}, '/b:/w']";
    let (bundle, spec) = make(&format!("    network_mode: none\n    privileged: true\n    {long}\n"));
    let binds: Vec<_> = bundle.shim.binds.iter().map(|bind| bind.propagation).collect();
    assert_eq!(binds, [Some(Propagation::Shared)]);
    assert_eq!(mount_at(&bundle, "/v")["source"], "/run/holdfast/shim/web/binds/0");
    assert_eq!(mount_at(&bundle, "/w")["source"], "/b");
    let root = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().clone());
    assert_eq!(root.as_deref(), Some("shared"));
}

#[test]
fn ids_are_its_own_unless_it_has_something_of_the_node_s() {
    for (lines, own) in [
        (NONE, true),
        ("    networks: []\n", true),
        (HOST, false),
        ("    network_mode: none\n    userns_mode: host\n", false),
        ("    network_mode: none\n    pid: host\n", false),
        ("    network_mode: none\n    privileged: true\n", false),
        ("    network_mode: host\n    userns_mode: private\n", true),
    ] {
        let (bundle, spec) = make(lines);
        let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().clone()).expect("namespaces");
        let has = namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
        assert_eq!((has, bundle.shim.ids.is_some()), (own, own), "{lines}");
    }
    let (bundle, _) = make("    network_mode: host\n    userns_mode: private\n    volumes: ['/srv:/srv']\n");
    let binds: Vec<_> = bundle.shim.binds.iter().map(|bind| (bind.source.to_str(), bind.whole)).collect();
    assert_eq!(binds, [(Some("/sys"), false), (Some("/srv"), true)]);
    assert_eq!(mount_at(&bundle, "/sys")["source"], "/run/holdfast/shim/web/binds/0");
    assert_eq!(mount_at(&bundle, "/srv")["source"], "/run/holdfast/shim/web/binds/1");
}

#[test]
fn the_name_and_the_hosts_file_follow_the_network() {
    let (_, host) = make(HOST);
    let (_, none) = make(NONE);
    assert_eq!(host.hostname().as_deref(), Some("node-1"));
    assert_eq!(none.hostname().as_deref(), Some("web"));
    let resolv = |spec: &Spec| {
        let mounts = spec.mounts().as_ref().expect("mounts");
        mounts.iter().any(|mount| mount.destination() == Path::new("/etc/resolv.conf"))
    };
    assert!(resolv(&host) && !resolv(&none));
}

#[test]
fn program_and_environment_are_merged_like_dockers() {
    let args =
        |lines: &str| make(&format!("{HOST}{lines}")).1.process().as_ref().expect("process").args().clone();
    let words = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    assert_eq!(args(""), words(&["/entry", "serve"]));
    assert_eq!(args("    command: a b\n"), words(&["/entry", "a", "b"]));
    assert_eq!(args("    command: []\n"), words(&["/entry"]));
    assert_eq!(args("    entrypoint: /own\n"), words(&["/own"]));
    assert_eq!(args("    entrypoint: ''\n    command: c\n"), words(&["c"]));
    let nothing = make_with(&format!("{HOST}    entrypoint: []\n"), &image(), "n");
    assert_eq!(nothing.err(), Some(BundleError::NoProgram));

    let (_, spec) = make(&format!("{HOST}    environment: {{B: own, C: ''}}\n"));
    let process = spec.process().as_ref().expect("a process");
    let path = format!("PATH={}", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    assert_eq!(process.env(), &words(&["A=image", "B=own", "C=", "HOSTNAME=node-1", &path]));
    assert_eq!(process.cwd(), Path::new("/srv"));
}

#[test]
fn users_are_numbers_or_root_or_nobody_until_the_shim_knows_more() {
    for (given, uid, gid) in [
        ("0", 0, 0),
        ("root", 0, 0),
        ("1000", 1000, 0),
        ("101:102", 101, 102),
        ("5:root", 5, 0),
        ("nginx", 65534, 0),
        ("nginx:web", 65534, 65534),
    ] {
        let (bundle, _) = make(&format!("{HOST}    user: '{given}'\n    group_add: [audio, 29]\n"));
        assert_eq!(bundle.config["process"]["user"], json!({ "uid": uid, "gid": gid }), "{given}");
        assert_eq!((bundle.shim.user.user.as_str(), bundle.shim.user.groups.len()), (given, 2));
    }
    let (bundle, _) = make(&format!("{HOST}    user: '101'\n"));
    assert_eq!(bundle.config["process"]["capabilities"]["effective"], json!([]));
}

/// The mount at `target`, as options and source.
fn mount_at(bundle: &Bundle, target: &str) -> Value {
    let mounts = bundle.config["mounts"].as_array().expect("mounts");
    let mut found = mounts.iter().filter(|mount| mount["destination"] == target);
    let mount = found.next().unwrap_or_else(|| panic!("nothing is mounted on {target}"));
    assert!(found.next().is_none(), "{target} is mounted twice");
    mount.clone()
}

#[test]
fn volumes_and_files_are_mounted() {
    let lines = "    network_mode: host
    volumes:
      - data:/var/lib/data
      - /srv/www:/www:ro
      - /var/lib/nameless
      - {type: bind, source: /etc/hosts, target: /etc/hosts, bind: {create_host_path: false}}
      - {type: tmpfs, target: /scratch, tmpfs: {size: 64m, mode: 0700}}
    tmpfs: ['/run:size=1m,exec']
    secrets: [token]
    configs: [{source: settings, target: /etc/app.conf, uid: 7, mode: 0400}]
    shm_size: 1g
    read_only: true
volumes: {data: {name: other}}
secrets: {token: {content: top}}
configs: {settings: {file: /etc/settings}}
";
    let (bundle, spec) = make(lines);
    assert_eq!(spec.root().as_ref().expect("a root").readonly(), Some(true));
    let volume = mount_at(&bundle, "/var/lib/data");
    assert_eq!(
        (volume["source"].as_str(), &volume["options"]),
        (Some("/var/lib/holdfast/volumes/other"), &json!(["rbind", "nodev"]))
    );
    assert_eq!(mount_at(&bundle, "/www")["options"], json!(["rbind", "ro", "rro"]));
    assert_eq!(
        mount_at(&bundle, "/var/lib/nameless")["source"],
        "/var/lib/holdfast/volumes/_web-var-lib-nameless"
    );
    assert_eq!(mount_at(&bundle, "/etc/hosts")["options"], json!(["rbind"]), "in place of the node's own");
    let options = json!(["noexec", "nosuid", "nodev", "size=67108864", "mode=700"]);
    assert_eq!(mount_at(&bundle, "/scratch")["options"], options);
    assert_eq!(
        mount_at(&bundle, "/run")["options"],
        json!(["nosuid", "nodev", "mode=1777", "size=1m", "exec"])
    );
    assert!(mount_at(&bundle, "/dev/shm")["options"].to_string().contains("size=1073741824"));
    assert_eq!(mount_at(&bundle, "/run/secrets/token")["source"], "/run/holdfast/shim/web/files/0");
    assert_eq!(mount_at(&bundle, "/etc/app.conf")["source"], "/run/holdfast/shim/web/files/1");
    let made: Vec<_> =
        bundle.shim.directories.iter().map(|d| (d.path.to_str(), d.copy_of.is_some())).collect();
    assert_eq!(
        made,
        [
            (Some("/srv/www"), false),
            (Some("/var/lib/holdfast/volumes/other"), true),
            (Some("/var/lib/holdfast/volumes/_web-var-lib-nameless"), true),
        ]
    );
    let files = &bundle.shim.files;
    assert_eq!((files[0].mode, files[1].mode, files[1].owner), (0o444, 0o400, (7, 0)));
    assert!(!bundle.config.to_string().contains("top"), "config.json holds no secret");
}

#[test]
fn limits_become_the_runtime_s() {
    let lines = "    network_mode: none
    mem_limit: 64m
    cpus: 0.5
    pids_limit: 20
    cpuset: '0'
    oom_score_adj: 500
    ulimits: {nofile: {soft: 10, hard: 20}, core: 0, memlock: -1}
    sysctls: {net.core.somaxconn: 99}
    deploy: {resources: {reservations: {memory: 8m}}}
";
    let (bundle, _) = make(lines);
    let resources = &bundle.config["linux"]["resources"];
    let mib = 1_u64 << 20;
    assert_eq!(resources["memory"], json!({ "limit": 64 * mib, "swap": 128 * mib, "reservation": 8 * mib }));
    assert_eq!(resources["cpu"], json!({ "quota": 50_000, "period": 100_000, "cpus": "0" }));
    assert_eq!(resources["pids"], json!({ "limit": 20 }));
    let process = &bundle.config["process"];
    assert_eq!(process["oomScoreAdj"], 500);
    let limit = |name: &str, soft: u64, hard: u64| json!({ "type": name, "soft": soft, "hard": hard });
    let all = [
        limit("RLIMIT_CORE", 0, 0),
        limit("RLIMIT_MEMLOCK", u64::MAX, u64::MAX),
        limit("RLIMIT_NOFILE", 10, 20),
    ];
    assert_eq!(process["rlimits"], json!(all));
    assert_eq!(bundle.config["linux"]["sysctl"], json!({ "net.core.somaxconn": "99" }));
}

#[test]
fn the_disk_is_limited_where_that_is_asked_for() {
    let lines = "    network_mode: none
    storage_opt: {size: 1g}
    volumes: ['small:/small', 'all:/all']
volumes: {small: {x-holdfast-size: 10m}, all: {}}
";
    let (bundle, _) = make(lines);
    assert_eq!(bundle.shim.layer_size, Some(1 << 30));
    let mut sizes: Vec<_> = bundle.shim.directories.iter().map(|directory| directory.size).collect();
    sizes.sort();
    assert_eq!(sizes, [None, Some(10 << 20)]);
}

#[test]
fn the_node_s_name_control_groups_and_devices_are_for_those_who_ask() {
    let (bundle, spec) = make(
        "    network_mode: none\n    uts: host\n    cgroup: host\n    device_cgroup_rules: ['b 254:* r']\n",
    );
    let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().clone()).expect("namespaces");
    for kind in [LinuxNamespaceType::Uts, LinuxNamespaceType::Cgroup] {
        assert!(namespaces.iter().all(|namespace| namespace.typ() != kind), "{kind:?}");
    }
    assert_eq!(spec.hostname(), &None);
    let env = bundle.config["process"]["env"].to_string();
    assert!(env.contains("HOSTNAME=node-1"), "{env}");
    let rules = bundle.config["linux"]["resources"]["devices"].as_array().expect("rules");
    let rule = json!({ "allow": true, "type": "b", "major": 254, "access": "r" });
    assert_eq!(rules.last(), Some(&rule));
}

#[test]
fn capabilities_are_added_and_dropped() {
    for (lines, count, has, lacks) in [
        ("    cap_add: [net_admin, CAP_SYS_TIME]\n", 14, "CAP_SYS_TIME", "CAP_SYS_ADMIN"),
        ("    cap_drop: [ALL]\n    cap_add: [CHOWN]\n", 1, "CAP_CHOWN", "CAP_KILL"),
        ("    cap_drop: [KILL]\n", 11, "CAP_CHOWN", "CAP_KILL"),
        ("    cap_add: [ALL]\n    cap_drop: [SYS_MODULE]\n", 40, "CAP_SYS_ADMIN", "CAP_SYS_MODULE"),
    ] {
        let (bundle, _) = make(&format!("{NONE}{lines}"));
        let held = bundle.config["process"]["capabilities"]["effective"].clone();
        let held: Vec<String> = serde_json::from_value(held).expect("names");
        assert_eq!(held.len(), count, "{lines}");
        assert!(held.iter().any(|name| name == has) && held.iter().all(|name| name != lacks), "{held:?}");
    }
}

#[test]
fn the_filter_lets_through_what_a_capability_is_good_for() {
    let seccomp = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        { "names": ["read", "clone"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["clone3"], "action": "SCMP_ACT_ERRNO" },
    ]});
    let filter = |lines: &str| rights::seccomp(&service(&format!("{NONE}{lines}")), &seccomp).expect("rules");
    assert_eq!(filter(""), Some(seccomp.clone()));
    assert_eq!(filter("    security_opt: ['seccomp:unconfined']\n"), None);
    let wider = filter("    cap_add: [SYS_ADMIN]\n").expect("a filter");
    let rules = wider["syscalls"].as_array().expect("rules");
    assert_eq!((rules.len(), &rules[0]["names"]), (2, &json!(["read"])), "each call has one rule");
    assert!(rules[1]["names"].to_string().contains("\"mount\""));
    let counted = filter("    userns_mode: host\n").expect("a filter");
    let requests: Vec<_> = counted["syscalls"].as_array().expect("rules")[..2]
        .iter()
        .map(|rule| (&rule["names"][0], &rule["action"], &rule["args"][0]["valueTwo"]))
        .collect();
    let (call, action) = (json!("ioctl"), json!("SCMP_ACT_ERRNO"));
    let [extended, flags] = [json!(0x401c_5820), json!(0x4008_6602)];
    assert_eq!(requests, [(&call, &action, &extended), (&call, &action, &flags)]);
}

#[test]
fn a_profile_of_its_own_takes_the_place_of_the_default_one() {
    let mut service = service(NONE);
    service.container.filter = Some(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["mount"], "action": "SCMP_ACT_NOTIFY", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#
            .to_owned(),
    );
    let filter = rights::seccomp(&service, &json!({})).expect("a profile").expect("a filter");
    assert_eq!(
        (&filter["syscalls"][0]["names"], filter["syscalls"].as_array().map(Vec::len)),
        (&json!(["mkdir"]), Some(1))
    );
    service.container.cap_add = vec!["CAP_SYS_ADMIN".to_owned()];
    let error = rights::seccomp(&service, &json!({})).expect_err("nobody is notified").to_string();
    assert!(error.starts_with("the profile of 'security_opt' cannot be used"), "{error}");
}

#[test]
fn the_bit_against_new_privileges_can_be_left_out() {
    let bit =
        |lines: &str| make(&format!("{NONE}{lines}")).0.config["process"].get("noNewPrivileges").cloned();
    assert_eq!(bit(""), Some(true.into()));
    assert_eq!(bit("    security_opt: ['no-new-privileges:false']\n"), None);
}

#[test]
fn a_health_check_is_the_service_s_over_the_image_s() {
    let mut image = image();
    let test = ["CMD", "/check"].map(str::to_owned).to_vec();
    image.config.healthcheck =
        Some(images::Healthcheck { test, interval: 7_000_000_000, ..Default::default() });
    let check =
        |lines: &str| make_with(&format!("{HOST}{lines}"), &image, "n").expect("a bundle").shim.health;
    let own = check("").expect("the image's");
    assert_eq!(
        (own.test, own.interval_ms, own.timeout_ms, own.retries),
        (vec!["/check".to_owned()], 7_000, 30_000, 3)
    );
    let mixed = check("    healthcheck: {test: 'true', retries: 1, timeout: 1s}\n").expect("a check");
    assert_eq!((mixed.test.len(), mixed.interval_ms, mixed.timeout_ms, mixed.retries), (3, 7_000, 1_000, 1));
    for none in ["{test: [NONE]}", "{disable: true}"] {
        assert_eq!(check(&format!("    healthcheck: {none}\n")), None);
    }
    assert_eq!(make(HOST).0.shim.health, None);
}

#[test]
fn the_digest_changes_exactly_with_what_runs() {
    let same = |a: &str, b: &str| make(a).0.digest == make(b).0.digest;
    assert!(same(HOST, HOST));
    for other in [
        NONE,
        "    network_mode: host\n    command: x\n",
        "    network_mode: host\n    logging: {driver: none}\n",
        "    network_mode: host\n    logging: {options: {max-file: 4}}\n",
    ] {
        assert!(!same(HOST, other), "{other}");
    }
    // How PID 1 treats it is not what runs.
    assert!(same(HOST, "    network_mode: host\n    restart: always\n    stop_grace_period: 1s\n"));
}
