//! Services in, bundles out; every bundle must be what the runtime's own types read.

use oci_spec::runtime::{Capability, LinuxNamespaceType, Spec};

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
    assert_eq!(bundle.shim.log, Log::File { path: "/var/log/holdfast/web.log".into() });
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
fn users_are_numbers_or_root() {
    let user = |user: &str| {
        let lines = format!("{HOST}    user: '{user}'\n");
        make_with(&lines, &image(), "n").map(|bundle| bundle.config["process"]["user"].clone())
    };
    for (given, uid, gid) in
        [("0", 0, 0), ("root", 0, 0), ("1000", 1000, 0), ("101:102", 101, 102), ("5:root", 5, 0)]
    {
        assert_eq!(user(given), Ok(json!({ "uid": uid, "gid": gid })), "{given}");
    }
    assert_eq!(user("nginx"), Err(BundleError::UserName { user: "nginx".to_owned() }));
    let (bundle, _) = make(&format!("{HOST}    user: '101'\n"));
    assert_eq!(bundle.config["process"]["capabilities"]["effective"], json!([]));
}

#[test]
fn the_digest_changes_exactly_with_what_runs() {
    let same = |a: &str, b: &str| make(a).0.digest == make(b).0.digest;
    assert!(same(HOST, HOST));
    for other in [
        NONE,
        "    network_mode: host\n    command: x\n",
        "    network_mode: host\n    logging: {driver: none}\n",
    ] {
        assert!(!same(HOST, other), "{other}");
    }
    // How PID 1 treats it is not what runs.
    assert!(same(HOST, "    network_mode: host\n    restart: always\n    stop_grace_period: 1s\n"));
}
