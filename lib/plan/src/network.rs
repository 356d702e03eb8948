//! The network of a container, as `shim.json` has it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::ServiceName;

/// What a container that does not use the node's network has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerNetwork {
    /// Its links, in the order in which they are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// The service whose network it shares instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Shared>,
    /// Its `/etc/hosts`.
    pub hosts: String,
    /// Its `/etc/resolv.conf`.
    pub resolv_conf: String,
}

/// Another service whose network, processes or memory a service shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// The service.
    pub service: ServiceName,
    /// Its digest: with another container of that service this one is another, too.
    pub digest: String,
}

/// A link between a container and a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name in the container.
    pub name: String,
    /// The bridge.
    pub bridge: Bridge,
    /// The container's address.
    pub address: Ipv4Addr,
    /// The way out goes by this link.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default_route: bool,
}

/// A bridge of the node, made by whoever needs it first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// Its name: at most 15 characters.
    pub name: String,
    /// Its address, which is its containers' gateway.
    pub gateway: Ipv4Addr,
    /// The length of the network's prefix.
    pub prefix: u8,
}

/// The text that the kernel keeps with bridges of containers, by which they are known again.
pub const BRIDGE_ALIAS: &str = "holdfast containers";
