//! `holdfast check` as scripts see it: its JSON, and its verdicts.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn holdfast(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("the command reads");
    child.wait_with_output().expect("the command ends")
}

fn code(args: &[&str], input: &str) -> Option<i32> {
    holdfast(args, input).status.code()
}

#[test]
fn json_has_the_shape_that_scripts_rely_on() {
    let output = holdfast(&["check", "--format", "json", "-"], "#cloud-config\nhostnam: a\n");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = serde_json::json!({
        "valid": false,
        "problems": [{
            "severity": "error",
            "message": "'hostnam' is not a key of a node's configuration",
            "path": "hostnam",
            "source": "<stdin>",
            "line": 2,
            "column": 1,
            "hint": "did you mean 'hostname'?",
        }],
        "rejected_files": {},
        "effective": null,
    });
    assert_eq!(json, expected);
}

#[test]
fn json_tells_what_comes_out() {
    let user_data = "#cloud-config\nwrite_files: [{path: /etc/a, content: hi}]\nservices:\n  a: {image: i, ports: ['80:81']}\n";
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a name in UTF-8").to_owned()
    };
    let network = file("network", "version: 2\nethernets: {eth0: {dhcp4: true}}\n");
    let meta = file("meta", "local-hostname: m.example.com\n");
    let vendor = file("vendor", "#cloud-config\ntimezone: Europe/Berlin\n");
    let output = holdfast(
        &[
            "check",
            "--format=json",
            "--network-config",
            &network,
            "--meta-data",
            &meta,
            "--vendor-data",
            &vendor,
            "-",
        ],
        user_data,
    );
    assert!(output.status.success());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let effective = &json["effective"];
    assert_eq!(effective["hostname"], "m");
    assert_eq!(effective["fqdn"], "m.example.com");
    assert_eq!(effective["timezone"], "Europe/Berlin");
    assert_eq!(effective["files"][0]["mode"], "0644");
    assert_eq!(effective["files"][0]["size"], 2);
    assert_eq!(effective["services"]["a"]["ports"], serde_json::json!([{"target": 81, "published": 80}]));
    assert_eq!(effective["network"]["interfaces"]["eth0"]["subnets"][0]["type"], "dhcp4");
    assert_eq!(effective["merged"]["services"]["a"]["image"], "i");
}

#[test]
fn what_this_version_does_not_run_is_an_error_only_on_a_node() {
    let text = "#cloud-config\nservices:\n  a: {image: i, network_mode: host, ports: ['80:80']}\n";
    let output = holdfast(&["check", "-"], text);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && shown.ends_with("a node of this version would refuse it\n"),
        "{shown}"
    );
    assert_eq!(code(&["check", "--node", "-"], text), Some(1));
}

#[test]
fn lines_of_parts_are_shown_from_the_part() {
    let part = "I2Nsb3VkLWNvbmZpZwpob3N0bmFtOiBhCg==";
    let text = format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/cloud-config\n\
         Content-Transfer-Encoding: base64\n\n{part}\n--b--\n"
    );
    let output = holdfast(&["check", "-"], &text);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("<stdin> part 1:2:1") && shown.contains("2 | hostnam: a"), "{shown}");
}

#[test]
fn the_examples_are_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            count += 1;
            let output = holdfast(&["check", path.to_str().expect("a name in UTF-8")], "");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.ends_with(": valid\n"), "{}:\n{text}", path.display());
        }
    }
    assert!(count > 0, "there are no examples in {folder}");
}
