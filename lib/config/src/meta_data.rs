//! A datasource's meta-data: what the place says of the instance.

use serde::{Deserialize, Serialize};
use userdata::{At, Budget, Duplicates, Place, Problem, Report, SourceId, parse};

use crate::{authorized_keys, machine};

/// Meta-data as far as it is used. Other keys are the datasource's own business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetaData {
    /// `instance-id`: another one means another instance.
    pub instance_id: Option<String>,
    /// The first label of `local-hostname`.
    pub local_hostname: Option<String>,
    /// The whole of it.
    pub local_fqdn: Option<String>,
    /// `public-keys`: keys that may log in.
    pub public_keys: Vec<String>,
    /// Bytes for the kernel's random pool, where a platform gives some. New ones come each time, and they are secret: they
    /// are never kept, and tell no configuration from another.
    #[serde(skip)]
    pub random_seed: Vec<u8>,
}

/// Reads meta-data. Problems in it never make a configuration invalid.
pub fn meta_data(source: &str, bytes: &[u8]) -> (MetaData, Vec<Problem>) {
    let report = Report::new(source);
    let meta = read(bytes, SourceId::default(), &report);
    (meta, report.finish().problems)
}

/// The same with a report that others use, too.
pub(crate) fn read(bytes: &[u8], source: SourceId, report: &Report) -> MetaData {
    let mut meta = MetaData::default();
    let Ok(text) = std::str::from_utf8(bytes) else {
        report.error(None, "", "meta-data is not UTF-8 text");
        return meta;
    };
    // A platform writes it, and the user cannot mend it.
    let place = Place { source, line: 1 };
    let root = parse(text, place, Duplicates::LastWins, &mut Budget::default(), report);
    let Some(root) = root.filter(|root| root.get("").is_some() || !text.trim().is_empty()) else {
        return meta;
    };
    for (name, _, value) in At::root(&root, report).map().into_iter().flatten() {
        match name {
            _ if value.is_null() => {}
            "instance-id" | "instance_id" => meta.instance_id = value.text().map(str::to_owned),
            "local-hostname" | "local_hostname" => {
                meta.local_fqdn = machine::full_name(&value);
                let label = meta.local_fqdn.as_deref().and_then(|name| name.split('.').next());
                meta.local_hostname = label.map(str::to_owned);
            }
            "public-keys" | "public_keys" => public_keys(&value, &mut meta.public_keys),
            _ => {}
        }
    }
    meta
}

/// A text of lines, a list of keys, or a map of names to either.
fn public_keys(at: &At<'_>, keys: &mut Vec<String>) {
    let mut items = Vec::new();
    if at.is_map() {
        items.extend(at.map().into_iter().flatten().flat_map(|(_, _, value)| value.list_or_one()));
    } else {
        items.extend(at.list_or_one());
    }
    for item in items {
        for line in item.text().unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty()) {
            match authorized_keys::judge(line) {
                Ok(()) => keys.push(line.to_owned()),
                Err(why) => item.warn(why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_its_name_and_keys_are_read() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
        let text =
            format!("instance-id: i-1\nlocal-hostname: web.example.com\npublic-keys: {{0: [{key}]}}\n");
        let (meta, problems) = meta_data("meta-data", text.as_bytes());
        assert_eq!(meta.instance_id.as_deref(), Some("i-1"));
        assert_eq!(meta.local_hostname.as_deref(), Some("web"));
        assert_eq!(meta.local_fqdn.as_deref(), Some("web.example.com"));
        assert_eq!(meta.public_keys, [key]);
        assert_eq!(problems, []);
        assert_eq!(meta_data("meta-data", b"").0, MetaData::default());
        assert_eq!(meta_data("meta-data", b"[").1.len(), 1);
    }
}
