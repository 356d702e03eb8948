//! The cases for merging (m*) and formats (r28, r30-r34) from the directory of cases.

use cases::{Mutations, cases};
use userdata::{Findings, Load, Node, Report, Role, Severity, SourceId};

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
    for case in cases().into_iter().filter(|case| case.name.starts_with('m')) {
        let (name, bytes) = (&case.name, case.file("user-data").expect("user-data"));
        let (merged, _, findings) = load(&bytes);
        let merged = serde_json::to_value(&merged).expect("a tree is JSON");
        assert_eq!(merged, case.expect["merged"], "{name}: {:#?}", findings.problems);
        let errors = findings.problems.iter().filter(|p| p.severity == Severity::Error);
        assert_eq!(errors.count(), 0, "{name}: {:#?}", findings.problems);
    }
}

#[test]
fn formats_are_told_apart_in_every_format_case() {
    let wanted = ["r25", "r28", "r30", "r31", "r32", "r33", "r34"];
    let is_wanted = |name: &str| wanted.iter().any(|begin| name.starts_with(begin));
    for case in cases().into_iter().filter(|case| is_wanted(&case.name)) {
        let (name, bytes) = (&case.name, case.file("user-data").expect("user-data"));
        let (_, includes, findings) = load(&bytes);
        let errors: Vec<_> = findings.problems.iter().filter(|p| p.severity == Severity::Error).collect();
        assert_eq!(errors.is_empty(), case.expect["valid"] == true, "{name}: {errors:#?}");
        for word in case.texts("error_contains") {
            let word = word.to_lowercase();
            let says = |p: &&userdata::Problem| p.to_string().to_lowercase().contains(&word);
            assert!(errors.iter().any(says), "{name} does not say '{word}': {errors:#?}");
        }
        if let Some(line) = case.expect["error_line"].as_u64() {
            assert!(errors.iter().any(|p| p.line.map(u64::from) == Some(line)), "{name}: {errors:#?}");
        }
        assert_eq!(includes, case.texts("includes"), "{name}");
    }
}

#[test]
fn no_mutation_of_a_case_makes_it_panic() {
    let mut mutations = Mutations::default();
    for case in cases() {
        let Some(bytes) = case.file("user-data") else { continue };
        for _ in 0..20 {
            let mut mutated = bytes.clone();
            mutations.mutate(&mut mutated);
            let (_, _, findings) = load(&mutated);
            assert!(findings.problems.len() <= 202, "{} floods", case.name);
        }
    }
}
