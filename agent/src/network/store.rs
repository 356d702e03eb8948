//! What outlives the agent, and what outlives the boot.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dhcp::{v4, v6};
use plan::paths;
use serde::{Deserialize, Serialize};
use sys::console;

use crate::file;

/// What an agent that is started again goes on with. Times are since boot, so it ends with the boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    /// The network is one that a configuration described, and not the fallback.
    pub(super) configured: bool,
    /// Leases by link number, each with the hardware address that it is for.
    pub(super) four: BTreeMap<u32, ([u8; 6], v4::Held)>,
    pub(super) six: BTreeMap<u32, ([u8; 6], v6::Held)>,
    /// Name servers that routers have told, by link number: routers repeat themselves only now and then.
    pub(super) routers: BTreeMap<u32, (Vec<IpAddr>, Duration)>,
}

/// Addresses to ask for first at the next boot, by hardware address.
pub(super) type Remembered = BTreeMap<String, Ipv4Addr>;

fn running_path() -> PathBuf {
    Path::new(paths::RUN).join("network.json")
}

fn remembered_path() -> PathBuf {
    Path::new(paths::NETWORK).join("addresses.json")
}

impl Running {
    /// What an agent before this one has left; nothing when there is none.
    pub(super) fn read() -> Self {
        plan::read_json(&running_path()).unwrap_or_default()
    }

    pub(super) fn write(&self) {
        write(&running_path(), self);
    }
}

/// What was known when this machine ran last.
pub(super) fn remembered() -> Remembered {
    plan::read_json(&remembered_path()).unwrap_or_default()
}

pub(super) fn remember(addresses: &Remembered) {
    write(&remembered_path(), addresses);
}

fn write(path: &Path, value: &impl Serialize) {
    let text = serde_json::to_vec(value).unwrap_or_default();
    if let Err(error) = file::replace(path, 0o600, &text) {
        console::warning(console::chain(&error));
    }
}

/// A hardware address as text.
pub(super) fn mac_text(hardware: [u8; 6]) -> String {
    hardware.map(|byte| format!("{byte:02x}")).join(":")
}
