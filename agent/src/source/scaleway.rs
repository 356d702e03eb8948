//! Scaleway: the instance as JSON, and its user-data, which is only given to a privileged port.
//!
//! <https://www.scaleway.com/en/docs/instances/how-to/use-metadata/> and the pages on user-data beside it.

use serde::Deserialize;

use super::service::{Ask, Instance, SourceError, first_that_answers, from_json, named};
use super::{Datasource, Found};

/// IPv6 is for instances without IPv4.
const SERVICES: [&str; 2] = ["http://169.254.42.42", "http://[fd00:42::42]"];

/// Before a key among an instance's tags.
const TAG: &str = "AUTHORIZED_KEY=";

/// What is used of it.
#[derive(Debug, Deserialize)]
struct Server {
    id: String,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    ssh_public_keys: Vec<Key>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Key {
    key: String,
}

/// `ask` asks from ports below 1024, which show that it is root who asks.
pub(super) fn fetch(ask: &dyn Ask) -> Result<Found, SourceError> {
    first_that_answers(&SERVICES, |service| fetch_from(ask, service))
}

fn fetch_from(ask: &dyn Ask, service: &str) -> Result<Found, SourceError> {
    let url = format!("{service}/conf?format=json");
    let server: Server = from_json(&url, &ask.get(&url, &[])?.body)?;
    let user_data = ask.optional(&format!("{service}/user_data/cloud-init"), &[])?;
    let vendor_data = ask.optional(&format!("{service}/vendor_data/cloud-init"), &[])?;
    let tags = server.tags.iter().filter_map(|tag| Some(tag.strip_prefix(TAG)?.replace('_', " ")));
    let keys = server.ssh_public_keys.into_iter().map(|key| key.key).chain(tags).collect();
    let cloud = Datasource::Scaleway;
    Ok(Found {
        vendor_data: named(cloud, "vendor-data", vendor_data),
        ..Instance { id: Some(server.id), hostname: server.hostname, keys }.found(cloud, user_data)
    })
}

#[cfg(test)]
mod tests {
    use super::super::service::recorded::{KEY, Recorded};
    use super::*;

    const URL: &str = "GET http://169.254.42.42/conf?format=json";

    #[test]
    fn instance_user_data_and_tags_are_read() {
        let document = serde_json::json!({
            "id": "cda1b9d3",
            "hostname": "web",
            "ssh_public_keys": [{"key": KEY, "fingerprint": "x"}],
            "tags": ["a", format!("AUTHORIZED_KEY={}", KEY.replace("ILM", "ILN").replace(' ', "_"))],
        });
        let service = Recorded::new(&[
            (URL, 200, &document.to_string()),
            ("GET http://169.254.42.42/user_data/cloud-init", 200, "#cloud-config\n"),
        ]);
        let found = fetch(&service).unwrap();
        assert_eq!(found.user_data, b"#cloud-config\n");
        assert_eq!(found.meta.instance_id.as_deref(), Some("cda1b9d3"));
        assert_eq!(found.meta.local_hostname.as_deref(), Some("web"));
        assert_eq!(found.meta.public_keys, [KEY.to_owned(), KEY.replace("ILM", "ILN")]);
        assert!(found.vendor_data.is_none());
    }

    #[test]
    fn another_page_is_an_error() {
        for page in ["{}", "<html>"] {
            assert!(fetch(&Recorded::new(&[(URL, 200, page)])).is_err(), "{page}");
        }
    }
}
