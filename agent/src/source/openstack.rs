//! OpenStack's documents, from its metadata service or from a config drive.
//!
//! <https://docs.openstack.org/nova/latest/user/metadata.html>

use serde::Deserialize;
use serde_json::Value;

use super::network_data;
use super::service::{
    ADDRESS, Ask, Instance, SourceError, first_that_answers, from_base64, from_json, named, text,
};
use super::{Datasource, Found};

/// IPv6 is for networks without IPv4: there the service has a link-local address, on whichever link it is.
/// <https://docs.openstack.org/neutron/latest/admin/config-ipv6.html>
const SERVICES: [&str; 2] = [ADDRESS, "http://[fe80::a9fe:a9fe]"];

/// Where the documents are, below a config drive's root as in the service.
pub(super) const FOLDER: &str = "openstack/latest";

/// `meta_data.json`, what is used of it.
#[derive(Debug, Deserialize)]
struct Server {
    uuid: String,
    #[serde(default)]
    hostname: Option<String>,
    /// Names and keys.
    #[serde(default)]
    public_keys: Option<serde_json::Map<String, Value>>,
    /// 512 bytes in base64, new ones each time.
    #[serde(default)]
    random_seed: Option<String>,
}

pub(super) fn fetch(ask: &dyn Ask) -> Result<Found, SourceError> {
    first_that_answers(&SERVICES, |service| {
        read(Datasource::OpenStack, |name| ask.optional(&format!("{service}/{FOLDER}/{name}"), &[]))
    })
}

/// Puts the documents together. `get` gives one by its name, or `None` when there is no such document.
pub(super) fn read(
    cloud: Datasource,
    get: impl Fn(&str) -> Result<Option<Vec<u8>>, SourceError>,
) -> Result<Found, SourceError> {
    let document = cloud.document("meta_data.json");
    let Some(meta_data) = get("meta_data.json")? else {
        return Err(SourceError::Lacks { document: FOLDER.to_owned(), what: "meta_data.json" });
    };
    let server: Server = from_json(&document, &meta_data)?;
    let keys = server.public_keys.iter().flatten().filter_map(|(_, key)| text(key)).collect();
    let seed = server.random_seed.as_ref().map(|seed| from_base64(&document, seed)).transpose()?;

    let vendor = cloud.document("vendor_data.json");
    let vendor_data = match get("vendor_data.json")? {
        Some(text) => vendor_data(&from_json(&vendor, &text)?),
        None => None,
    };
    let network = cloud.document("network_data.json");
    let network_config = match get("network_data.json")? {
        Some(text) => network_data::convert(&from_json(&network, &text)?),
        None => None,
    };
    let user_data = get("user_data")?;
    let mut found =
        Instance { id: Some(server.uuid), hostname: server.hostname, keys }.found(cloud, user_data);
    found.meta.random_seed = seed.unwrap_or_default();
    found.vendor_data = named(cloud, "vendor_data.json", vendor_data);
    found.network_config = named(cloud, "network_data.json", network_config);
    Ok(found)
}

/// What a provider writes for cloud-init: a text, a list of them, or either under the key `cloud-init`. Anything else
/// is for other programs.
fn vendor_data(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Array(parts) if !parts.is_empty() => {
            let parts: Vec<Value> = parts.iter().map(|part| serde_json::json!({"content": part})).collect();
            Some(format!("#cloud-config-archive\n{}\n", Value::Array(parts)).into_bytes())
        }
        Value::Object(entries) => vendor_data(entries.get("cloud-init")?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::service::recorded::{KEY, Recorded};
    use super::*;

    fn with(documents: &[(&str, &Value)], user_data: Option<&str>) -> Result<Found, SourceError> {
        read(Datasource::ConfigDrive, |name| {
            let found = documents.iter().find(|(known, _)| *known == name);
            let user_data = user_data.filter(|_| name == "user_data").map(|text| text.as_bytes().to_vec());
            Ok(user_data.or_else(|| found.map(|(_, value)| value.to_string().into_bytes())))
        })
    }

    fn meta_data() -> Value {
        json!({
            "uuid": "d8e02d56-2648-49a3-bf97-6be8f1204f38",
            "hostname": "web.novalocal",
            "name": "web",
            "public_keys": {"mine": format!("{KEY}\n")},
            "random_seed": "c2VlZA==",
            "launch_index": 0,
            "availability_zone": "nova",
        })
    }

    #[test]
    fn the_documents_belong_together() {
        let vendor = json!({"cloud-init": "#cloud-config\n{}\n", "static": {}});
        let network = json!({"links": [], "networks": [], "services": []});
        let found = with(
            &[
                ("meta_data.json", &meta_data()),
                ("vendor_data.json", &vendor),
                ("network_data.json", &network),
            ],
            Some("#cloud-config\n"),
        )
        .unwrap();
        assert_eq!(
            (found.name.as_str(), found.user_data.as_slice()),
            ("ConfigDrive/user-data", &b"#cloud-config\n"[..])
        );
        assert_eq!(found.meta.instance_id.as_deref(), Some("d8e02d56-2648-49a3-bf97-6be8f1204f38"));
        assert_eq!(found.meta.local_fqdn.as_deref(), Some("web.novalocal"));
        assert_eq!(found.meta.public_keys, [KEY]);
        assert_eq!(found.meta.random_seed, b"seed");
        assert_eq!(found.vendor_data.unwrap().1, b"#cloud-config\n{}\n");
        assert!(found.network_config.is_none(), "a network without links says nothing");
    }

    #[test]
    fn vendor_data_that_is_not_for_a_node_is_left() {
        for (given, read) in [
            (json!({}), None),
            (json!({"static": "x"}), None),
            (json!([]), None),
            (json!("a"), Some("a")),
            (json!(["a"]), Some("#cloud-config-archive\n[{\"content\":\"a\"}]\n")),
            (json!({"cloud-init": ["a"]}), Some("#cloud-config-archive\n[{\"content\":\"a\"}]\n")),
        ] {
            assert_eq!(vendor_data(&given).as_deref(), read.map(str::as_bytes), "{given}");
        }
    }

    #[test]
    fn what_is_no_metadata_is_an_error() {
        assert!(with(&[], Some("#cloud-config\n")).unwrap_err().to_string().contains("meta_data.json"));
        for document in [json!([]), json!({}), json!({"uuid": 1}), json!({"uuid": "a", "random_seed": "?"})] {
            assert!(with(&[("meta_data.json", &document)], None).is_err(), "{document}");
        }
        let page =
            Recorded::new(&[("GET http://169.254.169.254/openstack/latest/meta_data.json", 200, "<html>")]);
        assert!(matches!(fetch(&page), Err(SourceError::Json { .. })));
    }
}
