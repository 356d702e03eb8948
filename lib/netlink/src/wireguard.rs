//! WireGuard's settings (include/uapi/linux/wireguard.h).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::attributes::{Attributes, family};
use crate::generic;
use crate::socket::Kernel;

const SET_DEVICE: u8 = 1;

// WGDEVICE_A_*
const IFINDEX: u16 = 1;
const PRIVATE_KEY: u16 = 3;
const FLAGS: u16 = 5;
const LISTEN_PORT: u16 = 6;
const FWMARK: u16 = 7;
const PEERS: u16 = 8;
/// `WGDEVICE_F_REPLACE_PEERS`
const REPLACE_PEERS: u32 = 1;

// WGPEER_A_*
const PUBLIC_KEY: u16 = 1;
const PRESHARED_KEY: u16 = 2;
const PEER_FLAGS: u16 = 3;
const ENDPOINT: u16 = 4;
const KEEPALIVE: u16 = 5;
const ALLOWED_IPS: u16 = 9;
/// `WGPEER_F_REPLACE_ALLOWEDIPS`
const REPLACE_ALLOWED_IPS: u32 = 2;

// WGALLOWEDIP_A_*
const IP_FAMILY: u16 = 1;
const IP_ADDRESS: u16 = 2;
const IP_PREFIX: u16 = 3;

/// A key of 32 bytes. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(key)")
    }
}

/// A tunnel's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its own key.
    pub private_key: Key,
    /// The UDP port that it listens at; `None`: the kernel's choice.
    pub port: Option<u16>,
    /// Firewall mark of what it sends.
    pub mark: Option<u32>,
    /// The other ends.
    pub peers: Vec<Peer>,
}

/// Another end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its key.
    pub public_key: Key,
    /// A key that both ends have.
    pub shared_key: Option<Key>,
    /// Where it is; `None`: it comes to us.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between signs of life.
    pub keepalive: Option<u16>,
    /// What is sent there.
    pub allowed_ips: Vec<(IpAddr, u8)>,
}

/// Gives the tunnel with this link number its settings; peers that are not named are removed.
pub fn set(link: u32, tunnel: &Tunnel) -> io::Result<()> {
    let mut kernel = Kernel::generic()?;
    let part = kernel.part("wireguard")?;
    kernel.request(part, 0, &generic::header(SET_DEVICE), tunnel_attributes(link, tunnel))
}

fn tunnel_attributes(link: u32, tunnel: &Tunnel) -> Attributes {
    let peers =
        tunnel.peers.iter().fold(Attributes::default(), |list, peer| list.nested(0, &peer_attributes(peer)));
    Attributes::default()
        .u32(IFINDEX, link)
        .u32(FLAGS, REPLACE_PEERS)
        .bytes(PRIVATE_KEY, &tunnel.private_key.0)
        .with(tunnel.port, |attributes, port| attributes.u16(LISTEN_PORT, port))
        .with(tunnel.mark, |attributes, mark| attributes.u32(FWMARK, mark))
        .nested(PEERS, &peers)
}

fn peer_attributes(peer: &Peer) -> Attributes {
    let allowed = peer.allowed_ips.iter().fold(Attributes::default(), |list, (network, prefix)| {
        let one = Attributes::default()
            .u16(IP_FAMILY, family(network.is_ipv6()).into())
            .address(IP_ADDRESS, *network)
            .u8(IP_PREFIX, *prefix);
        list.nested(0, &one)
    });
    Attributes::default()
        .bytes(PUBLIC_KEY, &peer.public_key.0)
        .u32(PEER_FLAGS, REPLACE_ALLOWED_IPS)
        .with(peer.shared_key.as_ref(), |attributes, key| attributes.bytes(PRESHARED_KEY, &key.0))
        .with(peer.endpoint, |attributes, endpoint| attributes.bytes(ENDPOINT, &socket_address(endpoint)))
        .with(peer.keepalive, |attributes, seconds| attributes.u16(KEEPALIVE, seconds))
        .nested(ALLOWED_IPS, &allowed)
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
fn socket_address(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::from(u16::from(family(address.is_ipv6())).to_ne_bytes());
    bytes.extend(address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            bytes.extend(address.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(address) => {
            bytes.extend([0; 4]);
            bytes.extend(address.ip().octets());
            bytes.extend(address.scope_id().to_ne_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::{attributes, find};

    #[test]
    fn a_peer_goes_to_the_kernel_with_all_that_is_known_of_it() {
        let peer = Peer {
            public_key: Key([1; 32]),
            shared_key: None,
            endpoint: Some("192.0.2.1:51820".parse().unwrap()),
            keepalive: Some(25),
            allowed_ips: vec![("10.0.0.0".parse().unwrap(), 8), ("fd00::".parse().unwrap(), 64)],
        };
        let tunnel = Tunnel { private_key: Key([2; 32]), port: Some(51820), mark: None, peers: vec![peer] };
        assert!(format!("{tunnel:?}").contains("private_key: (key)"));
        let bytes = tunnel_attributes(7, &tunnel).into_bytes();
        assert_eq!(find(&bytes, PRIVATE_KEY), Some([2; 32].as_slice()));
        let (_, peer) = attributes(find(&bytes, PEERS).unwrap()).next().unwrap();
        assert_eq!(find(peer, ENDPOINT).map(<[u8]>::len), Some(16), "a sockaddr_in");
        assert_eq!(attributes(find(peer, ALLOWED_IPS).unwrap()).count(), 2);
        assert_eq!(socket_address("[fd00::1]:1".parse().unwrap()).len(), 28, "a sockaddr_in6");
    }
}
