//! Addresses that only mean something on one link, when nobody has said which: all links are tried.
//!
//! A metadata service may have a link-local address (fe80::/10, RFC 4291), and an address of a server names no link.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The kernel's list of links, each with its number in `ifindex`.
const LINKS: &str = "/sys/class/net";

/// Looks names up as usual, and puts the machine's links to link-local addresses.
#[derive(Debug, Default)]
pub(super) struct AnyLink(DefaultResolver);

impl Resolver for AnyLink {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let Some(address) = link_local(uri) else { return self.0.resolve(uri, config, timeout) };
        let port = uri.port_u16().unwrap_or(80);
        let mut addresses = self.empty();
        // As many as there is room for.
        for link in links().into_iter().take(16) {
            addresses.push(SocketAddr::V6(SocketAddrV6::new(address, port, 0, link)));
        }
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

fn link_local(uri: &Uri) -> Option<Ipv6Addr> {
    let host = uri.host()?.strip_prefix('[')?.strip_suffix(']')?;
    host.parse().ok().filter(Ipv6Addr::is_unicast_link_local)
}

/// The numbers of all links but the loopback.
fn links() -> Vec<u32> {
    let mut links: Vec<u32> = fs::read_dir(LINKS)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name() != "lo")
        .filter_map(|entry| fs::read_to_string(entry.path().join("ifindex")).ok()?.trim().parse().ok())
        .collect();
    links.sort_unstable();
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_link_local_addresses_are_of_a_link() {
        for (uri, address) in [
            ("http://[fe80::a9fe:a9fe]/openstack", Some("fe80::a9fe:a9fe")),
            ("http://[fd00:ec2::254]/latest", None),
            ("http://169.254.169.254/latest", None),
            ("http://fe80.example.com/", None),
        ] {
            let found = link_local(&uri.parse().unwrap());
            assert_eq!(found.map(|found| found.to_string()).as_deref(), address, "{uri}");
        }
    }
}
