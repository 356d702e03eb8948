//! Profiles as people write them for Docker, made into what the runtime-spec has.
//!
//! Such a profile is the runtime-spec's with rules that hold for some containers only: for machines (`arches`), for holders of
//! capabilities (`caps`), from a kernel on (`minKernel`); see moby's profiles/seccomp/seccomp.go. A profile of the runtime-spec
//! comes out as it went in.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Map, Value, json};

use crate::{Error, Filter};

/// The kernel that rules are chosen for: the oldest that the system runs on.
const KERNEL: (u32, u32) = (6, 12);

/// What there is in the runtime-spec of a rule.
const OF_RULE: [&str; 4] = ["names", "action", "errnoRet", "args"];

/// Why a text is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("it is not JSON: {0}")]
    Json(serde_json::Error),
    #[error("it is no seccomp profile: {0}")]
    Form(serde_json::Error),
    #[error("it has no rules for x86_64")]
    Architecture,
    #[error("'minKernel' is '{0}', which is no version of a kernel")]
    Kernel(String),
    #[error(transparent)]
    Filter(#[from] Error),
}

/// The profile in `text`, for a container that has `capabilities` (`CAP_CHOWN`).
pub fn resolve(text: &str, capabilities: &[&str]) -> Result<LinuxSeccomp, ProfileError> {
    let mut profile: Map<String, Value> = serde_json::from_str(text).map_err(ProfileError::Json)?;
    let list = |value: Option<Value>| match value {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let architectures = list(profile.remove("architectures"));
    let map = list(profile.remove("archMap"));
    let named: Vec<&Value> =
        architectures.iter().chain(map.iter().filter_map(|entry| entry.get("architecture"))).collect();
    if !named.is_empty() && !named.contains(&&json!("SCMP_ARCH_X86_64")) {
        return Err(ProfileError::Architecture);
    }
    profile.insert("architectures".to_owned(), json!(["SCMP_ARCH_X86_64"]));
    let mut rules = Vec::new();
    for rule in list(profile.remove("syscalls")) {
        if holds(&rule, capabilities)? {
            rules.push(plain(rule));
        }
    }
    profile.insert("syscalls".to_owned(), Value::Array(rules));
    let profile: LinuxSeccomp = serde_json::from_value(Value::Object(profile)).map_err(ProfileError::Form)?;
    Filter::new(&profile)?;
    Ok(profile)
}

/// Whether a rule is for such a container.
fn holds(rule: &Value, capabilities: &[&str]) -> Result<bool, ProfileError> {
    let texts = |of: &str, key: &str| -> Vec<String> {
        let list = rule[of][key].as_array().into_iter().flatten();
        list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let kernel = |of: &str| match &rule[of]["minKernel"] {
        Value::String(text) => {
            let numbers = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            numbers
                .map(|least: (u32, u32)| Some(least <= KERNEL))
                .ok_or_else(|| ProfileError::Kernel(text.clone()))
        }
        _ => Ok(None),
    };
    let is_ours = |name: &String| name == "amd64";
    let has = |name: &String| capabilities.contains(&name.as_str());
    let included = (texts("includes", "arches").is_empty()
        || texts("includes", "arches").iter().any(is_ours))
        && texts("includes", "caps").iter().all(has)
        && kernel("includes")?.unwrap_or(true);
    let excluded = texts("excludes", "arches").iter().any(is_ours)
        || texts("excludes", "caps").iter().any(has)
        || kernel("excludes")?.unwrap_or(false);
    Ok(included && !excluded)
}

/// A rule as the runtime-spec has it; `name` is what profiles had before `names`.
fn plain(rule: Value) -> Value {
    let Value::Object(mut rule) = rule else { return rule };
    if let Some(name) = rule.remove("name").filter(|name| name.as_str().is_some_and(|name| !name.is_empty()))
    {
        rule.insert("names".to_owned(), json!([name]));
    }
    rule.retain(|key, value| OF_RULE.contains(&key.as_str()) && !value.is_null());
    Value::Object(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(profile: &Value, capabilities: &[&str]) -> Vec<String> {
        let profile = resolve(&profile.to_string(), capabilities).unwrap_or_else(|error| panic!("{error}"));
        profile.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn rules_are_those_for_the_container() {
        let rule = |name: &str, more: Value| {
            let mut rule =
                json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "comment": "", "args": null });
            rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            rule
        };
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] }],
            "syscalls": [
                rule("read", json!({})),
                rule("arch_prctl", json!({ "includes": { "arches": ["amd64", "x32"] } })),
                rule("sync_file_range2", json!({ "includes": { "arches": ["arm64"] } })),
                rule("ptrace", json!({ "includes": { "minKernel": "4.8" } })),
                rule("future", json!({ "includes": { "minKernel": "99.1" } })),
                rule("mount", json!({ "includes": { "caps": ["CAP_SYS_ADMIN"] } })),
                rule("clone", json!({ "excludes": { "caps": ["CAP_SYS_ADMIN"] } })),
                { "name": "write", "action": "SCMP_ACT_ALLOW" },
            ],
        });
        assert_eq!(names(&profile, &[]), ["read", "arch_prctl", "ptrace", "clone", "write"]);
        assert_eq!(names(&profile, &["CAP_SYS_ADMIN"]), ["read", "arch_prctl", "ptrace", "mount", "write"]);
    }

    #[test]
    fn what_is_no_profile_is_refused_with_the_reason() {
        for (text, expected) in [
            ("defaultAction", "it is not JSON: expected value at line 1 column 1"),
            ("{}", "it is no seccomp profile: missing field"),
            (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "it is no seccomp profile: unknown variant"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_ARM"]}"#,
                "no rules for x86_64",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
                "takes a program that answers",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"includes": {"minKernel": "new"}}]}"#,
                "'minKernel' is 'new'",
            ),
        ] {
            let error = resolve(text, &[]).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
