//! A datasource's meta-data: what the place says of the instance.

use crate::decode;
use crate::problem::{Problem, Report};
use crate::read::At;
use crate::tree;

/// Meta-data as far as it is used. Other keys are the datasource's own business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaData {
    /// `instance-id`: another one means another instance.
    pub instance_id: Option<String>,
    /// The first label of `local-hostname`.
    pub local_hostname: Option<String>,
}

/// Reads meta-data. Problems in it never make a configuration invalid.
pub fn meta_data(source: &str, bytes: &[u8]) -> (MetaData, Vec<Problem>) {
    let report = Report::new(source);
    let mut meta = MetaData::default();
    let text = decode::utf8(bytes, &report).filter(|text| !text.trim().is_empty());
    if let Some(root) = text.and_then(|text| tree::parse(text, &report)) {
        for (name, _, value) in At::new(&root, "", &report).map().unwrap_or_default() {
            match name {
                "instance-id" | "instance_id" => meta.instance_id = value.text().map(str::to_owned),
                "local-hostname" | "local_hostname" => meta.local_hostname = crate::cloud::hostname(&value),
                _ => {}
            }
        }
    }
    (meta, report.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_and_its_name_are_read() {
        let text = b"instance-id: i-1\nlocal-hostname: web.example.com\npublic-keys: [a]\n";
        let (meta, problems) = meta_data("meta-data", text);
        assert_eq!(meta.instance_id.as_deref(), Some("i-1"));
        assert_eq!(meta.local_hostname.as_deref(), Some("web"));
        assert_eq!(problems, []);
        assert_eq!(meta_data("meta-data", b"").0, MetaData::default());
        assert_eq!(meta_data("meta-data", b"[").1.len(), 1);
    }
}
