//! Makes the machine what the configuration says: one file for each thing that it can say.
//!
//! Every part stands alone: what fails is said on the console and in `/run/holdfast/config.json`, and the others are
//! done. All of it is done at every boot, and again when the agent is started again or has found another
//! configuration; so each part leaves alone what is as it shall be. What may happen only once per instance asks
//! [`Instance`].

mod files;
mod host_keys;
mod hosts;
mod instance;
mod kernel;
mod keys;
mod last;
mod phone_home;
mod place;
mod random;
mod resolv;
mod storage;
mod timezone;
mod trust;

use std::error::Error;
use std::fmt::Display;
use std::path::Path;

use config::{Config, ImageSource, Machine, MetaData};
use serde::Serialize;

use crate::console;
use crate::host::Host;
use crate::network::Network;
use crate::source::Datasource;
pub(crate) use instance::Instance;
pub(crate) use last::after_start;
pub(crate) use trust::for_containers as certificates_for_containers;

/// What is applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) host: &'a Host,
    pub(crate) config: &'a Config,
    pub(crate) meta: &'a MetaData,
    pub(crate) datasource: Datasource,
    /// The kernel's name of the node.
    pub(crate) hostname: &'a str,
    pub(crate) network: &'a Network,
}

impl Wanted<'_> {
    /// The node's full name, as far as it has one.
    fn full_name(&self) -> Option<String> {
        self.config.machine.hostname.full(self.meta.local_fqdn.as_deref())
    }
}

/// Something that could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// The key that asked for it.
    pub(crate) key: &'static str,
    pub(crate) message: String,
}

/// What could not be applied so far; each is said on the console as it comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(Vec<Failure>);

impl Failures {
    /// Something failed.
    fn add(&mut self, key: &'static str, message: impl Display) {
        console::warning(format_args!("config {key}: {message}"));
        self.0.push(Failure { key, message: message.to_string() });
    }

    /// What `result` holds, unless it failed.
    fn check<T>(&mut self, key: &'static str, result: Result<T, impl Error>) -> Option<T> {
        result.map_err(|error| self.add(key, console::chain(&error))).ok()
    }

    /// All of them.
    pub(crate) fn into_inner(self) -> Vec<Failure> {
        self.0
    }
}

/// Applies everything that has to be there before services start.
pub(crate) fn before_start(wanted: &Wanted<'_>, instance: &Instance, failures: &mut Failures) {
    let machine = &wanted.config.machine;
    wanted.network.set_resolv_conf(machine.resolv_conf.as_ref().map(resolv::text));
    random::seed(&machine.random_seed, &wanted.meta.random_seed, failures);
    kernel::load_modules(&machine.holdfast.modules, failures);
    kernel::set_parameters(&machine.holdfast.sysctl, failures);
    hosts::set_name(wanted, failures);
    timezone::set(machine.timezone.as_deref(), failures);
    trust::trust(machine.ca_certs.as_ref(), failures);
    host_keys::keep(&machine.host_keys, instance, failures);
    storage::set_up(machine, instance, failures);
    keys::keep(&wanted.config.keys(wanted.meta), failures);
    files::write(machine.files.iter().filter(|file| !file.defer), wanted.network, failures);
    hosts::set_line(wanted, failures);
    files::write(machine.files.iter().filter(|file| file.defer), wanted.network, failures);
}

/// Mounts what images are imported from: a configuration that waits for them is not applied, and they may be on a disk that
/// it is the first to name.
pub(crate) fn before_import(machine: &Machine) {
    let holds_image = |target: &Path| {
        machine.holdfast.images.iter().any(|import| match &import.from {
            ImageSource::Path(path) => path.starts_with(target),
            ImageSource::Url(_) => false,
        })
    };
    // What fails is said, and said again of the image that is not there.
    storage::mount(machine, holds_image, &mut Failures::default());
}
