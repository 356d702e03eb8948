//! Vultr: a JSON document, and the user-data beside it.
//!
//! <https://www.vultr.com/metadata/>

use serde::Deserialize;
use serde_json::Value;

use super::service::{ADDRESS, Ask, Instance, SourceError, from_json, lines, maybe_base64, text};
use super::{Datasource, Found};

/// What is used of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Vm {
    #[serde(default)]
    hostname: Value,
    #[serde(rename = "instanceid", default)]
    id: Value,
    #[serde(rename = "instance-v2-id", default)]
    new_id: Value,
    #[serde(default)]
    public_keys: Value,
}

pub(super) fn fetch(ask: &dyn Ask) -> Result<Found, SourceError> {
    let url = format!("{ADDRESS}/v1.json");
    let vm: Vm = from_json(&url, &ask.get(&url, &[("Metadata-Token", "cloudinit")])?.body)?;
    let Some(id) = text(&vm.new_id).or_else(|| text(&vm.id)) else {
        return Err(SourceError::Lacks { document: url, what: "instanceid" });
    };
    let user_data = ask.optional(&format!("{ADDRESS}/latest/user-data"), &[])?;
    let instance = Instance { id: Some(id), hostname: text(&vm.hostname), keys: lines(&vm.public_keys) };
    Ok(instance.found(Datasource::Vultr, user_data.filter(|data| !data.is_empty()).map(maybe_base64)))
}

#[cfg(test)]
mod tests {
    use super::super::service::recorded::{KEY, Recorded};
    use super::*;

    const URL: &str = "GET http://169.254.169.254/v1.json";

    #[test]
    fn keys_come_as_text_or_as_a_list() {
        for keys in [serde_json::json!(format!("{KEY}\n")), serde_json::json!([KEY])] {
            let document =
                serde_json::json!({"instanceid": "42872224", "hostname": "web", "public-keys": keys});
            let service = Recorded::new(&[
                (URL, 200, &document.to_string()),
                ("GET http://169.254.169.254/latest/user-data", 200, "#cloud-config\n"),
            ]);
            let found = fetch(&service).unwrap();
            assert_eq!(found.user_data, b"#cloud-config\n");
            assert_eq!(found.meta.instance_id.as_deref(), Some("42872224"));
            assert_eq!(found.meta.local_hostname.as_deref(), Some("web"));
            assert_eq!(found.meta.public_keys, [KEY]);
        }
    }

    #[test]
    fn another_page_is_an_error() {
        for page in ["{}", "<html>", "[]"] {
            assert!(fetch(&Recorded::new(&[(URL, 200, page)])).is_err(), "{page}");
        }
    }
}
