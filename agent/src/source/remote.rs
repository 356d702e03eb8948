//! A configuration that is asked for over the network: whom to ask, and what that takes.

use std::fmt;
use std::time::{Duration, Instant};

use super::dmi::Dmi;
use super::seed::Seed;
use super::service::{Ask, SourceError, Until};
use super::{
    Datasource, Found, azure, digitalocean, ec2, gce, hetzner, nocloud, openstack, oracle, scaleway, vultr,
};
use crate::host;
use crate::http::{Client, Limits};

/// The kernel command line's key of an address with user-data.
const CONFIG_URL: &str = "cloud-config-url";

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// A NoCloud seed below an address.
    Seed { url: String, told_by: &'static str },
    /// User-data at an address.
    Url(String),
    /// A cloud's metadata service, and what told the cloud.
    Cloud(Datasource, String),
}

/// What a machine is told about where its configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) remote: Option<Remote>,
    /// What counts before a NoCloud seed's own meta-data.
    pub(super) seed: Option<Seed>,
}

impl Named {
    /// By the kernel command line, else by the firmware.
    pub(super) fn read(cmdline: &str, dmi: &Dmi) -> Self {
        let ds = host::value(cmdline, "ds").map(|ds| (ds, "the kernel command line"));
        let serial =
            dmi.get("product_serial").strip_prefix("ds=").map(|ds| (ds, "the machine's serial number"));
        let seed =
            ds.into_iter().chain(serial).find_map(|(ds, told_by)| Some((Seed::parse(ds, dmi)?, told_by)));
        let at_seed =
            seed.as_ref().and_then(|(seed, told_by)| Some(Remote::Seed { url: seed.url.clone()?, told_by }));
        let at_url = || host::value(cmdline, CONFIG_URL).map(|url| Remote::Url(url.to_owned()));
        let told = || {
            let cloud = Datasource::cloud(ds?.0.split(';').next()?)?;
            Some(Remote::Cloud(cloud, "the kernel command line names it".to_owned()))
        };
        let recognised = || dmi.cloud().map(|(cloud, why)| Remote::Cloud(cloud, why));
        // Who says where the seed is means that no cloud is to be asked.
        let cloud = || if seed.is_some() { None } else { told().or_else(recognised) };
        let remote = at_seed.or_else(at_url).or_else(cloud);
        Self { remote, seed: seed.map(|(seed, _)| seed) }
    }
}

impl Remote {
    /// Whether it was named, so that disks do not count.
    pub(super) fn is_named(&self) -> bool {
        !matches!(self, Self::Cloud(..))
    }

    /// Its name in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Seed { .. } => "the NoCloud seed",
            Self::Url(_) => CONFIG_URL,
            Self::Cloud(cloud, _) => cloud.name(),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed { url, told_by } => write!(f, "the NoCloud seed {url} ({told_by} names it)"),
            Self::Url(url) => write!(f, "{url} ({CONFIG_URL} on the kernel command line)"),
            Self::Cloud(cloud, why) => write!(f, "the metadata service of {} ({why})", cloud.name()),
        }
    }
}

/// What is known beside the server that is asked.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Azure's disk.
    pub(super) environment: Option<azure::Environment>,
    /// What the last generation was made from.
    pub(super) last: Option<Found>,
}

/// How long one request may take, and all of one attempt together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) connect: Duration,
    pub(super) request: Duration,
    pub(super) attempt: Duration,
}

impl Patience {
    fn limits(&self, redirects: u32) -> Limits {
        Limits { connect: self.connect, whole: self.request, body: config::MAX_SIZE, redirects }
    }

    /// For addresses that somebody has named: they may be elsewhere by now.
    pub(super) fn following(&self) -> Client {
        Client::new(self.limits(Limits::default().redirects))
    }

    fn client(&self, remote: &Remote) -> Client {
        match remote {
            Remote::Seed { .. } | Remote::Url(_) => self.following(),
            Remote::Cloud(Datasource::Scaleway, _) => Client::privileged(self.limits(0)),
            // A metadata service has no reason to send anybody elsewhere.
            Remote::Cloud(..) => Client::new(self.limits(0)),
        }
    }
}

/// Asks once.
pub(super) fn fetch(remote: &Remote, known: &Known, patience: Patience) -> Result<Found, SourceError> {
    let client = patience.client(remote);
    let ask = Until { client: &client, deadline: Instant::now() + patience.attempt };
    let found = match remote {
        Remote::Seed { url, .. } => nocloud::fetch(&ask, url)?,
        Remote::Url(url) => Found::new(Datasource::NoCloud, CONFIG_URL, ask.get(url, &[])?.body),
        Remote::Cloud(cloud, _) => match cloud {
            Datasource::Ec2 => ec2::fetch(&ask)?,
            Datasource::OpenStack => openstack::fetch(&ask)?,
            Datasource::Gce => gce::fetch(&ask)?,
            Datasource::Azure => azure::fetch(&ask, known.environment.as_ref(), known.last.as_ref())?,
            Datasource::Hetzner => hetzner::fetch(&ask)?,
            Datasource::DigitalOcean => digitalocean::fetch(&ask)?,
            Datasource::Scaleway => scaleway::fetch(&ask)?,
            Datasource::Oracle => oracle::fetch(&ask)?,
            Datasource::Vultr => vultr::fetch(&ask)?,
            Datasource::CommandLine
            | Datasource::NoCloud
            | Datasource::BakedIn
            | Datasource::ConfigDrive
            | Datasource::Vmware => {
                return Err(SourceError::NoService(cloud.name()));
            }
        },
    };
    Ok(found.told(remote.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(cmdline: &str, fields: &[(&'static str, &str)]) -> Named {
        Named::read(cmdline, &Dmi::with(fields))
    }

    #[test]
    fn whoever_is_named_is_asked_before_who_is_recognised() {
        let ec2 = [("sys_vendor", "Amazon EC2")];
        let serial = [("product_serial", "ds=nocloud;s=http://b/")];
        let seed = |url: &str, told_by| Some(Remote::Seed { url: url.to_owned(), told_by });
        let line = "the kernel command line";
        for (cmdline, fields, remote) in [
            ("", &[][..], None),
            ("", &ec2, Some(Remote::Cloud(Datasource::Ec2, "sys_vendor is 'Amazon EC2'".to_owned()))),
            ("ds=nocloud;s=http://a/", &ec2, seed("http://a/", line)),
            ("ds=nocloud;s=http://a/ cloud-config-url=http://c", &serial, seed("http://a/", line)),
            ("", &serial, seed("http://b/", "the machine's serial number")),
            ("cloud-config-url=http://c", &ec2, Some(Remote::Url("http://c".to_owned()))),
            ("ds=nocloud", &ec2, None),
            ("ds=nocloud;h=x", &ec2, None),
            (
                "ds=openstack",
                &ec2,
                Some(Remote::Cloud(Datasource::OpenStack, "the kernel command line names it".to_owned())),
            ),
            ("ds=nothing", &[], None),
        ] {
            assert_eq!(named(cmdline, fields).remote, remote, "{cmdline} {fields:?}");
        }
        assert_eq!(named("ds=nocloud;h=x", &[]).seed.unwrap().hostname.as_deref(), Some("x"));
    }

    #[test]
    fn who_is_asked_is_said_with_the_reason() {
        let cloud = Remote::Cloud(Datasource::Gce, "product_name is 'Google'".to_owned());
        assert_eq!(cloud.to_string(), "the metadata service of GCE (product_name is 'Google')");
    }
}
