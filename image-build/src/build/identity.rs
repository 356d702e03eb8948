//! What a build is, and the identifiers that follow from it: none is drawn at random, so that builds can be compared.

use anyhow::{Context, Result};
use gpt::Guid;
use sha2::{Digest, Sha256};

/// Version and time of a build.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its version.
    pub(crate) version: String,
    /// Seconds since the epoch.
    pub(crate) epoch: u64,
}

/// What an identifier is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Disk,
    Esp,
    Recorder,
    Root,
    State,
    StateHashSeed,
    UnusedRoot,
    UnusedVerity,
    Verity,
}

impl Identity {
    /// A UUID of version 8 ("custom", RFC 9562) that stands for `role` in builds of this version.
    pub(crate) fn guid(&self, role: Role) -> Guid {
        let digest = Sha256::digest(format!("holdfast {role:?} {}", self.version));
        let digits = digest.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        let (version, variant) = (0xf << 76, 0x3 << 62);
        Guid::from_u128(digits & !version & !variant | 0x8 << 76 | 0x2 << 62)
    }

    /// The same as bytes in the order of its digits.
    pub(crate) fn uuid(&self, role: Role) -> [u8; 16] {
        self.guid(role).to_u128().to_be_bytes()
    }

    /// `/etc/os-release`, and `.osrel` of the kernel image: systemd-boot sorts by IMAGE_ID and IMAGE_VERSION.
    pub(crate) fn os_release(&self) -> String {
        let version = &self.version;
        format!(
            "ID=holdfast\nNAME=Holdfast\nPRETTY_NAME=\"Holdfast {version}\"\nVERSION_ID={version}\n\
             IMAGE_ID=holdfast\nIMAGE_VERSION={version}\n"
        )
    }

    /// `release.json`.
    pub(crate) fn release_json(&self) -> Result<Vec<u8>> {
        let release = serde_json::json!({ "version": self.version, "source_date_epoch": self.epoch });
        serde_json::to_vec(&release).context("cannot write release.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_from_the_version_and_are_valid() {
        let identity = |version: &str| Identity { version: version.to_owned(), epoch: 0 };
        assert_eq!(identity("1").guid(Role::Disk), identity("1").guid(Role::Disk));
        assert_ne!(identity("1").guid(Role::Disk), identity("2").guid(Role::Disk));
        assert_ne!(identity("1").guid(Role::Disk), identity("1").guid(Role::Esp));
        let text = identity("1").guid(Role::Disk).to_string();
        assert_eq!(&text[14..15], "8");
        assert!("89ab".contains(&text[19..20]), "{text}");
    }
}
