//! What services are read as, and what is said of their keys.

use std::time::Duration;

use plan::{Condition, Restart};

use super::*;

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
    assert!(all.privileged && all.pid == crate::container::Namespace::Node);
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
fn what_a_container_is_made_of_is_judged_at_its_place() {
    for (keys, expected) in [
        ("volumes: ['v:/v']", "services.a.volumes: there is no volume 'v'"),
        (
            "volumes: ['/a:/v:rshared']",
            "services.a.volumes: who has users of its own mounts nothing for others",
        ),
        (
            "volumes: [{type: bind, source: /a, target: /v, bind: {propagation: all}}]",
            "propagation: must be 'rprivate'",
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
            "services.a.userns_mode: who is privileged has the node's users, who shares processes or memory those of their owner",
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
        (
            "ipc: none",
            "services.a.ipc: 'none' is not supported: it must be 'private', 'shareable', 'host' or 'service:NAME'",
        ),
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
