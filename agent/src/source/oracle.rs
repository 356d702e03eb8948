//! Oracle Cloud Infrastructure: one JSON document, in version 2 behind a header, or in version 1.
//!
//! <https://docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm>

use serde::Deserialize;

use super::service::{ADDRESS, Ask, Instance, SourceError, from_base64, from_json};
use super::{Datasource, Found};

/// What is used of it.
#[derive(Debug, Deserialize)]
struct Vm {
    id: String,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    /// Always base64.
    user_data: Option<String>,
    ssh_authorized_keys: String,
}

pub(super) fn fetch(ask: &dyn Ask) -> Result<Found, SourceError> {
    let url = |version: u8| format!("{ADDRESS}/opc/v{version}/instance/");
    let (url, answer) = match ask.get(&url(2), &[("Authorization", "Bearer Oracle")]) {
        Err(error) if error.is_missing() => (url(1), ask.get(&url(1), &[])?),
        answer => (url(2), answer?),
    };
    let vm: Vm = from_json(&url, &answer.body)?;
    let user_data = vm.metadata.user_data.as_ref().map(|text| from_base64("user_data", text)).transpose()?;
    let keys = vm.metadata.ssh_authorized_keys.lines().map(str::to_owned).collect();
    Ok(Instance { id: Some(vm.id), hostname: vm.hostname, keys }.found(Datasource::Oracle, user_data))
}

#[cfg(test)]
mod tests {
    use super::super::service::recorded::{KEY, Recorded};
    use super::*;

    const V1: &str = "GET http://169.254.169.254/opc/v1/instance/";
    const V2: &str = "GET http://169.254.169.254/opc/v2/instance/";

    #[test]
    fn both_versions_are_spoken() {
        let document = serde_json::json!({
            "id": "ocid1.instance.oc1.phx.abc",
            "hostname": "web",
            "metadata": {"user_data": "I2Nsb3VkLWNvbmZpZwo=", "ssh_authorized_keys": format!("{KEY}\n")},
        });
        for url in [V1, V2] {
            let service = Recorded::new(&[(url, 200, &document.to_string())]);
            let found = fetch(&service).unwrap();
            assert_eq!(found.user_data, b"#cloud-config\n");
            assert_eq!(found.meta.instance_id.as_deref(), Some("ocid1.instance.oc1.phx.abc"));
            assert_eq!(found.meta.local_hostname.as_deref(), Some("web"));
            assert_eq!(found.meta.public_keys, [KEY]);
            assert_eq!(
                service.asked.borrow()[0],
                "GET http://169.254.169.254/opc/v2/instance/ [Authorization: Bearer Oracle] "
            );
        }
    }

    #[test]
    fn an_instance_needs_no_metadata_of_its_own_but_an_id() {
        assert!(fetch(&Recorded::new(&[(V2, 200, r#"{"id": "a"}"#)])).unwrap().problems.is_empty());
        for page in ["{}", "<html>", r#"{"id": "a", "metadata": {"user_data": "?"}}"#] {
            assert!(fetch(&Recorded::new(&[(V2, 200, page)])).is_err(), "{page}");
        }
    }
}
