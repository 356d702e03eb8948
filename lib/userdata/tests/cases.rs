//! The cases for merging (m*) and formats (r28, r30-r34) from the directory of cases.

use std::path::PathBuf;

use serde_json::Value as Json;
use userdata::{Findings, Load, Node, Report, Role, Severity, SourceId};

/// The cases whose name `wanted` accepts. None when they are not here, which CI does not tolerate.
fn cases(wanted: impl Fn(&str) -> bool) -> Vec<(String, PathBuf, Json)> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/config-cases");
    let directory =
        PathBuf::from(std::env::var_os("HOLDFAST_CONFIG_CASES").unwrap_or_else(|| default.into()));
    let Ok(entries) = std::fs::read_dir(&directory) else {
        assert!(std::env::var_os("CI").is_none(), "no cases in {}", directory.display());
        eprintln!("SKIPPED: no cases in {}: set HOLDFAST_CONFIG_CASES", directory.display());
        return Vec::new();
    };
    let mut cases: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.expect("reading the directory of cases").path();
            let name = path.file_name()?.to_str()?.to_owned();
            let expect = std::fs::read(path.join("expect.json")).ok().filter(|_| wanted(&name))?;
            let expect: Json = serde_json::from_slice(&expect).expect("expect.json is JSON");
            Some((name, path, expect["expect"].clone()))
        })
        .collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!cases.is_empty(), "no case of this kind in {}", directory.display());
    cases
}

/// Loads user-data; the addresses that are left to fetch are in the second place.
fn load(bytes: &[u8]) -> (Node, Vec<String>, Findings) {
    let report = Report::new("user-data");
    let mut load = Load::new(&report, Role::User, None);
    load.add(SourceId::default(), bytes);
    let includes = load.includes().map(|include| include.url.clone()).collect();
    let merged = load.merge();
    (merged, includes, report.finish())
}

#[test]
fn parts_merge_as_in_every_merge_case() {
    for (name, path, expect) in cases(|name| name.starts_with('m')) {
        let bytes = std::fs::read(path.join("user-data")).expect("user-data");
        let (merged, _, findings) = load(&bytes);
        let merged = serde_json::to_value(&merged).expect("a tree is JSON");
        assert_eq!(merged, expect["merged"], "{name}: {:#?}", findings.problems);
        let errors = findings.problems.iter().filter(|p| p.severity == Severity::Error);
        assert_eq!(errors.count(), 0, "{name}: {:#?}", findings.problems);
    }
}

#[test]
fn formats_are_told_apart_in_every_format_case() {
    let wanted = ["r25", "r28", "r30", "r31", "r32", "r33", "r34"];
    for (name, path, expect) in cases(|name| wanted.iter().any(|begin| name.starts_with(begin))) {
        let bytes = std::fs::read(path.join("user-data")).expect("user-data");
        let (_, includes, findings) = load(&bytes);
        let errors: Vec<_> = findings.problems.iter().filter(|p| p.severity == Severity::Error).collect();
        assert_eq!(errors.is_empty(), expect["valid"] == true, "{name}: {errors:#?}");
        for word in expect["error_contains"].as_array().into_iter().flatten() {
            let word = word.as_str().expect("text").to_lowercase();
            let says = |p: &&userdata::Problem| p.to_string().to_lowercase().contains(&word);
            assert!(errors.iter().any(says), "{name} does not say '{word}': {errors:#?}");
        }
        if let Some(line) = expect["error_line"].as_u64() {
            assert!(errors.iter().any(|p| p.line.map(u64::from) == Some(line)), "{name}: {errors:#?}");
        }
        let expected = expect["includes"].as_array().into_iter().flatten().filter_map(Json::as_str);
        assert!(expected.eq(includes.iter().map(String::as_str)), "{name}: {includes:?}");
    }
}

#[test]
fn no_mutation_of_a_case_makes_it_panic() {
    // A small generator of our own keeps the runs alike without a dependency.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap_or(0) % below.max(1)
    };
    for (name, path, _) in cases(|_| true) {
        let Ok(bytes) = std::fs::read(path.join("user-data")) else { continue };
        for _ in 0..20 {
            let mut mutated = bytes.clone();
            for _ in 0..1 + random(4) {
                let (from, to) = (random(mutated.len()), random(mutated.len()));
                match random(4) {
                    0 if !mutated.is_empty() => mutated[from] = b"{}[]:&*-#\"'|\n\t \xff"[random(16)],
                    1 => drop(mutated.drain(from.min(to)..from.max(to).min(from.min(to) + 30))),
                    2 => mutated.truncate(from),
                    _ => mutated.extend_from_within(from.min(to)..from.max(to)),
                }
            }
            let (_, _, findings) = load(&mutated);
            assert!(findings.problems.len() <= 202, "{name} floods");
        }
    }
}
