//! Google Compute Engine.
//!
//! <https://cloud.google.com/compute/docs/metadata/querying-metadata>, keys by
//! <https://cloud.google.com/compute/docs/connect/add-ssh-keys>

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::service::{ADDRESS, Ask, Instance, SourceError, first_that_answers, from_base64, from_json};
use super::{Datasource, Found};

/// The addresses are the same everywhere, so no name is looked up. IPv6 is for instances without IPv4.
const SERVICES: [&str; 2] = [ADDRESS, "http://[fd20:ce::254]"];

/// Whoever asks and whoever answers has to say this.
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

/// `instance/?recursive=true`, what is used of it.
#[derive(Debug, Deserialize)]
struct Vm {
    id: serde_json::Number,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    attributes: Attributes,
}

/// Attributes of an instance or of the project that it belongs to.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Attributes {
    user_data: Option<String>,
    user_data_encoding: Option<String>,
    ssh_keys: String,
    #[serde(rename = "sshKeys")]
    old_ssh_keys: String,
    block_project_ssh_keys: String,
}

pub(super) fn fetch(ask: &dyn Ask) -> Result<Found, SourceError> {
    first_that_answers(&SERVICES, |service| fetch_from(ask, service))
}

fn fetch_from(ask: &dyn Ask, service: &str) -> Result<Found, SourceError> {
    let url = |path: &str| format!("{service}/computeMetadata/v1/{path}/?recursive=true");
    let instance = url("instance");
    let answer = ask.get(&instance, &[FLAVOR])?;
    if answer.header(FLAVOR.0) != Some(FLAVOR.1) {
        return Err(SourceError::Lacks { document: instance, what: "header that says that it is Google's" });
    }
    let vm: Vm = from_json(&instance, &answer.body)?;
    let project = url("project/attributes");
    let project: Attributes = match ask.optional(&project, &[FLAVOR])? {
        Some(text) => from_json(&project, &text)?,
        None => Attributes::default(),
    };
    read(vm, &project)
}

fn read(vm: Vm, project: &Attributes) -> Result<Found, SourceError> {
    let own = &vm.attributes;
    // The old list replaced the project's, the new one adds to it.
    let shared = own.old_ssh_keys.is_empty() && !own.block_project_ssh_keys.eq_ignore_ascii_case("true");
    let lists = [&own.old_ssh_keys, &own.ssh_keys].into_iter();
    let lists = lists.chain([&project.ssh_keys, &project.old_ssh_keys].into_iter().filter(|_| shared));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let keys = lists.flat_map(|list| list.lines()).filter_map(|line| key(line, now)).collect();
    let user_data = match (own.user_data.as_ref(), own.user_data_encoding.as_deref()) {
        (Some(text), Some("base64")) => Some(from_base64("user-data", text)?),
        (text, _) => text.map(|text| text.clone().into_bytes()),
    };
    let hostname = vm.hostname.split('.').next().map(str::to_owned);
    Ok(Instance { id: Some(vm.id.to_string()), hostname, keys }.found(Datasource::Gce, user_data))
}

/// The key of a line `USER:KEY`, unless it has expired. Everybody who is named may log in, as with Google's agent.
fn key(line: &str, now: u64) -> Option<String> {
    let (_, key) = line.split_once(':')?;
    let expires = key.split_once(" google-ssh ").and_then(|(_, detail)| {
        let detail: serde_json::Value = serde_json::from_str(detail).ok()?;
        seconds(detail.get("expireOn")?.as_str()?)
    });
    expires.is_none_or(|expires| expires > now).then(|| key.trim().to_owned())
}

/// Seconds since 1970 of a time like `2026-12-04T20:12:00+0000`.
fn seconds(text: &str) -> Option<u64> {
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    if year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    // Years begin in March, so that the day that some have more is the last one.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    Some(((days * 24 + part(11..13)?) * 60 + part(14..16)?) * 60 + part(17..19)?)
}

#[cfg(test)]
mod tests {
    use super::super::service::recorded::{KEY, Recorded};
    use super::*;

    const INSTANCE: &str = "GET http://169.254.169.254/computeMetadata/v1/instance/?recursive=true";
    const PROJECT: &str = "GET http://169.254.169.254/computeMetadata/v1/project/attributes/?recursive=true";

    fn service(answers: &[(&str, u16, &str)]) -> Recorded {
        let mut service = Recorded::new(answers);
        service.headers.insert("metadata-flavor", "Google".parse().unwrap());
        service
    }

    #[test]
    fn instance_and_project_are_read() {
        let instance = serde_json::json!({
            "id": 7_203_952_147_385_000_123_u64,
            "hostname": "web.c.project.internal",
            "attributes": {"user-data": "#cloud-config\n", "ssh-keys": format!("a:{KEY} a\nbroken")},
            "zone": "projects/1/zones/europe-west1-b",
        });
        let other = KEY.replace("ILM", "ILN");
        let project = serde_json::json!({"ssh-keys": format!("b:{other}")}).to_string();
        let asked = service(&[(INSTANCE, 200, &instance.to_string()), (PROJECT, 200, &project)]);
        let found = fetch(&asked).unwrap();
        assert_eq!(found.user_data, b"#cloud-config\n");
        assert_eq!(found.meta.instance_id.as_deref(), Some("7203952147385000123"));
        assert_eq!(found.meta.local_hostname.as_deref(), Some("web"));
        assert_eq!(found.meta.public_keys, [format!("{KEY} a"), other]);
        assert!(asked.asked.borrow().iter().all(|asked| asked.contains("[Metadata-Flavor: Google]")));
    }

    #[test]
    fn project_keys_can_be_kept_out_and_user_data_can_be_base64() {
        let vm = |text: &str| serde_json::from_str::<Vm>(text).unwrap();
        let project = Attributes { ssh_keys: format!("b:{KEY}"), ..Attributes::default() };
        for (attributes, keys) in
            [(r#"{"block-project-ssh-keys": "TRUE"}"#, 0), (r#"{"sshKeys": "x"}"#, 0), ("{}", 1)]
        {
            let found = read(vm(&format!(r#"{{"id": 1, "attributes": {attributes}}}"#)), &project).unwrap();
            assert_eq!(found.meta.public_keys.len(), keys, "{attributes}");
        }
        let encoded = r#"{"id": 1, "attributes": {"user-data": "aGk=", "user-data-encoding": "base64"}}"#;
        assert_eq!(read(vm(encoded), &project).unwrap().user_data, b"hi");
        assert!(read(vm(&encoded.replace("aGk=", "?")), &project).is_err());
    }

    #[test]
    fn keys_expire() {
        let line = |time: &str| format!(r#"a:{KEY} google-ssh {{"userName":"a","expireOn":"{time}"}}"#);
        assert_eq!(seconds("2026-12-04T20:12:00+0000"), Some(1_796_415_120));
        assert_eq!(seconds("1970-01-01T00:00:01+0000"), Some(1));
        assert_eq!(seconds("2024-02-29T00:00:00+0000"), Some(1_709_164_800));
        assert_eq!(seconds("tomorrow"), None);
        assert!(key(&line("2026-12-04T20:12:00+0000"), 1_796_415_119).is_some());
        assert!(key(&line("2026-12-04T20:12:00+0000"), 1_796_415_120).is_none());
        assert!(key(&line("never"), 1).is_some());
    }

    #[test]
    fn somebody_else_is_not_google() {
        let plain = Recorded::new(&[(INSTANCE, 200, r#"{"id": 1}"#)]);
        assert!(fetch(&plain).unwrap_err().to_string().contains("Google's"));
        assert!(matches!(fetch(&service(&[(INSTANCE, 200, "<html>")])), Err(SourceError::Json { .. })));
        assert!(matches!(fetch(&service(&[(INSTANCE, 200, "{}")])), Err(SourceError::Json { .. })));
    }
}
