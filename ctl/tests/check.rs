//! The command as scripts see it: exit codes and JSON.

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
fn exit_codes_tell_valid_from_wrong_from_misused() {
    assert_eq!(code(&["check", "-"], "#cloud-config\nhostname: a\npackages: [a]\n"), Some(0));
    assert_eq!(code(&["check", "-"], "#cloud-config\nhostnam: a\n"), Some(1));
    assert_eq!(code(&["check"], ""), Some(2));
    assert_eq!(code(&["check", "/nowhere"], ""), Some(2));
    assert_eq!(code(&["chek"], ""), Some(2));
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
    });
    assert_eq!(json, expected);
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = holdfast(&["completion", shell], "");
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("check"),
            "{shell}"
        );
    }
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
