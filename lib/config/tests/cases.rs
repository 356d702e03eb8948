//! Every case from the directory of cases, through the whole library.

use std::path::{Path, PathBuf};

use config::{Input, Judge, Outcome, Problem, Severity};
use serde_json::{Value as Json, json};

/// Cases whose `error_line` is wrong, and why.
const WRONG_LINES: [(&str, &str); 1] =
    [("r18-power-state-condition-shell", "the file has six lines, and 7 is expected")];

struct Case {
    name: String,
    path: PathBuf,
    expect: Json,
}

/// All cases. None when they are not here, which CI does not tolerate.
fn cases() -> Vec<Case> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/config-cases");
    let directory =
        PathBuf::from(std::env::var_os("HOLDFAST_CONFIG_CASES").unwrap_or_else(|| default.into()));
    let Ok(entries) = std::fs::read_dir(&directory) else {
        assert!(std::env::var_os("CI").is_none(), "no cases in {}", directory.display());
        eprintln!("SKIPPED: no cases in {}: set HOLDFAST_CONFIG_CASES", directory.display());
        return Vec::new();
    };
    let mut cases: Vec<Case> = entries
        .filter_map(|entry| {
            let path = entry.expect("reading the directory of cases").path();
            let name = path.file_name()?.to_str()?.to_owned();
            let expect: Json =
                serde_json::from_slice(&std::fs::read(path.join("expect.json")).ok()?).expect("JSON");
            Some(Case { name, path, expect: expect["expect"].clone() })
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty(), "no case in {}", directory.display());
    cases
}

fn judge(path: &Path) -> Outcome {
    let read = |name: &str| std::fs::read(path.join(name)).ok();
    let parts = ["vendor-data", "meta-data", "network-config"].map(read);
    // Cases for networks have no user-data.
    let user_data = read("user-data").unwrap_or_else(|| b"#cloud-config\n".to_vec());
    let [vendor_data, meta_data, network_config] = &parts;
    let named = |name, bytes: &'_ Option<Vec<u8>>| bytes.clone().map(|bytes| (name, bytes));
    let (vendor, meta, network) = (
        named("vendor-data", vendor_data),
        named("meta-data", meta_data),
        named("network-config", network_config),
    );
    let input = Input {
        user_data: ("user-data", &user_data),
        vendor_data: vendor.as_ref().map(|(name, bytes)| (*name, bytes.as_slice())),
        meta_data: meta.as_ref().map(|(name, bytes)| (*name, bytes.as_slice())),
        network_config: network.as_ref().map(|(name, bytes)| (*name, bytes.as_slice())),
        included: &[],
    };
    config::judge(&input, Judge::Vocabulary)
}

fn texts(json: &Json) -> Vec<&str> {
    json.as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

/// What does not fit between a case and its outcome.
fn misfits(case: &Case, outcome: &Outcome) -> Vec<String> {
    let mut misfits = Vec::new();
    let mut must = |fits: bool, what: String| {
        if !fits {
            misfits.push(what);
        }
    };
    let (expect, problems) = (&case.expect, &outcome.problems);
    let errors: Vec<&Problem> = problems.iter().filter(|p| p.severity == Severity::Error).collect();
    let valid = outcome.config.is_some();
    if let Some(expected) = expect["valid"].as_bool() {
        must(valid == expected, format!("valid is {valid}"));
    } else if expect["preferred"] == "error" {
        must(!valid, "is valid, an error is preferred".to_owned());
    }
    if !valid {
        let text: String = errors.iter().map(|p| p.to_string().to_lowercase() + "\n").collect();
        for word in texts(&expect["error_contains"]) {
            must(text.contains(&word.to_lowercase()), format!("no error says '{word}'"));
        }
        let mut lines: Vec<u64> =
            expect["error_lines_any"].as_array().into_iter().flatten().filter_map(Json::as_u64).collect();
        lines.extend(expect["error_line"].as_u64());
        let wrong = WRONG_LINES.iter().any(|(name, _)| *name == case.name);
        let hit = errors.iter().any(|p| p.line.is_some_and(|line| lines.contains(&u64::from(line))));
        must(lines.is_empty() || hit || wrong, format!("no error on one of the lines {lines:?}"));
        for (path, word) in expect["rejected_files"].as_object().into_iter().flatten() {
            let says =
                |p: &&Problem| p.message.contains(path) && p.message.contains(word.as_str().unwrap_or("?"));
            must(errors.iter().any(says), format!("{path} is not rejected"));
        }
    }
    let said: Vec<&Problem> = problems.iter().filter(|p| p.severity != Severity::Error).collect();
    for key in texts(&expect["warn_keys"]).into_iter().chain(texts(&expect["warn_paths"])) {
        let says = |p: &&&Problem| p.path == key && p.severity == Severity::NotApplicable;
        must(said.iter().any(|p| says(&p)), format!("{key} is not reported as not applicable"));
    }
    let allowed = [texts(&expect["warn_keys"]), texts(&expect["may_warn_keys"])].concat();
    for problem in
        said.iter().filter(|p| p.severity == Severity::NotApplicable && !p.path.contains(['.', '[']))
    {
        let known = allowed.is_empty() || allowed.contains(&problem.path.as_str());
        must(known, format!("{} is reported", problem.path));
    }
    for kind in texts(&expect["not_applicable_parts"]) {
        must(
            said.iter().any(|p| p.message.contains(kind)),
            format!("the part of type {kind} is not reported"),
        );
    }
    must(outcome.includes == texts(&expect["includes"]), format!("includes are {:?}", outcome.includes));
    let Some(config) = &outcome.config else { return misfits };
    let effective = config.effective(&outcome.meta);
    for key in
        ["hostname", "fqdn", "kernel_hostname", "timezone", "services", "volumes", "networks", "merged"]
    {
        if let Some(expected) = expect.get(key) {
            must(effective[key] == *expected, format!("{key} is {}", effective[key]));
        }
    }
    let ntp = &effective["ntp"];
    for (key, is) in [
        ("ntp_servers", &ntp["servers"]),
        ("ntp_pools", &ntp["pools"]),
        ("ntp_enabled", &ntp["enabled"]),
        ("ssh_keys", &effective["ssh_authorized_keys"]),
        ("ssh_keys_by_user", &effective["users"]),
        ("network_state", &effective["network"]),
        ("power_state", &effective["power_state"]),
    ] {
        if let Some(expected) = expect.get(key).filter(|_| expect["valid"] == true) {
            must(is == expected, format!("{key} is {is}"));
        }
    }
    for (path, expected) in expect["files"].as_object().into_iter().flatten() {
        let file = effective["files"].as_array().into_iter().flatten().find(|file| file["path"] == *path);
        let is = file.map(|file| {
            json!({"content_sha256": file["sha256"], "size": file["size"], "mode": file["mode"], "owner": file["owner"]})
        });
        must(is.as_ref() == Some(expected), format!("{path} is {is:?}"));
    }
    misfits
}

#[test]
fn every_case_comes_out_as_expected() {
    let mut failed = Vec::new();
    for case in cases() {
        let outcome = judge(&case.path);
        let misfits = misfits(&case, &outcome);
        if !misfits.is_empty() {
            failed.push(format!("{}: {misfits:#?}\n{:#?}", case.name, outcome.problems));
        }
    }
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn what_a_node_does_not_run_is_never_accepted_in_silence() {
    for case in cases() {
        let Ok(bytes) = std::fs::read(case.path.join("user-data")) else { continue };
        let (desired, problems) = config::check("user-data", &bytes);
        let errors = problems.iter().any(|p| p.severity == Severity::Error);
        assert_eq!(desired.is_none(), errors, "{}: {problems:#?}", case.name);
        // All cases with services use more of compose than this version runs.
        if case.expect["services"].is_object() {
            assert!(errors, "{} is accepted", case.name);
        }
    }
}

#[test]
fn no_mutation_of_a_case_makes_it_panic() {
    // A small generator of our own keeps the runs alike.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap_or(0) % below.max(1)
    };
    for case in cases() {
        let mut original = Vec::new();
        for name in ["user-data", "network-config"] {
            original.push(std::fs::read(case.path.join(name)).unwrap_or_default());
        }
        for _ in 0..20 {
            let mut mutated = original.clone();
            for bytes in &mut mutated {
                for _ in 0..1 + random(4) {
                    let (from, to) = (random(bytes.len()), random(bytes.len()));
                    match random(4) {
                        0 if !bytes.is_empty() => bytes[from] = b"{}[]:&*-#\"'|\n\t $"[random(16)],
                        1 => drop(bytes.drain(from.min(to)..from.max(to).min(from.min(to) + 30))),
                        2 if from > 14 => bytes.truncate(from),
                        _ => bytes.extend_from_within(from.min(to)..from.max(to)),
                    }
                }
            }
            let input = Input {
                network_config: Some(("network-config", &mutated[1])),
                included: &[],
                vendor_data: Some(("vendor-data", &mutated[0])),
                ..Input::user_data("user-data", &mutated[0])
            };
            let outcome = config::judge(&input, Judge::Vocabulary);
            if let Some(config) = outcome.config {
                assert!(config.effective(&outcome.meta).is_object(), "{}", case.name);
            }
        }
    }
}
