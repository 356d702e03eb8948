//! What kind of place a configuration is from.

use serde::{Deserialize, Serialize};

/// A kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Datasource {
    CommandLine,
    NoCloud,
    BakedIn,
    ConfigDrive,
    Vmware,
    Ec2,
    OpenStack,
    Gce,
    Azure,
    Hetzner,
    DigitalOcean,
    Scaleway,
    Oracle,
    Vultr,
}

impl Datasource {
    /// Those that are found by what the firmware says of the machine.
    pub(super) const CLOUDS: [Self; 9] = [
        Self::Ec2,
        Self::OpenStack,
        Self::Gce,
        Self::Azure,
        Self::Hetzner,
        Self::DigitalOcean,
        Self::Scaleway,
        Self::Oracle,
        Self::Vultr,
    ];

    /// Its name, as cloud-init has it where cloud-init has one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "CommandLine",
            Self::NoCloud => "NoCloud",
            Self::BakedIn => "BakedIn",
            Self::ConfigDrive => "ConfigDrive",
            Self::Vmware => "VMware",
            Self::Ec2 => "Ec2",
            Self::OpenStack => "OpenStack",
            Self::Gce => "GCE",
            Self::Azure => "Azure",
            Self::Hetzner => "Hetzner",
            Self::DigitalOcean => "DigitalOcean",
            Self::Scaleway => "Scaleway",
            Self::Oracle => "Oracle",
            Self::Vultr => "Vultr",
        }
    }

    /// The cloud of this name, as `ds=` on the kernel command line has it.
    pub(super) fn cloud(name: &str) -> Option<Self> {
        Self::CLOUDS.into_iter().find(|cloud| cloud.name().eq_ignore_ascii_case(name))
    }

    /// The name of one of its documents in problems.
    pub(super) fn document(self, name: &str) -> String {
        format!("{}/{name}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clouds_are_known_by_name_and_others_are_none() {
        for cloud in Datasource::CLOUDS {
            assert_eq!(Datasource::cloud(&cloud.name().to_lowercase()), Some(cloud));
        }
        assert_eq!(Datasource::cloud("nocloud"), None);
        assert_eq!(Datasource::cloud(""), None);
    }
}
