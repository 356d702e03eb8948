//! WireGuard tunnels: keys, ports and peers, which the kernel is told apart from links.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use netconfig::{Kind, Link, State};
use netlink::wireguard::{self, Key, Peer, Tunnel};

use super::bind::Binding;
use super::wake::Wake;

/// How often a name of a peer that cannot be resolved is tried again.
const PAUSE: Duration = Duration::from_secs(30);

/// The tunnels that have been told to the kernel, and the addresses of peers that have names.
#[derive(Debug)]
pub(super) struct Tunnels {
    told: BTreeMap<u32, Tunnel>,
    names: BTreeMap<String, Name>,
    resolved: (Sender<Resolved>, Receiver<Resolved>),
}

/// A name, and its address when it has one.
type Resolved = (String, Option<SocketAddr>);

#[derive(Debug)]
enum Name {
    Asking,
    Found(SocketAddr),
    /// Until when it is not asked for again.
    Unknown(Duration),
}

impl Default for Tunnels {
    fn default() -> Self {
        Self { told: BTreeMap::new(), names: BTreeMap::new(), resolved: channel() }
    }
}

impl Tunnels {
    /// When to look again although nothing has happened.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let until = |name: &Name| match name {
            Name::Unknown(until) => Some(*until),
            Name::Asking | Name::Found(_) => None,
        };
        self.names.values().filter_map(until).min()
    }

    /// Tells the kernel what has changed; gives what failed.
    pub(super) fn set(
        &mut self,
        state: &State,
        bindings: &[Binding],
        wake: &Wake,
        now: Duration,
    ) -> Vec<String> {
        for (name, address) in self.resolved.1.try_iter() {
            self.names.insert(name, address.map_or(Name::Unknown(now + PAUSE), Name::Found));
        }
        let mut failures = Vec::new();
        self.told.retain(|index, _| bindings.iter().any(|(_, bound)| bound == index));
        for (place, index) in bindings {
            let entry = &state.links[*place];
            let Some(tunnel) = self.tunnel(entry, wake, now) else { continue };
            if self.told.get(index) == Some(&tunnel) {
                continue;
            }
            match wireguard::set(*index, &tunnel) {
                Ok(()) => drop(self.told.insert(*index, tunnel)),
                Err(error) => failures.push(format!("{}: cannot set the tunnel: {error}", entry.name)),
            }
        }
        // Names that nobody asks for any more.
        self.names.retain(|_, name| !matches!(name, Name::Unknown(until) if *until <= now));
        failures
    }

    fn tunnel(&mut self, entry: &Link, wake: &Wake, now: Duration) -> Option<Tunnel> {
        let Kind::Wireguard { private_key, port, mark, peers } = &entry.kind else { return None };
        let peers = peers.iter().filter_map(|peer| {
            Some(Peer {
                public_key: key(&peer.public_key)?,
                shared_key: peer.shared_key.as_ref().and_then(|shared| key(&shared.0)),
                endpoint: peer.endpoint.as_deref().and_then(|endpoint| self.address(endpoint, wake, now)),
                keepalive: peer.keepalive,
                allowed_ips: peer.allowed_ips.clone(),
            })
        });
        let peers = peers.collect();
        Some(Tunnel { private_key: key(&private_key.0)?, port: *port, mark: *mark, peers })
    }

    /// The address of a peer. A name is resolved in a thread of its own: nothing here may wait for it.
    fn address(&mut self, endpoint: &str, wake: &Wake, now: Duration) -> Option<SocketAddr> {
        if let Ok(address) = endpoint.parse() {
            return Some(address);
        }
        match self.names.get(endpoint) {
            Some(Name::Found(address)) => return Some(*address),
            Some(Name::Asking) => return None,
            Some(Name::Unknown(until)) if now < *until => return None,
            Some(Name::Unknown(_)) | None => {}
        }
        let (name, sender, wake) = (endpoint.to_owned(), self.resolved.0.clone(), wake.clone());
        let ask = move || {
            let address = name.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
            // Without a receiver the network has ended, and nobody wants to know.
            sender.send((name, address)).ok();
            wake.wake();
        };
        let started: io::Result<_> = thread::Builder::new().name("resolve".to_owned()).spawn(ask);
        let state = if started.is_ok() { Name::Asking } else { Name::Unknown(now + PAUSE) };
        self.names.insert(endpoint.to_owned(), state);
        None
    }
}

fn key(text: &str) -> Option<Key> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    bytes.try_into().ok().map(Key)
}
