//! Networks of containers: who is where, who may reach whom, and what names mean there.
//!
//! `assign` decides, when a generation is made, which bridges and addresses there are ([`Networks`]); that is kept with
//! the generation, so that a service keeps its address from one to the next. The shims plug their containers in by
//! themselves. The agent does the rest, at its start from what it finds on disk and then for each generation: firewall and
//! address translation (`firewall`), the bridges themselves, and a name server on each (`names`). All of that but the
//! name server stays in the kernel when the agent is killed.

mod assign;
mod firewall;
mod names;
mod running;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(crate) use assign::{Draft, assign};
use netlink::{Gateway, Kernel};
use plan::{BRIDGE_ALIAS, Bridge, ServiceName};
pub(crate) use running::running;
use serde::{Deserialize, Serialize};
use sys::console;

use crate::drivers;

/// Modules for firewall and address translation, and those of links. The kernel asks for them by a program that is not on
/// a node, so they have to be there before.
const FIREWALL: [&str; 6] = ["nf_tables", "nft_ct", "nft_chain_nat", "nft_nat", "nft_masq", "nft_fib_ipv4"];
const LINKS: [&str; 2] = ["bridge", "veth"];

/// `network.json` of a generation: the container networks of a node, and what of the node is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Networks {
    /// By name.
    pub(crate) networks: BTreeMap<String, ContainerNet>,
    /// Ports of the node that lead to containers.
    pub(crate) published: Vec<Redirection>,
    /// Who may reach the node itself; `None`: everybody, because a service does not say which ports are its own, or
    /// because there is nothing to reach.
    pub(crate) open: Option<Vec<Open>>,
}

/// A container network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerNet {
    pub(crate) bridge: Bridge,
    /// The network's own address.
    pub(crate) network: Ipv4Addr,
    /// Nothing leads out of it.
    pub(crate) internal: bool,
    /// The services in it.
    pub(crate) services: BTreeMap<ServiceName, Endpoint>,
}

/// A service in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) address: Ipv4Addr,
    /// The names that others find it by, in lower case.
    pub(crate) names: Vec<String>,
    /// Name servers that it wants asked in place of the node's.
    pub(crate) dns: Vec<IpAddr>,
}

/// Ports of the node that lead to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Redirection {
    /// The node's address; `None`: all.
    pub(crate) address: Option<Ipv4Addr>,
    /// First and last port of the node.
    pub(crate) ports: (u16, u16),
    pub(crate) udp: bool,
    pub(crate) to: Ipv4Addr,
    /// The container's port; `None`: the same.
    pub(crate) port: Option<u16>,
}

/// Ports of the node that are open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) ports: (u16, u16),
    pub(crate) udp: bool,
    /// The node's address; `None`: all.
    pub(crate) address: Option<Ipv4Addr>,
    /// The network that may come; `None`: everybody.
    pub(crate) source: Option<(IpAddr, u8)>,
}

impl Networks {
    /// The name of its file in a generation.
    pub(crate) const FILE: &str = "network.json";

    /// There is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.networks.is_empty() && self.open.is_none()
    }
}

/// What is done at the moment.
static DONE: Mutex<Option<Done>> = Mutex::new(None);

#[derive(Debug)]
struct Done {
    networks: Networks,
    servers: names::Servers,
}

/// Makes the kernel's side what `networks` says, and answers names accordingly. Each step stands alone; what fails is said
/// and tried again with the next generation.
pub(crate) fn apply(networks: &Networks) {
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if done.as_ref().map_or(networks.is_idle(), |done| done.networks == *networks) {
        return;
    }
    drivers::load(&FIREWALL);
    let firewall = netlink::nftables::replace(&firewall::tables(networks));
    let shut = attempt("set the firewall", firewall);
    if !networks.networks.is_empty() {
        drivers::load(&LINKS);
        attempt("keep the bridges", bridges(networks));
        // The firewall decides what is passed on, so nothing is without it.
        if shut {
            attempt("pass packets on", fs::write("/proc/sys/net/ipv4/ip_forward", "1"));
        }
    }
    let mut servers = done.take().map(|done| done.servers).unwrap_or_default();
    servers.serve(networks);
    // What failed is done again the next time.
    *done = Some(Done { networks: if shut { networks.clone() } else { Networks::default() }, servers });
}

fn attempt(what: &str, result: io::Result<()>) -> bool {
    let done = result.is_ok();
    if let Err(error) = result {
        console::error(format_args!("container networks: cannot {what}: {error}"));
    }
    done
}

/// Makes the bridges that are wanted and removes those that nobody needs any more. One that containers are still plugged
/// into goes the next time.
fn bridges(networks: &Networks) -> io::Result<()> {
    let mut kernel = Kernel::route()?;
    for network in networks.networks.values() {
        let Bridge { name, gateway, prefix } = &network.bridge;
        let gateway = Gateway { bridge: name, address: *gateway, prefix: *prefix, alias: BRIDGE_ALIAS };
        let setting = |path: String| move || off_or_absent(&path);
        kernel.keep_bridge(&gateway, setting(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6")))?;
        // So that the node's own programs reach containers by the ports of 127.0.0.1 that lead to them.
        fs::write(format!("/proc/sys/net/ipv4/conf/{name}/route_localnet"), "1")?;
    }
    let links = kernel.links()?;
    let stale = links.iter().filter(|link| {
        link.alias.as_deref() == Some(BRIDGE_ALIAS)
            && networks.networks.values().all(|network| network.bridge.name != link.name)
            && links.iter().all(|other| other.master != Some(link.index))
    });
    for link in stale {
        kernel.delete(link.index)?;
    }
    Ok(())
}

/// Container networks have no IPv6; a kernel may have none at all.
fn off_or_absent(path: &str) -> io::Result<()> {
    match fs::write(path, "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The networks of the node's links, as far as they are known now: a container network must be none of them.
pub(crate) fn networks_of_links() -> Vec<(Ipv4Addr, u8)> {
    let ours = |kernel: &mut Kernel| -> io::Result<Vec<(Ipv4Addr, u8)>> {
        let links = kernel.links()?;
        let foreign = |index: u32| {
            links.iter().any(|link| link.index == index && link.alias.as_deref() != Some(BRIDGE_ALIAS))
        };
        let addresses = kernel.addresses()?.into_iter().filter(|address| foreign(address.link));
        let routes = kernel.routes()?.into_iter().filter(|route| route.prefix > 0);
        let all = addresses.map(|address| (address.address, address.prefix));
        let all = all.chain(routes.map(|route| (route.network, route.prefix)));
        Ok(all
            .filter_map(|(address, prefix)| match address {
                IpAddr::V4(address) => Some((address, prefix)),
                IpAddr::V6(_) => None,
            })
            .collect())
    };
    Kernel::route().and_then(|mut kernel| ours(&mut kernel)).unwrap_or_else(|error| {
        console::warning(format_args!("container networks: cannot look at the node's links: {error}"));
        Vec::new()
    })
}

/// What a generation's directory says; nothing for one that was made without.
pub(crate) fn read(directory: &Path) -> Networks {
    let path = directory.join(Networks::FILE);
    if !path.exists() {
        return Networks::default();
    }
    plan::read_json(&path).unwrap_or_else(|error| {
        console::error(console::chain(&error));
        Networks::default()
    })
}
