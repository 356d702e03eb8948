//! Hetzner Cloud: meta-data as one YAML document, with the network and the provider's own configuration in it.
//!
//! <https://docs.hetzner.cloud/reference/cloud#server-metadata>

use serde::Deserialize;
use serde_json::Value;

use super::service::{ADDRESS, Ask, Instance, SourceError, from_yaml, lines, maybe_base64, named, text};
use super::{Datasource, Found};

/// What is used of the meta-data. Identifiers are numbers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Server {
    instance_id: Value,
    #[serde(default)]
    hostname: Value,
    #[serde(default)]
    public_keys: Value,
    network_config: Option<Value>,
    #[serde(rename = "vendor_data")]
    vendor_data: Option<String>,
}

pub(super) fn fetch(ask: &dyn Ask) -> Result<Found, SourceError> {
    let url = format!("{ADDRESS}/hetzner/v1/metadata");
    let server: Server = from_yaml(&url, &ask.get(&url, &[])?.body)?;
    let Some(id) = text(&server.instance_id) else {
        return Err(SourceError::Lacks { document: url, what: "instance-id" });
    };
    let user_data = ask.optional(&format!("{ADDRESS}/hetzner/v1/userdata"), &[])?;
    let cloud = Datasource::Hetzner;
    let instance =
        Instance { id: Some(id), hostname: text(&server.hostname), keys: lines(&server.public_keys) };
    let network = server.network_config.filter(|network| !network.is_null());
    Ok(Found {
        vendor_data: named(cloud, "vendor-data", server.vendor_data.map(String::into_bytes)),
        network_config: named(
            cloud,
            "network-config",
            network.map(|network| network.to_string().into_bytes()),
        ),
        ..instance.found(cloud, user_data.filter(|data| !data.is_empty()).map(maybe_base64))
    })
}

#[cfg(test)]
mod tests {
    use super::super::service::recorded::{KEY, Recorded};
    use super::*;

    const META_DATA: &str = "GET http://169.254.169.254/hetzner/v1/metadata";
    const USER_DATA: &str = "GET http://169.254.169.254/hetzner/v1/userdata";

    #[test]
    fn one_document_has_it_all() {
        let meta_data = format!(
            "availability-zone: fsn1-dc14\nhostname: web\ninstance-id: 12345678\npublic-keys:\n- {KEY}\n\
             network-config:\n  version: 1\n  config:\n  - type: physical\n    name: eth0\n    subnets:\n    - type: dhcp\n\
             vendor_data: |\n  #cloud-config\n  disable_root: false\n"
        );
        for user_data in ["#cloud-config\n", "I2Nsb3VkLWNvbmZpZwo="] {
            let service = Recorded::new(&[(META_DATA, 200, &meta_data), (USER_DATA, 200, user_data)]);
            let found = fetch(&service).unwrap();
            assert_eq!(found.user_data, b"#cloud-config\n");
            assert_eq!(found.meta.instance_id.as_deref(), Some("12345678"));
            assert_eq!(found.meta.local_hostname.as_deref(), Some("web"));
            assert_eq!(found.meta.public_keys, [KEY]);
            let (name, network) = found.network_config.unwrap();
            assert_eq!(name, "Hetzner/network-config");
            let network: Value = serde_json::from_slice(&network).unwrap();
            assert_eq!(network["config"][0]["name"], "eth0");
            assert!(found.vendor_data.unwrap().1.starts_with(b"#cloud-config\n"));
        }
    }

    #[test]
    fn no_user_data_is_no_fault_and_another_page_is() {
        let service = Recorded::new(&[(META_DATA, 200, "instance-id: 1\nvendor_data: ''\n")]);
        let found = fetch(&service).unwrap();
        assert!(found.problems.is_empty() && found.vendor_data.is_none() && found.network_config.is_none());
        for page in ["<html>", "hostname: x\n", "[", "instance-id: {}\n"] {
            assert!(fetch(&Recorded::new(&[(META_DATA, 200, page)])).is_err(), "{page}");
        }
    }
}
