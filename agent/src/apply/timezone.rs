//! `timezone`: `/etc/localtime` and `/etc/timezone`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::Failures;
use crate::file::{self, FileError, cannot};

const DATABASE: &str = "/usr/share/zoneinfo";

/// What a node without a time zone has.
const DEFAULT: &str = "Etc/UTC";

/// Sets the time zone, or the default one.
pub(super) fn set(name: Option<&str>, failures: &mut Failures) {
    let mut name = name.unwrap_or(DEFAULT);
    if !Path::new(DATABASE).join(name).is_file() {
        failures.add(
            "timezone",
            format_args!("there is no time zone '{name}' in this release; {DEFAULT} is used"),
        );
        name = DEFAULT;
    }
    failures.check("timezone", link(Path::new("/etc"), name));
}

fn link(etc: &Path, name: &str) -> Result<(), FileError> {
    let (link, target) = (etc.join("localtime"), Path::new(DATABASE).join(name));
    if fs::read_link(&link).ok().as_ref() != Some(&target) {
        let new = etc.join("localtime.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot("remove", &new)(error));
            }
            _ => symlink(&target, &new).map_err(cannot("make the link", &new))?,
        }
        fs::rename(&new, &link).map_err(cannot("replace", &link))?;
    }
    file::overwrite(&etc.join("timezone"), format!("{name}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_replaced() {
        let etc = tempfile::tempdir().unwrap();
        for name in ["Etc/UTC", "Europe/Berlin", "Europe/Berlin"] {
            link(etc.path(), name).unwrap();
            let target = fs::read_link(etc.path().join("localtime")).unwrap();
            assert_eq!(target, Path::new(DATABASE).join(name));
            assert_eq!(fs::read_to_string(etc.path().join("timezone")).unwrap(), format!("{name}\n"));
        }
    }
}
