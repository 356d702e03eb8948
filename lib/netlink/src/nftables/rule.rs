//! Rules: what a packet must be like, and what is done with it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// A protocol with ports, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp = 6,
    /// UDP
    Udp = 17,
}

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    InputLink(String),
    OutputLink(String),
    OtherOutputLink(String),
    Six(bool),
    Transport(u8),
    Source(IpAddr, u8),
    Destination(IpAddr, u8),
    Ports(u16, u16),
    Known,
    Redirected,
    Local,
    Counter,
    Accept,
    Drop,
    Jump(&'static str),
    To(Ipv4Addr, Option<u16>),
    Masquerade,
}

/// A rule, made of one part after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule(pub(super) Vec<Part>);

/// `IPPROTO_ICMP` and `IPPROTO_ICMPV6`
const ICMP: [u8; 2] = [1, 58];

impl Rule {
    /// A rule for all packets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, part: Part) -> Self {
        self.0.push(part);
        self
    }

    /// They come by this link.
    #[must_use]
    pub fn input_link(self, name: &str) -> Self {
        self.with(Part::InputLink(name.to_owned()))
    }

    /// They leave by this link.
    #[must_use]
    pub fn output_link(self, name: &str) -> Self {
        self.with(Part::OutputLink(name.to_owned()))
    }

    /// They leave by another link than this.
    #[must_use]
    pub fn other_output_link(self, name: &str) -> Self {
        self.with(Part::OtherOutputLink(name.to_owned()))
    }

    /// They are ICMP's of IPv4, or of IPv6, with which neighbours and routers are found.
    #[must_use]
    pub fn icmp(self, six: bool) -> Self {
        self.with(Part::Six(six)).with(Part::Transport(ICMP[usize::from(six)]))
    }

    /// They are for a port from `first` to `last`.
    #[must_use]
    pub fn ports(self, protocol: Protocol, first: u16, last: u16) -> Self {
        self.with(Part::Transport(protocol as u8)).with(Part::Ports(first, last))
    }

    /// They come from this network. In a table of both families this also asks for its family.
    #[must_use]
    pub fn source(self, network: impl Into<IpAddr>, prefix: u8) -> Self {
        let network = network.into();
        self.with(Part::Six(network.is_ipv6())).with(Part::Source(network, prefix))
    }

    /// They go to this network; as for [`Self::source`].
    #[must_use]
    pub fn destination(self, network: impl Into<IpAddr>, prefix: u8) -> Self {
        let network = network.into();
        self.with(Part::Six(network.is_ipv6())).with(Part::Destination(network, prefix))
    }

    /// They belong to a connection that was allowed, or are about one.
    #[must_use]
    pub fn known(self) -> Self {
        self.with(Part::Known)
    }

    /// Their destination was exchanged by a rule.
    #[must_use]
    pub fn redirected(self) -> Self {
        self.with(Part::Redirected)
    }

    /// They go to an address of this machine.
    #[must_use]
    pub fn local(self) -> Self {
        self.with(Part::Local)
    }

    /// Counts them.
    #[must_use]
    pub fn counter(self) -> Self {
        self.with(Part::Counter)
    }

    /// Lets them pass.
    #[must_use]
    pub fn accept(self) -> Self {
        self.with(Part::Accept)
    }

    /// Drops them.
    #[must_use]
    pub fn drop(self) -> Self {
        self.with(Part::Drop)
    }

    /// Goes on with another chain.
    #[must_use]
    pub fn jump(self, chain: &'static str) -> Self {
        self.with(Part::Jump(chain))
    }

    /// Sends them to this address and, when one is given, this port.
    #[must_use]
    pub fn to(self, address: Ipv4Addr, port: Option<u16>) -> Self {
        self.with(Part::To(address, port))
    }

    /// Gives them the address of the link that they leave by.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.with(Part::Masquerade)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(" ")?;
            }
            match part {
                Part::InputLink(name) => write!(f, "iifname {name}"),
                Part::OutputLink(name) => write!(f, "oifname {name}"),
                Part::OtherOutputLink(name) => write!(f, "oifname != {name}"),
                Part::Six(six) => write!(f, "nfproto ipv{}", if *six { 6 } else { 4 }),
                Part::Transport(number) => write!(f, "l4proto {number}"),
                Part::Source(network, prefix) => write!(f, "saddr {network}/{prefix}"),
                Part::Destination(network, prefix) => write!(f, "daddr {network}/{prefix}"),
                Part::Ports(first, last) if first == last => write!(f, "dport {first}"),
                Part::Ports(first, last) => write!(f, "dport {first}-{last}"),
                Part::Known => f.write_str("ct state established,related"),
                Part::Redirected => f.write_str("ct status dnat"),
                Part::Local => f.write_str("fib daddr type local"),
                Part::Counter => f.write_str("counter"),
                Part::Accept => f.write_str("accept"),
                Part::Drop => f.write_str("drop"),
                Part::Jump(chain) => write!(f, "jump {chain}"),
                Part::To(address, None) => write!(f, "dnat to {address}"),
                Part::To(address, Some(port)) => write!(f, "dnat to {address}:{port}"),
                Part::Masquerade => f.write_str("masquerade"),
            }?;
        }
        Ok(())
    }
}
