//! Which cloud a machine runs in, by what its firmware says (SMBIOS, which the kernel shows in `/sys/class/dmi/id`).
//!
//! Only a cloud that is recognised is asked: on a machine of one's own, nobody knows who would answer.

use std::path::Path;

use super::Datasource;

/// What the firmware says of the machine; empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dmi {
    fields: Vec<(&'static str, String)>,
}

/// The kernel's names of what is looked at (`drivers/firmware/dmi-id.c`).
const FIELDS: [&str; 6] =
    ["bios_version", "chassis_asset_tag", "product_name", "product_serial", "product_uuid", "sys_vendor"];

/// How a field must read.
enum Is {
    Exactly(&'static str),
    Beginning(&'static str),
    Ending(&'static str),
}

use Is::{Beginning, Ending, Exactly};

/// What tells the clouds, from each one's documentation; the first match counts. Upper and lower case are the same:
/// Xen and Nitro spell Amazon's UUIDs differently.
static TABLE: [(&str, Is, Datasource); 19] = [
    ("chassis_asset_tag", Exactly("7783-7084-3265-9085-8269-3286-77"), Datasource::Azure),
    ("chassis_asset_tag", Exactly("OracleCloud.com"), Datasource::Oracle),
    ("product_name", Exactly("Google Compute Engine"), Datasource::Gce),
    ("product_name", Exactly("Google"), Datasource::Gce),
    ("product_serial", Beginning("GoogleCloud-"), Datasource::Gce),
    ("sys_vendor", Exactly("Hetzner"), Datasource::Hetzner),
    ("sys_vendor", Exactly("DigitalOcean"), Datasource::DigitalOcean),
    ("sys_vendor", Exactly("Scaleway"), Datasource::Scaleway),
    ("sys_vendor", Exactly("Vultr"), Datasource::Vultr),
    ("product_name", Exactly("OpenStack Nova"), Datasource::OpenStack),
    ("product_name", Exactly("OpenStack Compute"), Datasource::OpenStack),
    ("chassis_asset_tag", Exactly("OpenStack Nova"), Datasource::OpenStack),
    ("chassis_asset_tag", Exactly("OpenStack Compute"), Datasource::OpenStack),
    ("chassis_asset_tag", Exactly("OpenTelekomCloud"), Datasource::OpenStack),
    ("chassis_asset_tag", Exactly("HUAWEICLOUD"), Datasource::OpenStack),
    ("sys_vendor", Exactly("Amazon EC2"), Datasource::Ec2),
    ("product_uuid", Beginning("ec2"), Datasource::Ec2),
    ("product_serial", Beginning("ec2"), Datasource::Ec2),
    // Xen's; its UUID may come with the first bytes swapped.
    ("bios_version", Ending(".amazon"), Datasource::Ec2),
];

impl Dmi {
    /// What the firmware of this machine says.
    pub(super) fn of_machine() -> Self {
        Self::read(Path::new("/sys/class/dmi/id"))
    }

    fn read(directory: &Path) -> Self {
        let read = |name| {
            // A machine without SMBIOS has no such files.
            let text = std::fs::read_to_string(directory.join(name)).unwrap_or_default();
            (name, text.trim().to_owned())
        };
        Self { fields: FIELDS.map(read).to_vec() }
    }

    #[cfg(test)]
    pub(super) fn with(fields: &[(&'static str, &str)]) -> Self {
        Self { fields: fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect() }
    }

    /// A field's value.
    pub(super) fn get(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }

    /// The cloud that the machine runs in, and what tells it.
    pub(super) fn cloud(&self) -> Option<(Datasource, String)> {
        TABLE.iter().find_map(|(field, is, cloud)| {
            let value = self.get(field);
            let lower = value.to_ascii_lowercase();
            let matches = match is {
                Exactly(text) => lower == text.to_ascii_lowercase(),
                Beginning(text) => lower.starts_with(&text.to_ascii_lowercase()),
                Ending(text) => lower.ends_with(&text.to_ascii_lowercase()),
            };
            matches.then(|| (*cloud, format!("{field} is '{value}'")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_tells_the_cloud() {
        for (fields, cloud) in [
            (&[("sys_vendor", "Amazon EC2"), ("product_name", "m5.large")][..], Some(Datasource::Ec2)),
            (&[("product_uuid", "EC2A1B2C-0000-0000-0000-000000000000")], Some(Datasource::Ec2)),
            (&[("product_uuid", "ec21ab2c-0000-0000-0000-000000000000")], Some(Datasource::Ec2)),
            (&[("bios_version", "4.2.amazon")], Some(Datasource::Ec2)),
            (
                &[("sys_vendor", "OpenStack Foundation"), ("product_name", "OpenStack Nova")],
                Some(Datasource::OpenStack),
            ),
            (&[("chassis_asset_tag", "OpenTelekomCloud")], Some(Datasource::OpenStack)),
            (&[("product_name", "Google Compute Engine")], Some(Datasource::Gce)),
            (&[("product_serial", "GoogleCloud-1234")], Some(Datasource::Gce)),
            (
                &[
                    ("sys_vendor", "Microsoft Corporation"),
                    ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
                ],
                Some(Datasource::Azure),
            ),
            (&[("sys_vendor", "Microsoft Corporation"), ("product_name", "Virtual Machine")], None),
            (&[("sys_vendor", "Hetzner"), ("product_name", "vServer")], Some(Datasource::Hetzner)),
            (&[("sys_vendor", "DigitalOcean")], Some(Datasource::DigitalOcean)),
            (&[("sys_vendor", "Scaleway")], Some(Datasource::Scaleway)),
            (&[("chassis_asset_tag", "OracleCloud.com")], Some(Datasource::Oracle)),
            (&[("sys_vendor", "Vultr")], Some(Datasource::Vultr)),
            (&[("sys_vendor", "QEMU"), ("product_name", "Standard PC (Q35 + ICH9, 2009)")], None),
            (&[("sys_vendor", "Hetzner Online"), ("product_uuid", "0ec2")], None),
            (&[], None),
        ] {
            let found = Dmi::with(fields).cloud();
            assert_eq!(found.as_ref().map(|(cloud, _)| *cloud), cloud, "{found:?}");
        }
    }

    #[test]
    fn what_told_it_is_said() {
        assert_eq!(
            Dmi::with(&[("product_serial", "GoogleCloud-1")]).cloud().unwrap().1,
            "product_serial is 'GoogleCloud-1'"
        );
    }

    #[test]
    fn every_field_of_the_table_is_read() {
        let directory = tempfile::tempdir().unwrap();
        for field in FIELDS {
            std::fs::write(directory.path().join(field), format!(" {field}\n")).unwrap();
        }
        let dmi = Dmi::read(directory.path());
        for (field, _, _) in &TABLE {
            assert_eq!(dmi.get(field), *field);
        }
        assert_eq!(Dmi::read(Path::new("/nowhere")).cloud(), None);
    }
}
