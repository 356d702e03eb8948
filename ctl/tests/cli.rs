//! The command as scripts and people use it: exit codes, JSON, text.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value as Json, json};

fn holdfast(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast")).args(arguments).output().expect("the command starts")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn json_of(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(&path, content).expect("a file");
        path.display().to_string()
    }
}

#[test]
fn the_exit_code_says_valid_errors_or_wrong_usage() {
    let files = Files::new();
    let good = files.write("good", "#cloud-config\nhostname: a\npackages: [b]\n");
    let bad = files.write("bad", "#cloud-config\nhostname: a_b\n");
    for (arguments, code) in [
        (vec!["check", &good], 0),
        (vec!["check", "--format", "json", &good], 0),
        (vec!["check", &bad], 1),
        (vec!["check", "--format", "json", &bad], 1),
        (vec!["check", "/nowhere/at/all"], 2),
        (vec!["check"], 2),
        (vec!["check", "--format", "xml", &good], 2),
        (vec!["check", "--explain", "hostname"], 0),
        (vec!["check", "--explain", "hostnam"], 2),
        (vec!["plan", &good, &good], 0),
        (vec!["plan", &good, &bad], 1),
        (vec!["plan", &good], 2),
        (vec!["diff", "1", "2", "--dir", "/nowhere"], 2),
        (vec!["schema"], 0),
        (vec!["completion", "bash"], 0),
        (vec!["completion", "zsh"], 0),
        (vec!["completion", "fish"], 0),
        (vec!["--version"], 0),
        (vec!["launch"], 2),
    ] {
        assert_eq!(holdfast(&arguments).status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn json_has_the_fields_that_scripts_rely_on() {
    let files = Files::new();
    let user_data = files.write(
        "user-data",
        "#cloud-config\nhostname: web.example.com\ntimezone: Europe/Berlin\nntp: {servers: [a], pools: [b]}\n\
         write_files: [{path: /etc/a, content: hello, permissions: 0600}]\npower_state: {mode: reboot}\n\
         mounts: [[sdb1, /mnt]]\nrandom: 1\n",
    );
    let invalid = json_of(&holdfast(&["check", "--format", "json", &user_data]));
    assert_eq!((&invalid["valid"], &invalid["effective"]), (&json!(false), &Json::Null));
    let errors = |json: &Json| {
        let problems = json["problems"].as_array().cloned().unwrap_or_default();
        problems.into_iter().filter(|problem| problem["severity"] == "error").collect::<Vec<_>>()
    };
    assert_eq!(
        errors(&invalid)[0],
        json!({
            "severity": "error", "message": "'random' is not a key of a node's configuration", "path": "random",
            "line": 8, "column": 1, "source": user_data, "hint": null,
        })
    );
    let text = std::fs::read_to_string(&user_data).expect("a file").replace("random: 1\n", "");
    let user_data = files.write("user-data", &text);
    let network = files.write("network-config", "version: 2\nethernets: {eth0: {dhcp4: true}}\n");
    let meta = files.write("meta-data", "local-hostname: other\n");
    let vendor = files.write("vendor-data", "#cloud-config\nfinal_message: done\n");
    let output = holdfast(&[
        "check",
        "--format",
        "json",
        "--network-config",
        &network,
        "--meta-data",
        &meta,
        "--vendor-data",
        &vendor,
        &user_data,
    ]);
    let valid = json_of(&output);
    assert_eq!(valid["valid"], true, "{valid:#}");
    let effective = valid["effective"].as_object().expect("a map");
    for key in [
        "hostname",
        "fqdn",
        "kernel_hostname",
        "timezone",
        "ntp",
        "ssh_authorized_keys",
        "users",
        "files",
        "rejected_files",
        "mounts",
        "power_state",
        "network",
        "services",
        "volumes",
        "networks",
        "merged",
    ] {
        assert!(effective.contains_key(key), "{key} is missing");
    }
    assert_eq!(
        (&effective["hostname"], &effective["fqdn"], &effective["timezone"]),
        (&json!("web"), &json!("web.example.com"), &json!("Europe/Berlin"))
    );
    assert_eq!(
        effective["files"][0],
        json!({
            "path": "/etc/a", "mode": "0600", "owner": "root:root", "size": 5,
            "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        })
    );
    assert_eq!(effective["network"]["interfaces"]["eth0"]["subnets"][0]["type"], "dhcp4");
    assert_eq!(effective["merged"]["final_message"], "done");
}

#[test]
fn five_mistakes_are_shown_with_their_lines() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mistakes.yaml");
    let output = holdfast(&["check", file]);
    assert_eq!(output.status.code(), Some(1));
    let shown = stdout(&output).replace(file, "mistakes.yaml");
    // Warnings change with what a version applies.
    let errors: Vec<&str> = shown.split("\n\n").filter(|block| block.starts_with("error")).collect();
    let expected = std::fs::read_to_string(file.replace(".yaml", ".txt")).expect("mistakes.txt");
    assert_eq!(errors.join("\n\n") + "\n", expected);
    assert!(shown.contains("\nmistakes.yaml: not valid: 5 errors"), "{shown}");
    let json = json_of(&holdfast(&["check", "--format", "json", file]));
    assert_eq!(json["rejected_files"], json!({"/usr/local/bin/hello": "read-only"}));
}

#[test]
fn a_key_is_explained_with_what_it_may_be() {
    for (key, words) in [
        ("ntp", &["ntp", "servers", "pools"][..]),
        ("power_state.mode", &["poweroff", "reboot", "halt"]),
        ("write_files.encoding", &["encoding"]),
        ("write_files[].permissions", &["permissions"]),
        ("services.web.restart", &["on-failure"]),
        ("services.NAME.build", &["Refused"]),
        ("packages", &["Not applicable"]),
        ("holdfast.network.ethernets.eth0.dhcp4", &["true or false"]),
        ("services.web.healthcheck.interval", &["duration"]),
    ] {
        let output = holdfast(&["check", "--explain", key]);
        assert_eq!(output.status.code(), Some(0), "{key}");
        let text = stdout(&output);
        assert!(words.iter().all(|word| text.contains(word)), "{key}:\n{text}");
    }
}

#[test]
fn a_plan_says_what_becomes_of_each_service() {
    let files = Files::new();
    let head = "#cloud-config\nservices:\n  web: {image: 'a:1', network_mode: none}\n";
    let old = files.write("old", &format!("{head}  gone: {{image: a, network_mode: none}}\n"));
    let new = files
        .write("new", &format!("{}  more: {{image: a, network_mode: none}}\n", head.replace("a:1", "a:2")));
    let text = holdfast(&["plan", &old, &new]);
    assert_eq!(stdout(&text), "stop     gone\nstart    more\nrestart  web   because of image\n");
    let json = json_of(&holdfast(&["plan", "--format", "json", &old, &new]));
    assert_eq!(json["services"][2], json!({"name": "web", "action": "restart", "keys": ["image"]}));
    assert_eq!(stdout(&holdfast(&["plan", &old, &old])), "keep     gone, web\n");
}

/// A generation as a node writes it.
fn generation(files: &Files, number: u64, user_data: &str, digest: &str, args: &[&str]) -> PathBuf {
    let at = |name: &str| format!("generations/{number}/{name}");
    let bundle = format!("/var/lib/holdfast/generations/{number}/bundles/web");
    let service = json!({
        "bundle": bundle, "digest": digest, "restart": "always", "depends_on": {}, "needs": {"network": true},
        "stop_timeout_ms": 10_000, "required": true,
    });
    let plan = json!({
        "generation": number, "os_version": "1", "hostname": "node",
        "gate": {"settle_ms": 10_000, "deadline_ms": 300_000}, "services": {"web": service},
    });
    let record = json!({
        "number": number, "os_version": "1", "root_hash": "ab", "source": "vdb/user-data", "digest": "00", "time": 0,
    });
    files.write(&at("plan.json"), &plan.to_string());
    files.write(&at("generation.json"), &record.to_string());
    files.write(&at("bundles/web/config.json"), &json!({"process": {"args": args}}).to_string());
    files.write(&at("bundles/web/shim.json"), &json!({"writable": digest}).to_string());
    Path::new(&files.write(&at("user-data"), user_data)).parent().expect("a directory").to_owned()
}

#[test]
fn two_generations_are_compared_as_the_node_wrote_them() {
    let files = Files::new();
    let web = "#cloud-config\nservices: {web: {image: a, network_mode: host, restart: always, command: x}}\n";
    generation(&files, 1, web, "aa", &["x"]);
    generation(&files, 2, &web.replace("command: x", "command: y"), "bb", &["y"]);
    let third = generation(&files, 3, &web.replace("command: x", "command: y"), "cc", &["z"]);
    let dir = files.0.path().join("generations").display().to_string();
    let diff = |a: &str, b: &str| stdout(&holdfast(&["diff", "--dir", &dir, a, b])).to_owned();
    assert_eq!(
        diff("1", "2"),
        "generation 1 (version 1, vdb/user-data) -> generation 2 (version 1, vdb/user-data)\n\
         restart  web  because of command\n"
    );
    // The user-data is the same, so the reason is in the image or the system.
    assert!(
        diff("2", &third.display().to_string()).ends_with("restart  web  because of config.json process\n")
    );
    assert!(diff("1", "1").ends_with("keep     web\n"));
    let json = json_of(&holdfast(&["diff", "--format", "json", "--dir", &dir, "1", "2"]));
    assert_eq!((&json["old"]["number"], &json["services"][0]["action"]), (&json!(1), &json!("restart")));
}

#[test]
fn colour_is_for_terminals_alone() {
    let files = Files::new();
    let bad = files.write("bad", "#cloud-config\nhostname: a_b\n");
    assert!(!stdout(&holdfast(&["check", &bad])).contains('\x1b'));
}
