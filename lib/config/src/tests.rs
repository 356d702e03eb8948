//! Whole files in, problems and the desired state out.

use std::time::{Duration, Instant};

use plan::{Condition, Restart};
use proptest::prelude::*;

use super::*;

const WEB: &str = "#cloud-config
hostname: web-1
services:
  web:
    image: nginx
    network_mode: host
";

/// The problems as console lines without the source's name.
fn problems(text: &str) -> Vec<String> {
    let (desired, problems) = check("f", text.as_bytes());
    let errors = problems.iter().any(|p| p.severity == Severity::Error);
    assert_eq!(desired.is_none(), errors, "there is a result exactly when there is no error");
    problems.iter().map(|p| p.to_string().replacen(" f:", " ", usize::from(p.line.is_some()))).collect()
}

/// A service 'a' with `lines` added.
fn service(lines: &str) -> String {
    format!("#cloud-config\nservices:\n  a:\n    image: i\n    network_mode: none\n{lines}")
}

fn read(text: &str) -> Desired {
    let (desired, problems) = check("f", text.as_bytes());
    desired.unwrap_or_else(|| panic!("{problems:#?}"))
}

fn read_service(lines: &str) -> Service {
    read(&service(lines)).services.into_values().next().expect("one service")
}

#[test]
fn a_web_service_gets_its_defaults() {
    let desired = read(WEB);
    assert_eq!(desired.hostname.as_deref(), Some("web-1"));
    let (name, web) = desired.services.first_key_value().expect("one service");
    assert_eq!(name.as_str(), "web");
    assert_eq!(web.image.value, "nginx");
    assert_eq!((web.image.mark.line, web.image.mark.column), (5, 12));
    assert_eq!((&web.network, web.restart), (&Network::Host, Restart::No));
    assert_eq!(
        (web.stop_grace_period, web.logging),
        (Duration::from_secs(10), Logging::File(LogFiles::default()))
    );
    assert_eq!((&web.command, &web.entrypoint, &web.user), (&None, &None, &None));
}

#[test]
fn every_key_of_a_service_is_read() {
    let all = read_service(
        "    command: nginx -g 'daemon off;'
    entrypoint: [/bin/a, b c]
    environment: {A: 1, B: 'x$$y', C: yes, D: '', E: 0644}
    working_dir: /srv
    user: '101:0'
    restart: on-failure:3
    privileged: yes
    pid: host
    stop_grace_period: 1m30s
    logging: {driver: console}
    x-mine: {any: thing}
",
    );
    assert_eq!(all.command.expect("command"), ["nginx", "-g", "daemon off;"]);
    assert_eq!(all.entrypoint.expect("entrypoint"), ["/bin/a", "b c"]);
    let environment: Vec<_> = all.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(environment, [("A", "1"), ("B", "x$y"), ("C", "yes"), ("D", ""), ("E", "0644")]);
    assert_eq!(all.restart, Restart::OnFailure { max: Some(3) });
    assert!(all.privileged && all.host_pid);
    assert_eq!(all.stop_grace_period, Duration::from_secs(90));
    assert_eq!((all.logging, &all.network), (Logging::Console, &Network::None));
    assert_eq!(all.user.map(|user| user.value).as_deref(), Some("101:0"));
    assert_eq!(read_service("    restart: no\n").restart, Restart::No);
    assert_eq!(read_service("    environment: [A=b=c, D=]\n").environment["A"], "b=c");
    assert_eq!(read_service("    command: []\n").command, Some(vec![]));
    assert_eq!(read_service("    command:\n").command, None);
}

#[test]
fn aliases_and_merge_keys_are_resolved() {
    let text = "#cloud-config
x-common: &common {network_mode: host, restart: always}
services:
  a: {<<: *common, image: a, restart: no}
  b: {<<: *common, image: b, depends_on: [a]}
  c: {<<: *common, image: c, depends_on: {a: {condition: service_completed_successfully}}}
";
    let services = read(text).services;
    let restarts: Vec<_> = services.values().map(|service| service.restart).collect();
    assert_eq!(restarts, [Restart::No, Restart::Always, Restart::Always]);
    let conditions: Vec<_> = services.values().flat_map(|s| s.depends_on.values().copied()).collect();
    assert_eq!(conditions, [Condition::ServiceStarted, Condition::ServiceCompletedSuccessfully]);
}

#[test]
fn the_gate_is_read() {
    let gate = read("#cloud-config\nholdfast: {gate: {settle: 2s, deadline: 1m}}\n").gate;
    assert_eq!((gate.settle_ms, gate.deadline_ms), (2_000, 60_000));
    assert_eq!(read(WEB).gate, plan::Gate::default());
}

#[test]
fn keys_that_log_in_are_kept_once() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti me";
    let text = format!("#cloud-config\nssh_authorized_keys:\n  - {key}\n  - {key}\n");
    assert_eq!(read(&text).ssh_authorized_keys, [key]);
    assert!(
        problems("#cloud-config\nssh_authorized_keys: [hello]\n")[0]
            .starts_with("error 2:23 ssh_authorized_keys[0]:")
    );
}

#[test]
fn each_mistake_is_said_at_its_place() {
    for (text, expected) in [
        (
            "#cloud-config\nservcies: {}\n",
            "error 2:1 servcies: 'servcies' is not a key of a node's configuration (did you mean 'services'?)",
        ),
        ("#cloud-config\nhostname: a_b\n", "error 2:11 hostname: not a host name"),
        ("#cloud-config\nhostname: [a]\n", "error 2:11 hostname: must be text, not a list"),
        (
            "#cloud-config\nhostname: a\nhostname: b\n",
            "error 3:1 hostname: the key 'hostname' is given twice: first on line 2",
        ),
        ("#cloud-config\n- a\n", "error 2:1: user-data must be a map of keys and values, not a list"),
        (
            "#cloud-config\nnetworks: {a: {driver: overlay}}\n",
            "error 2:24 networks.a.driver: 'overlay' is not supported: it must be 'bridge'",
        ),
        (
            "#cloud-config\nholdfast: {gate: {settle: 10}}\n",
            "error 2:27 holdfast.gate.settle: '10' is not a duration",
        ),
        (
            "#cloud-config\nholdfast: {gate: {settle: 25h}}\n",
            "error 2:27 holdfast.gate.settle: must not be longer",
        ),
        ("#cloud-config\nservices: {a: {network_mode: host}}\n", "error 2:15 services.a: has no 'image'"),
        (
            "#cloud-config\nservices: {-a: {image: i, network_mode: host}}\n",
            "error 2:16 services.-a: '-a' is not a service name",
        ),
    ] {
        let found = problems(text);
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{text}\n{found:#?}\nexpected {expected}"
        );
    }
    for (lines, expected) in [
        ("    ports: ['80:80']\n", "error 6:12 services.a.ports: a service without network has no ports"),
        (
            "    network-mode: host\n",
            "error 6:5 services.a.network-mode: 'network-mode' is not a key of a service (did you mean 'network_mode'?)",
        ),
        (
            "    restart: sometimes\n",
            "error 6:14 services.a.restart: 'sometimes' is not supported: it must be 'no', 'always'",
        ),
        ("    restart: on-failure:0\n", "error 6:14 services.a.restart: the number"),
        ("    privileged: maybe\n", "error 6:17 services.a.privileged: must be true or false"),
        ("    command: 'a \"b'\n", "error 6:14 services.a.command: has a double quote"),
        ("    command: [a, [b]]\n", "error 6:18 services.a.command[1]: must be text, not a list"),
        ("    environment: [A]\n", "error 6:19 services.a.environment[0]: the variable 'A' has no value"),
        ("    environment: {A: }\n", "error 6:20 services.a.environment.A: the variable 'A' has no value"),
        (
            "    environment: {A: '${HOME}'}\n",
            "error 6:22 services.a.environment.A: the variable 'HOME' is not set (declare it",
        ),
        ("    working_dir: srv\n", "error 6:18 services.a.working_dir: 'srv' must be an absolute path"),
        ("    user: 'a b'\n", "error 6:11 services.a.user: not a user"),
        ("    user: 99999999999\n", "error 6:11 services.a.user: not a user"),
        ("    pid: container:b\n", "error 6:10 services.a.pid: 'container:b' is not supported"),
        ("    depends_on: [b]\n", "error 6:17 services.a.depends_on: there is no service 'b'"),
        ("    depends_on: [a]\n", "error 6:17 services.a.depends_on: services wait for each other: a -> a"),
        ("    depends_on: {b: {}}\n", "error 6:21 services.a.depends_on.b: has no 'condition'"),
        (
            "    logging: {driver: journald}\n",
            "error 6:23 services.a.logging.driver: 'journald' is not supported: it must be 'file', 'json-file', 'local', ",
        ),
        (
            "    logging: {driver: none, options: {max-file: 2}}\n",
            "error 6:29 services.a.logging.options: only files have a size and a number",
        ),
        (
            "    logging: {options: {max-size: 1x}}\n",
            "error 6:35 services.a.logging.options.max-size: not a size",
        ),
        (
            "    logging: {options: {max-file: 0}}\n",
            "error 6:35 services.a.logging.options.max-file: must be a whole",
        ),
        (
            "    logging: {options: {max-files: 2}}\n",
            "error 6:25 services.a.logging.options.max-files: 'max-files' is not a key",
        ),
    ] {
        let found = problems(&service(lines));
        assert!(
            found.first().is_some_and(|f| f.starts_with(expected)),
            "{lines}\n{found:#?}\nexpected {expected}"
        );
    }
    let image = "#cloud-config\nservices: {a: {image: 'a b', network_mode: bridge}}\n";
    assert_eq!(
        problems(image),
        [
            "error 2:23 services.a.image: not an image reference (as in nginx, nginx:1.27 or ghcr.io/owner/name:tag)",
            "error 2:44 services.a.network_mode: 'bridge' is not supported: it must be 'host', 'none' or \
             'service:NAME' (without it the service is in the network 'default')",
        ]
    );
}

#[test]
fn hosts_are_a_list_or_a_map() {
    for hosts in ["['db:192.0.2.7']", "['db=192.0.2.7']", "{db: 192.0.2.7}"] {
        let text = format!("#cloud-config\nservices: {{a: {{image: i, extra_hosts: {hosts}}}}}\n");
        let outcome = judge(&Input::user_data("f", text.as_bytes()), Judge::Vocabulary);
        let config = outcome.config.unwrap_or_else(|| panic!("{hosts}: {:#?}", outcome.problems));
        let normal = &config.effective(&MetaData::default())["services"]["a"]["extra_hosts"];
        assert_eq!(normal["db"], "192.0.2.7", "{hosts}");
    }
}

#[test]
fn a_cycle_is_named() {
    let text = "#cloud-config
services:
  a: {image: i, network_mode: none, depends_on: [b]}
  b: {image: i, network_mode: none, depends_on: [c]}
  c: {image: i, network_mode: none, depends_on: [b]}
  d: {image: i, network_mode: none, depends_on: {c: {condition: service_healthy}}}
";
    assert_eq!(
        problems(text),
        ["error 4:49 services.b.depends_on: services wait for each other: b -> c -> b"]
    );
}

#[test]
fn what_a_node_lacks_is_said_and_what_asks_for_nothing_is_quiet() {
    let text = "#cloud-config
packages: [nginx]
runcmd: []
package_update: false
disable_root: true
growpart: {mode: auto}
chpasswd: {list: 'root:secret'}
timezone:
x-note: hello
";
    let found = problems(text);
    let starts = [
        "warning 2:1 packages: 'packages' is not applicable",
        "warning 7:1 chpasswd: 'chpasswd' is not applicable",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:#?}");
    assert!(!found.concat().contains("secret"));
}

#[test]
fn other_formats_are_refused_with_advice() {
    for (text, word) in [
        ("#!/bin/sh\necho\n", "a script"),
        ("## template: jinja\n#cloud-config\n", "jinja"),
        ("hostname: a\n", "does not begin with"),
    ] {
        let found = problems(text);
        assert!(
            found.len() == 1 && found[0].starts_with("error 1:1: ") && found[0].contains(word),
            "{found:?}"
        );
        assert!(found[0].ends_with(')'), "advice: {found:?}");
    }
    assert_eq!(
        problems("#include\nhttp://a/b\n"),
        ["error 2:1: http://a/b cannot be included: it was not fetched",]
    );
    assert!(problems("")[0].starts_with("warning 1:1: user-data is empty"));
    assert_eq!(read("\u{feff}  \n#Cloud-Config \nhostname: a\n").hostname.as_deref(), Some("a"));
    assert_eq!(read("#cloud-config\n"), Desired::default());
}

#[test]
fn broken_yaml_has_a_place() {
    for (text, expected) in [
        ("#cloud-config\na: [1,\n", "error 2:4: not valid YAML: "),
        ("#cloud-config\na:\n\tb: 1\n", "error 3:2: not valid YAML: tabs"),
        ("#cloud-config\na: *b\n", "error 2:4: not valid YAML: "),
        ("#cloud-config\nhostname: a\n---\nb: 1\n", "error 3:1: there is more than one YAML document"),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}\n{found:#?}");
    }
    let (desired, problems) = check("f", b"#cloud-config\nhostname: \xff\n");
    assert!(desired.is_none());
    assert_eq!((problems[0].line, problems[0].column), (Some(2), Some(11)));
}

#[test]
fn parts_are_put_together_and_keep_their_places() {
    let part = "--b\nContent-Type: text/cloud-config\n\n";
    let text = format!(
        "Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n{part}hostname: a\n\n{part}{}\n--b--\n",
        WEB.replace("nginx", "'a b'")
    );
    let line = 1 + text.lines().position(|line| line.contains("a b")).unwrap_or_default();
    let found = problems(&text);
    assert!(
        found.len() == 1
            && found[0].starts_with(&format!("error {line}:12 services.web.image: not an image"))
    );
    assert_eq!(read(&text.replace("'a b'", "nginx")).hostname.as_deref(), Some("web-1"));
}

#[test]
fn variables_come_from_the_file() {
    let text = "#cloud-config\nholdfast: {env: {TAG: '1.27', EMPTY: }}\nservices:\n  a:\n    image: nginx:${TAG}\n    \
                network_mode: none\n    environment: ['A=$TAG-${B:-x}', TAG, \"C=${EMPTY}\"]\n";
    let service = read(text).services.into_values().next().expect("one service");
    assert_eq!(service.image.value, "nginx:1.27");
    let environment: Vec<_> = service.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(environment, [("A", "1.27-x"), ("C", ""), ("TAG", "1.27")]);
}

#[test]
fn what_is_right_and_not_run_is_an_error_on_a_node_and_a_warning_elsewhere() {
    let text = format!("{WEB}    ports: ['80:80/sctp']\nvolumes: {{a: {{driver: nfs}}}}\n");
    let node = judge(&Input::user_data("f", text.as_bytes()), Judge::Node);
    let elsewhere = judge(&Input::user_data("f", text.as_bytes()), Judge::Vocabulary);
    assert!(node.config.is_none() && node.desired.is_none());
    assert!(elsewhere.config.is_some() && elsewhere.desired.is_none());
    let count =
        |outcome: &Outcome, severity| outcome.problems.iter().filter(|p| p.severity == severity).count();
    assert_eq!(
        (count(&node, Severity::Error), count(&node, Severity::Warning)),
        (2, 0),
        "{:#?}",
        node.problems
    );
    assert_eq!(count(&elsewhere, Severity::Warning), 2, "{:#?}", elsewhere.problems);
    let config = elsewhere.config.expect("it is right");
    assert_eq!(config.effective(&MetaData::default())["services"]["web"]["ports"][0]["published"], 80);
}

#[test]
fn vendor_data_and_meta_data_count_below_the_users() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    let meta = format!("local-hostname: m.example.com\npublic-keys: [{key}]\n");
    let with = |user: &str, vendor: &str| {
        let input = Input {
            vendor_data: Some(("vendor-data", vendor.as_bytes())),
            meta_data: Some(("meta-data", meta.as_bytes())),
            ..Input::user_data("f", user.as_bytes())
        };
        let outcome = judge(&input, Judge::Node);
        let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
        (outcome.config.expect("valid").effective(&outcome.meta), problems)
    };
    let (effective, problems) =
        with("#cloud-config\n{}\n", "#cloud-config\nhostname: v\nssh_authorized_keys: []\n");
    assert_eq!((&effective["hostname"], problems.len()), (&"v".into(), 0), "{problems:?}");
    assert_eq!(effective["ssh_authorized_keys"][0], key);
    assert_eq!(with("#cloud-config\nhostname: u\n", "#cloud-config\nhostname: v\n").0["hostname"], "u");
    let (effective, _) =
        with("#cloud-config\nvendor_data: {enabled: false}\n", "#cloud-config\nhostname: v\n");
    assert_eq!((&effective["hostname"], &effective["fqdn"]), (&"m".into(), &"m.example.com".into()));
    let (effective, problems) = with("#cloud-config\n{}\n", "#cloud-config\nhostname: v\nhostnam: w\n");
    assert_eq!(effective["hostname"], "m");
    assert!(
        problems.iter().any(|p| p == "warning vendor-data: vendor-data has errors and is left out"),
        "{problems:?}"
    );
    let (_, problems) = with("#cloud-config\n{}\n", "#!/bin/sh\n");
    assert!(problems.len() == 1 && problems[0].contains("is a script"), "{problems:?}");
}

#[test]
fn what_a_container_is_made_of_is_judged_at_its_place() {
    for (keys, expected) in [
        ("volumes: ['v:/v']", "services.a.volumes: there is no volume 'v'"),
        (
            "volumes: ['/a:/v:rshared']",
            "services.a.volumes: mounts that are made later do not reach a container",
        ),
        ("volumes: ['/a:/']", "services.a: nothing can be mounted on '/'"),
        ("volumes: ['/a:/v'], tmpfs: [/v]", "services.a: nothing can be mounted on '/v': two things"),
        ("tmpfs: ['/v:size=big']", "services.a.tmpfs[0]: 'size=big' is not an option of a tmpfs"),
        ("tmpfs: ['/v:mode=9']", "services.a.tmpfs[0]: 'mode=9' is not an option of a tmpfs"),
        ("shm_size: much", "services.a.shm_size: not a size"),
        ("secrets: [s]", "services.a.secrets[0]: 's' is not there"),
        ("configs: [{source: c, mode: 9}]", "services.a.configs[0].mode: must be permission bits"),
        ("configs: [{source: c, target: ../x}]", "services.a.configs[0].target: must be a path without '..'"),
        ("env_file: .env", "services.a.env_file: '.env' is a file beside the compose file"),
        ("env_file: [/etc/e]", "services.a.env_file[0]: '/etc/e' is not among the texts"),
        ("healthcheck: {test: [x]}", "services.a.healthcheck.test: the first word of a test is not known"),
        ("healthcheck: {test: [CMD]}", "services.a.healthcheck: 'test' names no program"),
        ("memswap_limit: 64m", "services.a.memswap_limit: '67108864' is memory and swap together"),
        (
            "mem_limit: 64m, memswap_limit: 32m",
            "services.a.memswap_limit: '33554432' is memory and swap together",
        ),
        ("mem_limit: 1m", "services.a.mem_limit: must be 4m or more"),
        ("cpus: 0.001", "services.a.cpus: '0.001' is not a number of processors"),
        ("cpus: many", "services.a.cpus: 'many' is not a number of processors"),
        ("cpuset: 2-1", "services.a.cpuset: '2-1' is not a set of processors"),
        ("ulimits: {files: 1}", "services.a.ulimits.files: 'files' is not a limit of a process"),
        ("ulimits: {core: {soft: 2, hard: 1}}", "services.a.ulimits.core: 'soft' is more than 'hard'"),
        (
            "deploy: {resources: {limits: {cpu: 1}}}",
            "services.a.deploy.resources.limits.cpu: 'cpu' is not a key",
        ),
        (
            "healthcheck: {x-holdfast-watchdog: 1s}",
            "services.a.healthcheck: 'x-holdfast-watchdog' takes a program",
        ),
        (
            "healthcheck: {x-holdfast-notify: true, test: a}",
            "services.a.healthcheck: its health is checked by 'test', or",
        ),
        (
            "security_opt: ['seccomp=/p.json']",
            "services.a.security_opt[0]: '/p.json' is not among the texts of 'write_files'",
        ),
        ("deploy: {replicas: 257}", "services.a.deploy.replicas: must be a whole number from 0 to 256"),
        ("scale: 2, deploy: {replicas: 3}", "'scale' and 'deploy.replicas' say different things"),
        (
            "scale: 2, container_name: c",
            "services.a.scale: several containers cannot have the one name of 'container_name'",
        ),
        ("cap_add: [NET_ADMINS]", "services.a.cap_add[0]: 'NET_ADMINS' is not a capability"),
        ("security_opt: ['apparmor=x']", "services.a.security_opt[0]: 'apparmor=x' is not supported"),
        ("devices: [/etc/passwd]", "services.a.devices[0]: '/etc/passwd' must name paths below /dev"),
        (
            "sysctls: {vm.swappiness: 1}",
            "services.a.sysctls.vm.swappiness: 'vm.swappiness' is not a parameter",
        ),
        (
            "userns_mode: keep-id",
            "services.a.userns_mode: 'keep-id' is not supported: it must be 'host' or 'private'",
        ),
        (
            "userns_mode: private, privileged: true",
            "services.a.userns_mode: who is privileged, or shares the node's processes, has the node's users",
        ),
        ("storage_opt: {size: 1k}", "services.a.storage_opt.size: not a size"),
        ("storage_opt: {inodes: 1}", "services.a.storage_opt.inodes: 'inodes' is not supported"),
        (
            "storage_opt: {size: 1g}, userns_mode: host, security_opt: ['seccomp=unconfined']",
            "services.a.storage_opt: with the node's ids and no filter, a container could lift its limit itself",
        ),
        (
            "storage_opt: {size: 1g}, privileged: true",
            "services.a.storage_opt: with the node's ids and no filter",
        ),
        ("uts: host, hostname: b", "services.a.uts: the node's name cannot be another one"),
        ("ipc: host", "services.a.ipc: 'host' is not supported: it must be 'private' or 'shareable'"),
        ("platform: linux/arm64", "services.a.platform: 'linux/arm64' is not supported"),
        (
            "device_cgroup_rules: ['c 1 r']",
            "services.a.device_cgroup_rules[0]: 'c 1 r' is not a rule for devices",
        ),
        ("device_cgroup_rules: ['d 1:1 r']", "services.a.device_cgroup_rules[0]: 'd 1:1 r' is not a rule"),
        ("stop_signal: SIGNAL", "services.a.stop_signal: 'SIGNAL' is not a signal"),
        ("hostname: a b", "services.a.hostname: 'a b' is not the name of a host"),
        ("group_add: ['a b']", "services.a.group_add[0]: must be the name or the number of a group"),
        ("depends_on: [b]", "services.a.depends_on: no profile of 'b' is active"),
    ] {
        let text = format!(
            "#cloud-config\nconfigs: {{c: {{content: x}}}}\nservices:\n  a: {{image: i, network_mode: none, {keys}}}\n  \
             b: {{image: i, network_mode: none, profiles: [p]}}\n"
        );
        let found = problems(&text);
        assert!(
            found.iter().any(|found| found.contains(expected)),
            "{keys}\n{found:#?}\nexpected {expected}"
        );
    }
    let name = problems("#cloud-config\nvolumes: {v: {name: ../../etc}}\n");
    assert!(name[0].contains("volumes.v.name: is not the name of a volume"), "{name:?}");
    let size = problems("#cloud-config\nvolumes: {v: {x-holdfast-size: little}}\n");
    assert!(size[0].contains("volumes.v.x-holdfast-size: not a size"), "{size:?}");
}

#[test]
fn variables_come_from_files_of_the_configuration_and_profiles_choose() {
    let text = "#cloud-config
holdfast: {env: {COMPOSE_PROFILES: 'other,debug'}}
write_files: [{path: /etc/a.env, content: \"A=file\\nB='file'\\n\"}]
secrets: {s: {file: /etc/a.env}, t: {environment: COMPOSE_PROFILES}, u: {file: /etc/b}}
services:
  a: {image: i, network_mode: none, environment: {A: own}, env_file: [/etc/a.env], secrets: [s, t, u], profiles: [debug]}
  b: {image: i, network_mode: none, profiles: [never]}
";
    let desired = read(text);
    let service = desired.services.values().next().expect("a service");
    assert_eq!(desired.services.len(), 1);
    let environment: Vec<_> = service.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(environment, [("A", "own"), ("B", "file")]);
    let contents: Vec<_> = service.container.files.iter().map(|file| &file.content).collect();
    let text = |text: &str| container::GivenContent::Text(text.to_owned());
    let expected = [
        &text("A=file\nB='file'\n"),
        &text("other,debug"),
        &container::GivenContent::File("/etc/b".to_owned()),
    ];
    assert_eq!(contents, expected);
}

#[test]
fn machine_keys_are_judged_at_their_place() {
    for (text, expected) in [
        (
            "write_files: [{path: etc/a}]\n",
            "error 2:22 write_files[0].path: 'etc/a' must be an absolute path",
        ),
        ("write_files: [{path: /usr/a}]\n", "error 2:22 write_files[0].path: /usr/a is read-only"),
        ("write_files: [{path: /lib64/a}]\n", "error 2:22 write_files[0].path: /lib64/a is read-only"),
        (
            "write_files: [{path: /a, permissions: 4755}]\n",
            "error 2:39 write_files[0].permissions: must not have set-user-id",
        ),
        (
            "write_files: [{path: /a, permissions: 0999}]\n",
            "error 2:39 write_files[0].permissions: '0999' is not a mode",
        ),
        ("write_files: [{path: /a, owner: web}]\n", "error 2:33 write_files[0].owner: there is no 'web'"),
        ("write_files: [{content: a}]\n", "error 2:15 write_files[0]: a file has no 'path'"),
        (
            "write_files: [{path: /a, content: x, encoding: gzip}]\n",
            "error 2:35 write_files[0].content: the content of /a is not valid gzip",
        ),
        (
            "users: [{name: a, shel: b}]\n",
            "error 2:19 users[0].shel: 'shel' is not a key of a user (did you mean 'shell'?)",
        ),
        (
            "users: {../../etc/x: {ssh_authorized_keys: []}}\n",
            "error 2:22 users.../../etc/x: not a user name",
        ),
        ("users: [{name: ..}]\n", "error 2:16 users[0].name: not a user name"),
        ("timezone: ../etc\n", "error 2:11 timezone: not a time zone"),
        ("ntp: {servers: ['a b']}\n", "error 2:17 ntp.servers[0]: not the name or address"),
        (
            "ntp: {server: [a]}\n",
            "error 2:7 ntp.server: 'server' is not a key of 'ntp' (did you mean 'servers'?)",
        ),
        ("power_state: {mode: sleep}\n", "error 2:21 power_state.mode: 'sleep' is not supported"),
        ("mounts: [[sdb, /opt/a]]\n", "error 2:10 mounts[0]: nothing can be mounted at '/opt/a'"),
        ("mounts: [[sdb, /var/a, xfs]]\n", "error 2:10 mounts[0]: the file system 'xfs' cannot be mounted"),
        (
            "fs_setup: [{device: a, filesystem: btrfs}]\n",
            "error 2:36 fs_setup[0].filesystem: the file system 'btrfs' cannot be made",
        ),
        ("phone_home: {url: 'ftp://a'}\n", "error 2:19 phone_home.url: must begin with http"),
        ("holdfast: {env: {1a: b}}\n", "error 2:18 holdfast.env.1a: '1a' is not a variable name"),
        ("holdfast: {network: {version: 3}}\n", "error 2:31 holdfast.network.version: version '3'"),
        ("fqdn: a..b\n", "error 2:7 fqdn: not a host name"),
    ] {
        let found = problems(&format!("#cloud-config\n{text}"));
        assert!(
            found.iter().any(|found| found.starts_with(expected)),
            "{text}\n{found:#?}\nexpected {expected}"
        );
    }
}

#[test]
fn gzip_is_unpacked() {
    use std::io::Write as _;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(WEB.as_bytes()).expect("writing to memory");
    let packed = gz.finish().expect("writing to memory");
    assert_eq!(check("f", &packed).0, check("f", WEB.as_bytes()).0);
    assert!(check("f", &packed[..20]).1[0].message.contains("gzip"));
}

#[test]
fn hostile_input_is_refused_quickly() {
    let mut bomb = String::from("#cloud-config\nx-0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..10 {
        bomb.push_str(&format!("x-{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(",")));
    }
    let many_keys = (0..60_000).fold(String::from("#cloud-config\n"), |all, i| all + &format!("x-{i}: 1\n"));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b'#'), 1 << 25), &mut gz)
        .expect("writing to memory");
    let gzip_bomb = gz.finish().expect("writing to memory");
    let wide = format!("#cloud-config\nhostname: {}\n", "a".repeat(1 << 20));
    let unknown =
        (0..10_000).fold(String::from("#cloud-config\n"), |all, i| all + &format!("unknown{i}: 1\n"));
    let ranges = service(&format!("    ports: ['{}']\n", vec!["1-65535:1-65535"; 300].join("', '")));
    let lines = |line: &dyn Fn(usize) -> String| (0..4000).map(line).collect::<String>();
    let chain =
        lines(&|i| format!("  s{i}: {{image: i, network_mode: none, depends_on: [s{}]}}\n", (i + 1) % 4000));
    let grown = format!(
        "#cloud-config\nholdfast: {{env: {{A: {}}}}}\nservices:\n  a:\n    environment:\n{}",
        "a".repeat(1 << 20),
        lines(&|i| format!("      V{i}: $A$A\n"))
    );
    for (what, text) in [
        ("ranges of ports", ranges.as_bytes()),
        ("a long cycle", format!("#cloud-config\nservices:\n{chain}").as_bytes()),
        ("variables that make much of little", grown.as_bytes()),
        ("alias bomb", bomb.as_bytes()),
        ("flow nesting", format!("#cloud-config\na: {}", "[".repeat(100_000)).as_bytes()),
        ("block nesting", format!("#cloud-config\n{}", "- ".repeat(100_000)).as_bytes()),
        ("map nesting", format!("#cloud-config\n{}", "{a: ".repeat(100_000)).as_bytes()),
        ("keys", many_keys.as_bytes()),
        ("gzip bomb", &gzip_bomb),
        ("1 MiB name", wide.as_bytes()),
        ("unknown keys", unknown.as_bytes()),
    ] {
        let start = Instant::now();
        assert!(check("f", text).0.is_none(), "{what} was accepted");
        assert!(start.elapsed() < Duration::from_secs(10), "{what} took {:?}", start.elapsed());
    }
}

#[test]
fn a_flood_of_problems_is_cut_and_stays_an_error() {
    let warnings = (0..150).fold(String::from("#cloud-config\n"), |all, _| all + "packages: [a]\n");
    let (desired, problems) = check("f", (warnings + "hostname: a_b\n").as_bytes());
    assert!(desired.is_none());
    let last = problems.last().expect("problems");
    assert_eq!((problems.len(), last.severity), (102, Severity::Error));
}

/// `HOLDFAST_WRITE_DOCS=1 cargo test -p config documented` writes the tables.
#[test]
fn the_documented_reference_is_the_code_s() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let text = std::fs::read_to_string(path).expect("docs/configuration.md");
    let (begin, end) = ("<!-- begin of the tables -->\n\n", "\n<!-- end of the tables -->");
    let (before, rest) = text.split_once(begin).expect("the begin of the tables");
    let (tables, after) = rest.split_once(end).expect("the end of the tables");
    let reference = reference();
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(path, [before, begin, &reference, end, after].concat())
            .expect("docs/configuration.md");
    } else {
        assert!(
            tables == reference,
            "write the tables of {path} anew: HOLDFAST_WRITE_DOCS=1 cargo test -p config"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check("f", &bytes);
        check("f", &[b"#cloud-config\n", bytes.as_slice()].concat());
        check("f", &[b"\x1f\x8b\x08", bytes.as_slice()].concat());
        meta_data("m", &bytes);
    }

    #[test]
    fn any_text_of_yaml_is_answered(text in "([a-c]|services|image|command|depends_on|[-:{}\\[\\],&*?|>'\"$# \n]){0,80}") {
        check("f", format!("#cloud-config\n{text}").as_bytes());
        check("f", format!("#cloud-config\nservices:\n  a:\n    {text}").as_bytes());
    }
}
