//! Where the configuration comes from, the first that is there:
//!
//! * the kernel command line: the user-data itself, or where it is (`ds=nocloud;s=URL`, `cloud-config-url=URL`); the
//!   firmware may say the same in the machine's serial number
//! * a disk with the label `CIDATA` or `config-2`
//! * the properties of a virtual machine of VMware
//! * a file that was baked into the root
//! * the metadata service of the cloud that the firmware names
//!
//! Nobody is asked who was not named or recognised. A server that is silent, or says nonsense, is asked again later, at
//! longer and longer intervals, for as long as the node runs: meanwhile the last generation runs.

mod azure;
mod command_line;
mod configdrive;
mod datasource;
mod digitalocean;
mod disk;
mod dmi;
mod ec2;
mod gce;
mod hetzner;
mod include;
pub(crate) mod label;
mod network_data;
mod nocloud;
mod openstack;
mod oracle;
mod remote;
mod scaleway;
mod search;
mod seed;
mod service;
mod vmware;
mod vultr;

use config::{Included, MetaData, Problem};

pub(crate) use datasource::Datasource;
pub(crate) use search::Search;
pub(crate) use vmware::{VERB as GUESTINFO, tell as tell_guestinfo};

/// User-data and what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its name in problems: one word.
    pub(crate) name: String,
    pub(crate) datasource: Datasource,
    /// Where it was found, and why there, in a few words.
    pub(crate) how: String,
    pub(crate) user_data: Vec<u8>,
    /// The platform's own, with its name in problems.
    pub(crate) vendor_data: Option<(String, Vec<u8>)>,
    pub(crate) meta: MetaData,
    /// The network configuration that came with it, with its name in problems.
    pub(crate) network_config: Option<(String, Vec<u8>)>,
    /// What the user-data and the vendor-data include.
    pub(crate) included: Vec<Included>,
    /// What is wrong with the source itself. An error makes the configuration invalid.
    pub(crate) problems: Vec<Problem>,
}

impl Found {
    /// User-data by itself.
    pub(crate) fn new(datasource: Datasource, name: &str, user_data: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            datasource,
            how: String::new(),
            user_data,
            vendor_data: None,
            meta: MetaData::default(),
            network_config: None,
            included: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// A source that is there and cannot be read.
    fn unreadable(datasource: Datasource, name: &str, why: impl Into<String>) -> Self {
        let problems = vec![Problem::error(name, None, "", why)];
        Self { problems, ..Self::new(datasource, name, Vec::new()) }
    }

    /// What is judged of it. Its meta-data has been read already.
    pub(crate) fn input(&self) -> config::Input<'_> {
        fn part(part: &Option<(String, Vec<u8>)>) -> Option<(&str, &[u8])> {
            part.as_ref().map(|(name, content)| (name.as_str(), content.as_slice()))
        }
        config::Input {
            user_data: (&self.name, &self.user_data),
            vendor_data: part(&self.vendor_data),
            meta_data: None,
            network_config: part(&self.network_config),
            included: &self.included,
        }
    }

    fn told(self, how: impl Into<String>) -> Self {
        Self { how: how.into(), ..self }
    }
}

/// Tells the platform that the node has its configuration, where one waits for that. It has rejected it and says why
/// on the console, but is up, too.
pub(crate) fn report(found: Option<&Found>) {
    if found.is_some_and(|found| found.datasource == Datasource::Azure) {
        azure::start_reporting();
    }
}
