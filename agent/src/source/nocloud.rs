//! NoCloud: `user-data`, `meta-data`, `vendor-data` and `network-config` as files, on a disk with the label `CIDATA` or
//! below an address.

use std::path::Path;

use super::seed::Seed;
use super::service::{Ask, SourceError};
use super::{Datasource, Found, disk};
use crate::file::FileError;

/// Reads the files of a mounted seed; `name` is that of the disk.
pub(super) fn from_directory(seed: &Path, name: &str) -> Result<Found, FileError> {
    let user_data = disk::read(&seed.join("user-data"))?;
    let mut files = Files::new(name, user_data);
    files.meta_data = disk::read(&seed.join("meta-data"))?;
    files.vendor_data = disk::read(&seed.join("vendor-data"))?;
    files.network_config = disk::read(&seed.join("network-config"))?;
    Ok(files.judge())
}

/// Fetches the files below an address. Meta-data is what tells a seed from any other page, but may be empty.
pub(super) fn fetch(ask: &dyn Ask, url: &str) -> Result<Found, SourceError> {
    let get = |name: &str| ask.optional(&Seed::file(url, name), &[]);
    let meta_data = ask.get(&Seed::file(url, "meta-data"), &[])?.body;
    let mut files = Files::new("NoCloud", Some(ask.get(&Seed::file(url, "user-data"), &[])?.body));
    files.meta_data = Some(meta_data);
    files.vendor_data = get("vendor-data")?;
    files.network_config = get("network-config")?;
    Ok(files.judge())
}

/// A seed's files; `None` for those that are not there.
struct Files<'a> {
    name: &'a str,
    user_data: Option<Vec<u8>>,
    meta_data: Option<Vec<u8>>,
    vendor_data: Option<Vec<u8>>,
    network_config: Option<Vec<u8>>,
}

impl<'a> Files<'a> {
    fn new(name: &'a str, user_data: Option<Vec<u8>>) -> Self {
        Self { name, user_data, meta_data: None, vendor_data: None, network_config: None }
    }

    fn judge(self) -> Found {
        let document = |file: &str| format!("{}/{file}", self.name);
        let named = |file: &str, content: Option<Vec<u8>>| {
            let content = content.filter(|content| !content.trim_ascii().is_empty());
            content.map(|content| (document(file), content))
        };
        let (meta, problems) = config::meta_data(&document("meta-data"), &self.meta_data.unwrap_or_default());
        let vendor_data = named("vendor-data", self.vendor_data);
        let network_config = named("network-config", self.network_config);
        let user_data = document("user-data");
        match self.user_data {
            Some(content) => Found {
                meta,
                problems,
                vendor_data,
                network_config,
                ..Found::new(Datasource::NoCloud, &user_data, content)
            },
            None => {
                let missing = Found::unreadable(Datasource::NoCloud, &user_data, "there is no such file");
                Found { meta, network_config, ..missing }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::service::recorded::Recorded;
    use super::*;

    #[test]
    fn a_disk_is_read_with_all_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("user-data", "#cloud-config\n");
        write("meta-data", "instance-id: i-1\nlocal-hostname: web\n");
        write("network-config", "version: 2\n");
        write("vendor-data", "\n");
        let found = from_directory(directory.path(), "vdb").unwrap();
        assert_eq!(
            (found.name.as_str(), found.user_data.as_slice()),
            ("vdb/user-data", &b"#cloud-config\n"[..])
        );
        assert_eq!(found.meta.local_hostname.as_deref(), Some("web"));
        assert_eq!(found.vendor_data, None, "an empty file says nothing");
        assert_eq!(found.network_config, Some(("vdb/network-config".to_owned(), b"version: 2\n".to_vec())));
        assert!(found.problems.is_empty());
    }

    #[test]
    fn a_seed_without_user_data_is_an_error_that_keeps_the_name() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("meta-data"), "local-hostname: web\n").unwrap();
        let found = from_directory(directory.path(), "vdb").unwrap();
        assert_eq!(found.problems[0].to_string(), "error vdb/user-data: there is no such file");
        assert_eq!(found.meta.local_hostname.as_deref(), Some("web"));
    }

    #[test]
    fn a_server_gives_the_same_files() {
        let service = Recorded::new(&[
            ("GET http://a/web-meta-data", 200, "instance-id: i-1\n"),
            ("GET http://a/web-user-data", 200, "#cloud-config\n"),
            ("GET http://a/web-vendor-data", 200, "#cloud-config\n{}\n"),
        ]);
        let found = fetch(&service, "http://a/web-").unwrap();
        assert_eq!(
            (found.name.as_str(), found.user_data.as_slice()),
            ("NoCloud/user-data", &b"#cloud-config\n"[..])
        );
        assert_eq!(found.meta.instance_id.as_deref(), Some("i-1"));
        assert_eq!(found.vendor_data.unwrap().0, "NoCloud/vendor-data");
        assert!(fetch(&Recorded::new(&[("GET http://a/user-data", 200, "x")]), "http://a/").is_err());
    }
}
