//! A NoCloud seed that is named instead of found: `ds=nocloud;s=URL;h=NAME;i=ID` on the kernel command line, or as the
//! machine's serial number in SMBIOS.
//!
//! <https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>

use super::dmi::Dmi;

/// Where a seed is, and what counts before what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seed {
    /// The address that the names of the files are added to; without one, the seed is a disk.
    pub(super) url: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) instance_id: Option<String>,
    /// What was given and is not known.
    pub(super) unknown: Vec<String>,
}

impl Seed {
    /// Reads `nocloud[;key=value...]`, the value of `ds`; `None` when it is for another datasource. `__dmi.NAME__` in
    /// the address stands for what the firmware says.
    pub(super) fn parse(text: &str, dmi: &Dmi) -> Option<Self> {
        let mut parts = text.split(';');
        let name = parts.next()?.trim();
        if !["nocloud", "nocloud-net"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return None;
        }
        let mut seed = Self::default();
        for part in parts.filter(|part| !part.trim().is_empty()) {
            let value = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
            match part.split_once('=') {
                Some(("s" | "seedfrom", url))
                    if url.starts_with("http://") || url.starts_with("https://") =>
                {
                    seed.url = value(&with_firmware(url, dmi));
                }
                Some(("h" | "local-hostname", name)) => seed.hostname = value(name),
                Some(("i" | "instance-id", id)) => seed.instance_id = value(id),
                _ => seed.unknown.push(part.to_owned()),
            }
        }
        Some(seed)
    }

    /// The address of one of its files. What follows the path of an address goes with each.
    pub(super) fn file(url: &str, name: &str) -> String {
        match url.split_once('?') {
            Some((path, query)) => format!("{path}{name}?{query}"),
            None => format!("{url}{name}"),
        }
    }
}

/// cloud-init's names of what the firmware says, and the kernel's.
const FIRMWARE: [(&str, &str); 6] = [
    ("__dmi.chassis-asset-tag__", "chassis_asset_tag"),
    ("__dmi.system-product-name__", "product_name"),
    ("__dmi.system-serial-number__", "product_serial"),
    ("__dmi.system-uuid__", "product_uuid"),
    ("__dmi.system-manufacturer__", "sys_vendor"),
    ("__dmi.bios-version__", "bios_version"),
];

fn with_firmware(url: &str, dmi: &Dmi) -> String {
    FIRMWARE.iter().fold(url.to_owned(), |url, (name, field)| url.replace(name, dmi.get(field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_named_in_words() {
        let dmi = Dmi::default();
        let seed = |text: &str| Seed::parse(text, &dmi);
        let some = |text: &str| Some(text.to_owned());
        for (text, read) in [
            ("nocloud", Some(Seed::default())),
            ("nocloud-net", Some(Seed::default())),
            ("NoCloud;", Some(Seed::default())),
            (
                "nocloud;s=http://192.0.2.1:8000/a/;h=web;i=i-1",
                Some(Seed {
                    url: some("http://192.0.2.1:8000/a/"),
                    hostname: some("web"),
                    instance_id: some("i-1"),
                    unknown: vec![],
                }),
            ),
            (
                "nocloud;seedfrom=https://a/?k=1;local-hostname=b;instance-id=c",
                Some(Seed {
                    url: some("https://a/?k=1"),
                    hostname: some("b"),
                    instance_id: some("c"),
                    unknown: vec![],
                }),
            ),
            (
                "nocloud;s=file:///seed/;x",
                Some(Seed { unknown: vec!["s=file:///seed/".into(), "x".into()], ..Seed::default() }),
            ),
            ("ec2", None),
            ("nocloudy", None),
            ("", None),
        ] {
            assert_eq!(seed(text), read, "{text}");
        }
    }

    #[test]
    fn files_are_below_the_address_and_keep_its_query() {
        assert_eq!(Seed::file("http://a/b/", "user-data"), "http://a/b/user-data");
        assert_eq!(Seed::file("http://a/b-", "user-data"), "http://a/b-user-data");
        assert_eq!(Seed::file("http://a/?k=1", "user-data"), "http://a/user-data?k=1");
    }
}
