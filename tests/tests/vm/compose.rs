//! Compose files as people write them run, with stand-ins for their images: see `lib/cases`.

use std::collections::BTreeSet;

use cases::{Case, cases};
use serde_json::Value;
use vm_tests::{Build, Recipe, Vm, image};

/// Tells on the console what the services say.
const WITNESS: &str = r#"services:
  witness:
    image: busybox
    network_mode: none
    userns_mode: host
    volumes: ['/var/log/holdfast:/logs:ro']
    logging: {driver: console}
    command:
    - sh
    - -c
    - |
      while :; do
        cd /logs
        for log in *.log; do while read -r _ _ _ text; do echo "$${log%.log} $$text"; done < "$$log"; done
        sleep 5
      done
"#;

/// Those whose compose file a node runs.
fn good() -> Vec<Case> {
    let is_good = |case: &Case| case.expect["valid"] == true && case.expect["services"].is_object();
    cases().into_iter().filter(is_good).collect()
}

fn services(case: &Case) -> impl Iterator<Item = (&String, &Value)> {
    case.expect["services"].as_object().into_iter().flatten()
}

/// Whether a service wants directories that would have to be made where a node's system is, which cannot be written.
fn of_the_system(service: &Value) -> bool {
    let mut volumes = service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    volumes.any(|volume| volume.starts_with("/usr/"))
}

/// A build with a stand-in for each image of `cases`.
fn build(cases: &[Case]) -> Build {
    let named = cases.iter().flat_map(services).filter_map(|(_, service)| service["image"].as_str());
    let stand_in = image("stand-in", "tests");
    let recipe = Recipe::named("compose");
    named
        .collect::<BTreeSet<_>>()
        .into_iter()
        .fold(recipe, |recipe, name| recipe.image(name, &stand_in))
        .build()
}

#[test]
fn compose_files_run_as_they_are_written() {
    let cases = good();
    if cases.is_empty() {
        return;
    }
    let build = build(&cases);
    for case in &cases {
        let user_data = String::from_utf8(case.file("user-data").expect("it is there")).expect("it is text");
        let user_data = user_data.replacen("services:\n", WITNESS, 1);
        let mut vm = Vm::direct(build.clone()).user_data(&user_data).boot();
        let mut expected = Vec::new();
        for (name, service) in services(case) {
            if of_the_system(service) {
                expected.push(format!(
                    "holdfast: cannot run {name}: cannot make the directory /usr/.*: Read-only file system"
                ));
                continue;
            }
            expected.push(format!("holdfast: service {name} running"));
            for (variable, value) in service["environment"].as_object().into_iter().flatten() {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let said = format!("{variable}={value}");
                expected.push(format!("witness: {name} environment {}$", regex::escape(said.trim_end())));
            }
            for volume in service["volumes"].as_array().into_iter().flatten() {
                let target = volume.as_str().and_then(|volume| volume.split(':').nth(1));
                expected.push(format!("witness: {name} mount {}$", target.expect("a volume has a target")));
            }
            if let Some(command) = service["command"].as_str() {
                expected.push(format!("witness: {name} words {}$", regex::escape(command)));
            }
        }
        vm.expect_all(&expected.iter().map(String::as_str).collect::<Vec<_>>());
        vm.power_off();
    }
}
