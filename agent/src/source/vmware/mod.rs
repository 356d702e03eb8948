//! VMware: properties of the machine, `guestinfo.*`, that its hypervisor tells through a port of the processor.
//!
//! <https://cloudinit.readthedocs.io/en/latest/reference/datasources/vmware.html> has the properties' names.
//!
//! Using the port ends a process that is not heard, so it is used by a process that is for nothing else: this program
//! again, with [`VERB`].

mod channel;

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use serde_json::Value;
use sys::backdoor;

use super::dmi::Dmi;
use super::service::{Instance, SourceError, from_base64, from_yaml, lines, named, text};
use super::{Datasource, Found};
use crate::console;
use channel::{CallError, call};

/// The argument with which this program tells one property, whose name follows.
pub(crate) const VERB: &str = "guestinfo";

/// Its exit code when there is no such property.
const NO_SUCH_PROPERTY: u8 = 3;

/// Why a property is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestinfoError {
    #[error("cannot start the process that asks")]
    Start(#[source] io::Error),
    #[error("nobody listens at the hypervisor's port")]
    Nobody,
    #[error("{0}")]
    Told(String),
}

/// A property's value; `None` when the machine has no such property.
type Property = Result<Option<Vec<u8>>, GuestinfoError>;

/// Whether the machine is VMware's.
pub(super) fn is_here(dmi: &Dmi) -> bool {
    dmi.get("sys_vendor").eq_ignore_ascii_case("VMware, Inc.")
}

/// What the machine's properties say; `None` when they say nothing.
pub(super) fn read(dmi: &Dmi) -> Result<Option<Found>, SourceError> {
    from_properties(&ask, dmi)
}

fn from_properties(ask: &dyn Fn(&str) -> Property, dmi: &Dmi) -> Result<Option<Found>, SourceError> {
    let cloud = Datasource::Vmware;
    let get = |name: &str| -> Result<Option<Vec<u8>>, SourceError> {
        let Some(value) = ask(&format!("guestinfo.{name}"))? else { return Ok(None) };
        // An administrator cannot delete a property from a running machine, and writes this in its place.
        if matches!(value.trim_ascii(), b"" | b"---") {
            return Ok(None);
        }
        let encoding = ask(&format!("guestinfo.{name}.encoding"))?.unwrap_or_default();
        decode(&cloud.document(name), &value, &String::from_utf8_lossy(&encoding)).map(Some)
    };
    let (meta_data, user_data, vendor_data) = (get("metadata")?, get("userdata")?, get("vendordata")?);
    if meta_data.is_none() && user_data.is_none() && vendor_data.is_none() {
        return Ok(None);
    }
    let document = cloud.document("metadata");
    let mut meta: Value = match &meta_data {
        Some(text) => from_yaml(&document, text)?,
        None => Value::Null,
    };
    let encoding = text(&meta["network.encoding"]).unwrap_or_default();
    let network = match meta["network"].take() {
        Value::String(text) => Some(decode(&document, text.as_bytes(), &encoding)?),
        Value::Object(mut network) => {
            let config = network.remove("config").unwrap_or(Value::Object(network));
            Some(config.to_string().into_bytes())
        }
        _ => None,
    };
    let keys = ["public-keys-data", "public-keys", "public_keys"].into_iter();
    let instance = Instance {
        // The firmware's, where nobody has given another one: it goes with the machine.
        id: text(&meta["instance-id"])
            .or_else(|| Some(dmi.get("product_uuid").to_lowercase()))
            .filter(|id| !id.is_empty()),
        hostname: text(&meta["local-hostname"]).or_else(|| text(&meta["hostname"])),
        keys: keys.flat_map(|key| lines(&meta[key])).collect(),
    };
    let found = Found {
        vendor_data: named(cloud, "vendordata", vendor_data),
        network_config: named(cloud, "metadata", network),
        ..instance.found(cloud, user_data)
    };
    Ok(Some(found.told("the properties guestinfo.* of the machine (sys_vendor is VMware's)")))
}

/// A property's value. What is packed stays so: whoever reads it unpacks it.
fn decode(document: &str, value: &[u8], encoding: &str) -> Result<Vec<u8>, SourceError> {
    let decoded = match encoding.trim().to_ascii_lowercase().as_str() {
        "" => return Ok(value.to_vec()),
        "base64" | "b64" | "gzip+base64" | "gz+b64" => {
            from_base64(document, &String::from_utf8_lossy(value))?
        }
        other => {
            return Err(SourceError::Encoding { document: document.to_owned(), encoding: other.to_owned() });
        }
    };
    let mut left = config::MAX_SIZE;
    match userdata::gunzip(decoded.into(), &mut left) {
        Ok(bytes) => Ok(bytes.into_owned()),
        Err(reason) => Err(SourceError::Packed { document: document.to_owned(), reason }),
    }
}

/// Asks for a property from a process of its own.
fn ask(property: &str) -> Property {
    let output = Command::new("/proc/self/exe").args([VERB, property]).output();
    let output = output.map_err(GuestinfoError::Start)?;
    match output.status.code() {
        Some(0) => Ok(Some(output.stdout)),
        Some(code) if code == i32::from(NO_SUCH_PROPERTY) => Ok(None),
        None if output.status.signal() == Some(SIGSEGV) => Err(GuestinfoError::Nobody),
        _ => Err(GuestinfoError::Told(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// What a process ends by that uses a port which is not its own (signal(7)).
const SIGSEGV: i32 = 11;

/// The process that [`ask`] starts: writes the property's value to its standard output.
pub(crate) fn tell(property: &str) -> ExitCode {
    // Where it fails, the hypervisor may hear us all the same.
    backdoor::permit().ok();
    match property_of(property, backdoor::step) {
        Ok(Some(value)) => match io::stdout().write_all(&value) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(None) => ExitCode::from(NO_SUCH_PROPERTY),
        Err(error) => {
            // The parent reads it; when it is gone, nobody does.
            io::stderr().write_all(console::chain(&error).as_bytes()).ok();
            ExitCode::FAILURE
        }
    }
}

/// The hypervisor answers `1 VALUE`, or `0` and a reason.
fn property_of(
    property: &str,
    backdoor: impl FnMut(backdoor::Step) -> backdoor::Answer,
) -> Result<Option<Vec<u8>>, CallError> {
    let answer = call(format!("info-get {property}").as_bytes(), backdoor)?;
    Ok(answer.strip_prefix(b"1 ").map(|value| value.strip_suffix(b"\0").unwrap_or(value).to_vec()))
}

#[cfg(test)]
mod tests {
    use super::super::service::recorded::KEY;
    use super::channel::tests::Hypervisor;
    use super::*;

    fn found(properties: &[(&str, &str)]) -> Result<Option<Found>, SourceError> {
        let ask = |name: &str| {
            let name = name.strip_prefix("guestinfo.").expect("a property of the guest");
            let value = properties.iter().find(|(known, _)| *known == name);
            Ok(value.map(|(_, value)| value.as_bytes().to_vec()))
        };
        from_properties(&ask, &Dmi::with(&[("product_uuid", "564D-AB")]))
    }

    #[test]
    fn properties_are_read_in_every_encoding() {
        let meta_data = format!(
            "instance-id: vm-1\nlocal-hostname: web.example.com\npublic-keys-data: |\n  {KEY}\n\
             network:\n  config:\n    version: 2\n"
        );
        for (encoding, user_data) in [
            ("", "#cloud-config\n"),
            ("base64", "I2Nsb3VkLWNvbmZpZwo="),
            // gzip -n of the same.
            ("gz+b64", "H4sIAAAAAAAAA1NOzskvTdFNzs9Ly0znAgAFVrO4DgAAAA=="),
        ] {
            let properties =
                [("metadata", meta_data.as_str()), ("userdata", user_data), ("userdata.encoding", encoding)];
            let found = found(&properties).unwrap().unwrap();
            assert_eq!(found.user_data, b"#cloud-config\n", "{encoding}");
            assert_eq!(found.meta.instance_id.as_deref(), Some("vm-1"));
            assert_eq!(found.meta.local_fqdn.as_deref(), Some("web.example.com"));
            assert_eq!(found.meta.public_keys, [KEY]);
            let network = found.network_config.map(|(_, text)| String::from_utf8(text).unwrap());
            assert_eq!(network.as_deref(), Some(r#"{"version":2}"#));
        }
    }

    #[test]
    fn the_network_may_be_a_text_of_its_own() {
        // {"version": 2}
        let meta_data = "network: eyJ2ZXJzaW9uIjogMn0=\nnetwork.encoding: base64\n";
        let found = found(&[("metadata", meta_data)]).unwrap().unwrap();
        assert_eq!(found.network_config.unwrap().1, br#"{"version": 2}"#);
        assert_eq!(found.meta.instance_id.as_deref(), Some("564d-ab"), "the firmware's");
        assert_eq!(found.user_data, super::super::service::nothing());
    }

    #[test]
    fn properties_that_say_nothing_are_no_configuration() {
        assert!(found(&[]).unwrap().is_none());
        assert!(found(&[("userdata", "---"), ("metadata", " ")]).unwrap().is_none());
        for (name, value, encoding) in
            [("userdata", "!", "base64"), ("userdata", "a", "rot13"), ("metadata", "a: [", "")]
        {
            let encoded = format!("{name}.encoding");
            assert!(found(&[(name, value), (&encoded, encoding)]).is_err(), "{name} {value} {encoding}");
        }
    }

    #[test]
    fn the_hypervisor_says_whether_there_is_such_a_property() {
        let ask = |property: &str| {
            let mut hypervisor = Hypervisor::new(|asked: &str| match asked {
                "info-get guestinfo.userdata" => b"1 #cloud-config\n".to_vec(),
                _ => b"0 No value found".to_vec(),
            });
            property_of(property, |step| hypervisor.step(step)).unwrap()
        };
        assert_eq!(ask("guestinfo.userdata").as_deref(), Some(b"#cloud-config\n".as_slice()));
        assert_eq!(ask("guestinfo.metadata"), None);
    }
}
