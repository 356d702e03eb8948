//! `ca_certs`: whom the node trusts, in `/etc/ssl/certs/ca-certificates.crt`.
//!
//! Containers get the same file when `ca_certs` is given. It is kept on the state partition under a name made of its
//! content, because PID 1 starts the last plan's containers before the agent has made anything, and because another
//! content must be another bundle.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use config::CaCerts;
use plan::paths;
use sha2::{Digest as _, Sha256};

use super::Failures;
use crate::file::{self, FileError, cannot};

/// What the release trusts.
const DEFAULTS: &str = "/usr/share/ca-certificates/ca-certificates.crt";

/// What programs read.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Makes the node trust these authorities.
pub(super) fn trust(certs: Option<&CaCerts>, failures: &mut Failures) {
    let result = match certs {
        Some(certs) if !is_default(certs) => {
            text(certs).and_then(|text| file::replace(Path::new(BUNDLE), 0o644, text.as_bytes()))
        }
        _ => link_defaults(),
    };
    failures.check("ca_certs", result);
}

/// The file that containers get, when they get one. It is made when it is not there.
pub(crate) fn for_containers(certs: Option<&CaCerts>) -> Result<Option<PathBuf>, FileError> {
    let Some(certs) = certs.filter(|certs| !is_default(certs)) else { return Ok(None) };
    let text = text(certs)?;
    let digest: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = Path::new(paths::CERTIFICATES).join(format!("{digest}.crt"));
    file::replace(&path, 0o644, text.as_bytes())?;
    Ok(Some(path))
}

fn is_default(certs: &CaCerts) -> bool {
    certs.trusted.is_empty() && !certs.remove_defaults
}

fn text(certs: &CaCerts) -> Result<String, FileError> {
    let mut text = String::new();
    if !certs.remove_defaults {
        text = fs::read_to_string(DEFAULTS).map_err(cannot("read", Path::new(DEFAULTS)))?;
    }
    text.extend(certs.trusted.iter().map(String::as_str));
    Ok(text)
}

fn link_defaults() -> Result<(), FileError> {
    let path = Path::new(BUNDLE);
    if fs::read_link(path).is_ok_and(|target| target == Path::new(DEFAULTS)) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path)(error)),
        _ => symlink(DEFAULTS, path).map_err(cannot("make the link", path)),
    }
}
