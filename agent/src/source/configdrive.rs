//! ConfigDrive: OpenStack's documents on a disk with the label `config-2`.

use std::path::Path;

use super::service::SourceError;
use super::{Datasource, Found, disk, openstack};

/// Reads the documents of a mounted config drive.
pub(super) fn from_directory(drive: &Path) -> Result<Found, SourceError> {
    openstack::read(Datasource::ConfigDrive, |name| {
        Ok(disk::read(&drive.join(openstack::FOLDER).join(name))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_is_read() {
        let drive = tempfile::tempdir().unwrap();
        assert!(from_directory(drive.path()).is_err());
        let folder = drive.path().join("openstack/latest");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("meta_data.json"), r#"{"uuid": "a", "hostname": "web"}"#).unwrap();
        std::fs::write(folder.join("user_data"), "#cloud-config\n").unwrap();
        let found = from_directory(drive.path()).unwrap();
        assert_eq!(found.user_data, b"#cloud-config\n");
        assert_eq!(found.meta.local_hostname.as_deref(), Some("web"));
    }
}
