//! How files come in: their formats, their parts, and what is no such file.

use super::*;

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
        ("    pid: container:b\n", "error 6:10 services.a.pid: the container 'b' is not one of"),
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
fn gzip_is_unpacked() {
    use std::io::Write as _;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(WEB.as_bytes()).expect("writing to memory");
    let packed = gz.finish().expect("writing to memory");
    assert_eq!(check("f", &packed).0, check("f", WEB.as_bytes()).0);
    assert!(check("f", &packed[..20]).1[0].message.contains("gzip"));
}
