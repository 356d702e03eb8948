//! The JSON schema against the judge: what a node accepts the schema accepts, and mistakes that can be seen in one place
//! it refuses.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value as Json, json};
use userdata::{Budget, Duplicates, Place, Report, SourceId, parse};

struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("holdfast.json", config::schema()).expect("JSON");
        let index = compiler.compile("holdfast.json", &mut schemas).expect("a schema of draft 7");
        Self { schemas, index }
    }

    /// What is wrong with a file; nothing when it fits.
    fn complaint(&self, json: &Json) -> Option<String> {
        self.schemas.validate(json, self.index).err().map(|error| error.to_string())
    }
}

/// A file as an editor sees it.
fn read(text: &str) -> Json {
    let report = Report::new("f");
    let place = Place { source: SourceId::default(), line: 1 };
    let node = parse(text, place, Duplicates::Refuse, &mut Budget::default(), &report).expect("YAML");
    serde_json::to_value(node).expect("JSON")
}

#[test]
fn what_a_node_accepts_fits() {
    let schema = Schema::new();
    for case in cases::cases() {
        let Some(bytes) = case.file("user-data") else { continue };
        let input = config::Input::user_data("user-data", &bytes);
        let Some(config) = config::judge(&input, config::Judge::Vocabulary).config else { continue };
        let merged = serde_json::to_value(&config.merged).expect("JSON");
        assert_eq!(schema.complaint(&merged), None, "{}", case.name);
    }
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples")).expect("examples")
    {
        let path = entry.expect("an example").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).expect("text");
            assert_eq!(schema.complaint(&read(&text)), None, "{}", path.display());
        }
    }
    for text in [
        "merge_how: list(append)",
        "hostname:",
        "users: [default, {name: a, ssh-authorized-keys: [k]}]",
        "services: {a: {image: i, restart: 'on-failure:3', depends_on: {b: {condition: service_started}}}, x-b: 1}",
        "holdfast: {gate: {settle: 10s}, network: {version: 2, ethernets: {e: {dhcp4: yes, mtu: '1400'}}}}",
        "holdfast: {network: {version: 1, config: [{type: physical, name: eth0}]}}",
        "power_state: {mode: reboot, delay: 5}",
        "services: {a: {image: i, ports: [80, '81:81', {target: 1}], ulimits: {nofile: {soft: 1, hard: 2}, x: 3}}}",
    ] {
        let (text, found) = (format!("#cloud-config\n{text}\n"), schema.complaint(&read(text)));
        assert_eq!(found, None, "{text}");
        let outcome =
            config::judge(&config::Input::user_data("f", text.as_bytes()), config::Judge::Vocabulary);
        let unreadable = outcome.problems.iter().any(|problem| problem.message.contains("is not a key"));
        assert!(!unreadable, "{text}: {:?}", outcome.problems);
    }
}

#[test]
fn mistakes_of_one_place_do_not_fit() {
    let schema = Schema::new();
    for text in [
        "- a",
        "hostnam: a",
        "hostname: [a]",
        "include: a",
        "ntp: {server: [a]}",
        "ntp: {servers: a}",
        "ntp: {enabled: maybe}",
        "write_files: {path: /a}",
        "write_files: [{pat: /a}]",
        "users: [{name: a, shel: b}]",
        "power_state: {mode: sleep}",
        "power_state: {mode: reboot, timeout: soon}",
        "services: [a]",
        "services: {a: {imag: i}}",
        "services: {a: {build: .}}",
        "services: {a: {image: i, stop_grace_period: 10}}",
        "services: {a: {image: i, ports: [{target: 70000}]}}",
        "services: {a: {image: i, healthcheck: {retries: many}}}",
        "holdfast: {gate: {settl: 10s}}",
        "holdfast: {network: {version: 2, ethernet: {}}}",
        "holdfast: {network: {version: 2, ethernets: {e: {dhcp: true}}}}",
        "volumes: {v: {drivers: a}}",
    ] {
        assert!(schema.complaint(&read(text)).is_some(), "{text} fits");
        let text = format!("#cloud-config\n{text}\n");
        let outcome =
            config::judge(&config::Input::user_data("f", text.as_bytes()), config::Judge::Vocabulary);
        assert!(outcome.config.is_none(), "the judge accepts {text}");
    }
}

#[test]
fn every_key_is_described_and_words_are_offered() {
    let schema = config::schema();
    let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    assert!(at("/properties/ntp/description").as_str().is_some_and(|text| text.contains("servers")));
    assert!(
        at("/properties/packages/description").as_str().is_some_and(|text| text.contains("Not applicable"))
    );
    let modes = schema.pointer("/properties/power_state/anyOf/0/properties/mode/anyOf/0/enum");
    assert_eq!(modes, Some(&json!(["poweroff", "reboot", "halt"])));
}
