//! The search for a configuration: first for as long as a boot can wait, then for as long as it takes.

use std::time::{Duration, Instant};
use std::{fs, io, thread};

use config::Problem;
use plan::paths;
use rustix::rand::GetRandomFlags;
use userdata::{Report, SourceId};

use super::command_line::{self, NETWORK_CONFIG, network_config};
use super::disk::{self, Disk, Disks};
use super::dmi::Dmi;
use super::label::FileSystem;
use super::remote::{self, Known, Named, Patience, Remote};
use super::seed::Seed;
use super::service::{Instance, SourceError};
use super::{Datasource, Found, azure, configdrive, include, nocloud, vmware};
use crate::network::Network;
use crate::{console, host};

/// How long to wait for a disk when no other source is there. Drivers of other than virtio disks are loaded after
/// PID 1 has given up waiting for a first plan; a CD drive then takes another second.
const DISK_PATIENCE: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(100);

/// How long a boot waits for a server; with what an attempt and includes may take, this ends before PID 1 loses its
/// patience with the agent (two minutes).
const BOOT_PATIENCE: Duration = Duration::from_secs(20);
const AT_BOOT: Patience = Patience {
    connect: Duration::from_secs(3),
    request: Duration::from_secs(10),
    attempt: Duration::from_secs(15),
};
const INCLUDES_AT_BOOT: Duration = Duration::from_secs(30);

/// Later nobody waits for it.
const LATER: Patience = Patience {
    connect: Duration::from_secs(10),
    request: Duration::from_secs(60),
    attempt: Duration::from_secs(300),
};

/// How long after one attempt comes the next, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long DHCP is waited for where there may be none.
const DHCP_PATIENCE: Duration = Duration::from_secs(6);

/// Looks for the configuration.
#[derive(Debug)]
pub(crate) struct Search {
    cmdline: String,
    dmi: Dmi,
    network: Network,
    named: Named,
    disks: Disks,
    known: Known,
    /// What was found on the machine itself, when it includes addresses.
    including: Option<Found>,
    /// What was given last.
    given: Option<Found>,
    /// What was said last of a server that does not answer.
    said: String,
    link_local: bool,
    asked: bool,
}

impl Search {
    /// `last` is what the last generation was made from.
    pub(crate) fn new(cmdline: &str, network: &Network, last: Option<Found>) -> Self {
        let dmi = Dmi::of_machine();
        let named = Named::read(cmdline, &dmi);
        for unknown in named.seed.iter().flat_map(|seed| &seed.unknown) {
            console::warning(format_args!(
                "user-data: '{unknown}' in 'ds=nocloud' is not known and left out"
            ));
        }
        Self {
            cmdline: cmdline.to_owned(),
            dmi,
            network: network.clone(),
            named,
            disks: Disks::default(),
            known: Known { environment: None, last },
            including: None,
            given: None,
            said: String::new(),
            link_local: false,
            asked: false,
        }
    }

    /// Looks for as long as a boot can wait, and says on the console where it was found.
    pub(crate) fn first(&mut self) -> Option<Found> {
        let here = self.here();
        if here.is_some() {
            self.named.remote = None;
        }
        let Some(found) = here.or_else(|| self.wait()) else {
            self.say_missing();
            return None;
        };
        console::notice(format_args!("user-data: from {}", found.how));
        if self.named.remote.is_none() && !config::missing(&found.input()).is_empty() {
            self.including = Some(found.clone());
        }
        let found = self.complete(found, AT_BOOT, INCLUDES_AT_BOOT);
        self.given = Some(found.clone());
        Some(found)
    }

    /// Whether there is something to be had later: a server that did not answer, or whose answer was of no use.
    pub(crate) fn goes_on(&self) -> bool {
        self.named.remote.is_some() || self.including.is_some()
    }

    /// Asks again until there is something else than what was given before. Needed only while [`Self::goes_on`].
    pub(crate) fn again(&mut self) -> Found {
        let mut pause = FIRST_PAUSE * 4;
        loop {
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            let found = match (&self.including, &self.named.remote) {
                (Some(found), _) => Some(found.clone()),
                (None, Some(remote)) => self.ask(&remote.clone(), LATER),
                (None, None) => None,
            };
            let Some(found) = found else { continue };
            let found = self.complete(found, LATER, LATER.attempt);
            if !self.given.as_ref().is_some_and(|given| same(given, &found)) {
                console::notice(format_args!("user-data: from {}", found.how));
                self.given = Some(found.clone());
                return found;
            }
        }
    }

    /// What is on the machine itself.
    fn here(&mut self) -> Option<Found> {
        if let Some(text) = host::value(&self.cmdline, paths::CMDLINE_USER_DATA) {
            return Some(command_line::user_data(text).told("the kernel command line"));
        }
        if self.named.remote.as_ref().is_some_and(Remote::is_named) {
            return None;
        }
        if let Some(found) = self.look_at_disks() {
            return Some(found);
        }
        if let Some(found) = self.properties() {
            return Some(found);
        }
        match fs::read(paths::BAKED_USER_DATA) {
            Ok(user_data) => {
                let found = Found::new(Datasource::BakedIn, paths::BAKED_USER_DATA, user_data);
                Some(found.told("what is baked into the system"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                console::error(format_args!("cannot read {}: {error}", paths::BAKED_USER_DATA));
                None
            }
        }
    }

    /// What a virtual machine of VMware is told.
    fn properties(&self) -> Option<Found> {
        if !vmware::is_here(&self.dmi) {
            return None;
        }
        vmware::read(&self.dmi).unwrap_or_else(|error| {
            console::warning(format_args!("user-data: VMware: {}", console::chain(&error)));
            None
        })
    }

    /// Waits for a disk, or for a server when there is one to ask.
    fn wait(&mut self) -> Option<Found> {
        let begun = Instant::now();
        let Some(remote) = self.named.remote.clone() else {
            while begun.elapsed() < DISK_PATIENCE {
                thread::sleep(POLL);
                if let Some(found) = self.look_at_disks() {
                    return Some(found);
                }
            }
            return None;
        };
        self.network.apply(self.own_network());
        let (mut pause, mut next) = (FIRST_PAUSE, begun);
        while begun.elapsed() < BOOT_PATIENCE {
            if !remote.is_named()
                && let Some(found) = self.look_at_disks()
            {
                self.named.remote = None;
                return Some(found);
            }
            if !self.is_ready(&remote, begun) || Instant::now() < next {
                thread::sleep(POLL);
                continue;
            }
            if let Some(found) = self.ask(&remote, AT_BOOT) {
                return Some(found);
            }
            next = Instant::now() + pause;
            pause *= 2;
        }
        None
    }

    /// Whether asking makes sense by now.
    fn is_ready(&mut self, remote: &Remote, begun: Instant) -> bool {
        match remote {
            // Its disk comes with the first boot only, and its driver late.
            Remote::Cloud(Datasource::Azure, _)
                if self.known.environment.is_none() && begun.elapsed() < DISK_PATIENCE =>
            {
                false
            }
            Remote::Cloud(Datasource::DigitalOcean, _) => {
                let online = self.network.wait_online(POLL);
                if !online && begun.elapsed() >= DHCP_PATIENCE && !self.link_local {
                    self.link_local = true;
                    self.network.apply(link_local());
                }
                online || self.link_local
            }
            _ => self.network.wait_online(POLL),
        }
    }

    /// Asks once; says why there is no answer, when that has not been said.
    fn ask(&mut self, remote: &Remote, patience: Patience) -> Option<Found> {
        self.asked = true;
        match remote::fetch(remote, &self.known, patience) {
            Ok(found) => Some(found),
            Err(error) => {
                let why = console::chain(&error);
                if self.said != why {
                    console::warning(format_args!("user-data: {}: {why}; asking again", remote.name()));
                    self.said = why;
                }
                None
            }
        }
    }

    fn look_at_disks(&mut self) -> Option<Found> {
        let disks = self.disks.new_ones();
        let azure = matches!(self.named.remote, Some(Remote::Cloud(Datasource::Azure, _)));
        for disk in disks {
            let label = disk.file_system.label.to_ascii_lowercase();
            let found = match label.as_str() {
                "cidata" => read_disk(&disk, Datasource::NoCloud),
                "config-2" => read_disk(&disk, Datasource::ConfigDrive),
                _ if azure && disk.file_system.kind != "vfat" => {
                    self.known.environment = read_environment(&disk).or(self.known.environment.take());
                    continue;
                }
                _ => continue,
            };
            let FileSystem { kind, label } = &disk.file_system;
            return Some(found.told(format!("the {kind} disk /dev/{} with the label {label}", disk.name)));
        }
        None
    }

    /// Adds what others than the source itself say, and what is included.
    fn complete(&self, mut found: Found, patience: Patience, limit: Duration) -> Found {
        if found.datasource == Datasource::NoCloud
            && let Some(seed) = &self.named.seed
            && (seed.hostname.is_some() || seed.instance_id.is_some())
        {
            overrule(&mut found, seed);
        }
        if let Some(text) = host::value(&self.cmdline, NETWORK_CONFIG) {
            match network_config(text) {
                Ok(content) => found.network_config = Some((NETWORK_CONFIG.to_owned(), content)),
                Err(why) => found.problems.push(Problem::warning(NETWORK_CONFIG, "", why)),
            }
        }
        if !config::missing(&found.input()).is_empty() {
            let state = found.network_config.as_ref().and_then(|(_, text)| network_state(text));
            self.network.apply(state);
            self.network.wait_online(patience.request);
            include::fetch(&mut found, &patience, limit);
        }
        found
    }

    /// The network that the command line asks for.
    pub(crate) fn own_network(&self) -> Option<netconfig::State> {
        let text = host::value(&self.cmdline, NETWORK_CONFIG)?;
        network_state(&network_config(text).ok()?)
    }

    fn say_missing(&self) {
        match &self.named.remote {
            Some(remote) if !self.asked => console::warning(format_args!(
                "no user-data found: after {} s there is no network to ask {} over; it is asked when there is",
                BOOT_PATIENCE.as_secs(),
                remote.name(),
            )),
            Some(remote) => console::warning(format_args!(
                "no user-data found: {} has not answered within {} s; it is asked again until it does",
                remote.name(),
                BOOT_PATIENCE.as_secs(),
            )),
            None => console::warning(format_args!(
                "no user-data found: '{}' is not on the kernel command line, none of the disks {:?} has the label \
                 CIDATA or config-2, nothing is baked in, and the firmware names no cloud",
                paths::CMDLINE_USER_DATA,
                self.disks.names(),
            )),
        }
    }
}

/// A droplet may have no DHCP: its own addresses are in the answer, and a link-local one is enough to ask.
fn link_local() -> Option<netconfig::State> {
    let mut random = [0; 2];
    rustix::rand::getrandom(&mut random, GetRandomFlags::empty()).ok()?;
    // The first and the last 256 are reserved (RFC 3927, section 2.1).
    let [third, fourth] = random.map(|byte| byte.clamp(1, 254));
    let text = format!(
        "version: 2\nethernets: {{first: {{match: {{name: 'e*'}}, dhcp4: true, \
         addresses: [169.254.{third}.{fourth}/16]}}}}\n"
    );
    network_state(text.as_bytes())
}

/// Reads a disk that says that it is a source.
fn read_disk(disk: &Disk, kind: Datasource) -> Found {
    let read = |disk: &Disk| -> Result<Found, SourceError> {
        let mounted = disk.mount()?;
        match kind {
            Datasource::ConfigDrive => configdrive::from_directory(mounted.path()),
            _ => Ok(nocloud::from_directory(mounted.path(), &disk.name)?),
        }
    };
    let name = format!("{}/user-data", disk.name);
    read(disk).unwrap_or_else(|error| Found::unreadable(kind, &name, console::chain(&error)))
}

/// What Azure has on a disk, when it is Azure's.
fn read_environment(disk: &Disk) -> Option<azure::Environment> {
    let read = || -> Result<Option<azure::Environment>, SourceError> {
        let mounted = disk.mount()?;
        let text = disk::read(&mounted.path().join("ovf-env.xml"))?;
        text.map(|text| azure::Environment::parse(&text)).transpose()
    };
    read().unwrap_or_else(|error| {
        console::warning(format_args!("user-data: {}: {}", disk.name, console::chain(&error)));
        None
    })
}

/// Lets what the seed's own name says count before the meta-data that it has.
fn overrule(found: &mut Found, seed: &Seed) {
    if let Some(id) = &seed.instance_id {
        found.meta.instance_id = Some(id.clone());
    }
    let named = Instance { hostname: seed.hostname.clone(), ..Instance::default() };
    let (meta, problems) = named.judge(Datasource::NoCloud);
    if meta.local_fqdn.is_some() {
        found.meta.local_hostname = meta.local_hostname;
        found.meta.local_fqdn = meta.local_fqdn;
    }
    found.problems.extend(problems);
}

/// Whether two answers say the same. Random bytes are new each time.
fn same(one: &Found, other: &Found) -> bool {
    let still = |found: &Found| {
        let mut found = found.clone();
        found.meta.random_seed.clear();
        found
    };
    still(one) == still(other)
}

fn network_state(text: &[u8]) -> Option<netconfig::State> {
    let report = Report::new(NETWORK_CONFIG);
    netconfig::read_text(&String::from_utf8_lossy(text), SourceId::default(), &report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_that_is_named_may_name_the_node() {
        let mut found = Found::new(Datasource::NoCloud, "x", Vec::new());
        found.meta.local_hostname = Some("old".to_owned());
        found.meta.instance_id = Some("i-1".to_owned());
        overrule(&mut found, &Seed { hostname: Some("new.example.com".to_owned()), ..Seed::default() });
        assert_eq!(found.meta.local_hostname.as_deref(), Some("new"));
        assert_eq!(found.meta.local_fqdn.as_deref(), Some("new.example.com"));
        assert_eq!(found.meta.instance_id.as_deref(), Some("i-1"));
        overrule(&mut found, &Seed { instance_id: Some("i-2".to_owned()), ..Seed::default() });
        assert_eq!(found.meta.local_hostname.as_deref(), Some("new"));
        assert_eq!(found.meta.instance_id.as_deref(), Some("i-2"));
    }

    #[test]
    fn a_link_local_address_is_a_network_configuration() {
        assert_eq!(link_local().map(|state| state.links.len()), Some(1));
    }

    #[test]
    fn random_bytes_make_no_other_configuration() {
        let found = Found::new(Datasource::OpenStack, "x", b"a".to_vec());
        let mut other = found.clone();
        other.meta.random_seed = b"seed".to_vec();
        assert!(same(&found, &other));
        other.user_data = b"b".to_vec();
        assert!(!same(&found, &other));
    }
}
