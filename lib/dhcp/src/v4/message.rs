//! DHCPv4 messages (RFC 2131, RFC 2132) and what a lease says. Pure.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use serde::{Deserialize, Serialize};

use crate::{domain, wanted};

/// Leases are at least this long, however short the server says, so that renewing does not become all we do.
const SHORTEST: Duration = Duration::from_secs(30);

/// What a server has given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// Networks (address, prefix length) and the router to each; 0.0.0.0 is the link itself.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Name servers.
    pub name_servers: Vec<Ipv4Addr>,
    /// Domains to search names in.
    pub search: Vec<String>,
    /// The domain that the client is in.
    pub domain: Option<String>,
    /// The client's name.
    pub host_name: Option<String>,
    /// Time servers.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Largest packet in bytes.
    pub mtu: Option<u16>,
    /// After how long to renew it, to ask any server, to give it up.
    pub times: [Duration; 3],
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// Who has an address?
    Discover,
    /// May I have this one?
    Request { address: Ipv4Addr, server: Ipv4Addr },
    /// May I have the one that I had before I was restarted?
    Reboot { address: Ipv4Addr },
    /// May I keep it? Without naming a server, which makes it right for renewing and for rebinding.
    Renew { address: Ipv4Addr },
}

/// The bytes of a message from the station `hardware` with the transaction id `id`.
pub(super) fn message(question: Question, hardware: [u8; 6], id: u32, host_name: Option<&str>) -> Vec<u8> {
    let mut message = Message::default();
    message.set_xid(id).set_chaddr(&hardware);
    let options = message.opts_mut();
    options.insert(DhcpOption::ClientIdentifier([&[1], hardware.as_slice()].concat()));
    options.insert(DhcpOption::MaxMessageSize(1472));
    options.insert(DhcpOption::ParameterRequestList(vec![
        OptionCode::SubnetMask,
        OptionCode::ClasslessStaticRoute,
        OptionCode::Router,
        OptionCode::DomainNameServer,
        OptionCode::DomainName,
        OptionCode::DomainSearch,
        OptionCode::InterfaceMtu,
        OptionCode::Hostname,
        OptionCode::NtpServers,
        OptionCode::Renewal,
        OptionCode::Rebinding,
    ]));
    if let Some(name) = host_name {
        options.insert(DhcpOption::Hostname(name.to_owned()));
    }
    let kind =
        if matches!(question, Question::Discover) { MessageType::Discover } else { MessageType::Request };
    options.insert(DhcpOption::MessageType(kind));
    match question {
        Question::Discover => drop(message.set_flags(Flags::default().set_broadcast())),
        Question::Request { address, server } => {
            options.insert(DhcpOption::RequestedIpAddress(address));
            options.insert(DhcpOption::ServerIdentifier(server));
            message.set_flags(Flags::default().set_broadcast());
        }
        Question::Reboot { address } => {
            options.insert(DhcpOption::RequestedIpAddress(address));
            message.set_flags(Flags::default().set_broadcast());
        }
        Question::Renew { address } => drop(message.set_ciaddr(address)),
    }
    let mut bytes = Vec::new();
    // Only options too long for their length fail to be encoded, and these are all short.
    message.encode(&mut Encoder::new(&mut bytes)).map(|()| bytes).unwrap_or_default()
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Offer(Box<Lease>),
    Ack(Box<Lease>),
    Nak { server: Option<Ipv4Addr> },
}

/// An answer to the message with this station and transaction id; `None` for what is not one.
pub(super) fn reply(bytes: &[u8], hardware: [u8; 6], id: u32) -> Option<Reply> {
    let message = Message::decode(&mut Decoder::new(&wanted::v4(bytes)?)).ok()?;
    if message.xid() != id || message.chaddr().get(..6) != Some(hardware.as_slice()) {
        return None;
    }
    match message.opts().msg_type()? {
        MessageType::Offer => lease(&message).map(Box::new).map(Reply::Offer),
        MessageType::Ack => lease(&message).map(Box::new).map(Reply::Ack),
        MessageType::Nak => Some(Reply::Nak { server: server(&message) }),
        _ => None,
    }
}

fn server(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
        _ => None,
    }
}

fn lease(message: &Message) -> Option<Lease> {
    let address = message.yiaddr();
    let server = server(message)?;
    let option = |code| message.opts().get(code);
    let addresses = |code| match option(code) {
        Some(
            DhcpOption::Router(list) | DhcpOption::DomainNameServer(list) | DhcpOption::NtpServers(list),
        ) => list.iter().copied().filter(|address| is_usable(*address)).collect(),
        _ => Vec::new(),
    };
    let prefix = match option(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => u8::try_from(mask.to_bits().leading_ones()).unwrap_or(32),
        _ => 24,
    };
    // RFC 3442: a server that gives classless routes means them to replace the router.
    let routes = match option(OptionCode::ClasslessStaticRoute) {
        Some(DhcpOption::ClasslessStaticRoute(routes)) => {
            routes.iter().map(|(net, router)| (net.network(), net.prefix_len(), *router)).collect()
        }
        _ => addresses(OptionCode::Router)
            .into_iter()
            .take(1)
            .map(|router| (Ipv4Addr::UNSPECIFIED, 0, router))
            .collect(),
    };
    let own_domain = match option(OptionCode::DomainName) {
        Some(DhcpOption::DomainName(name)) => domain(name),
        _ => None,
    };
    let search = match option(OptionCode::DomainSearch) {
        Some(DhcpOption::DomainSearch(names)) => {
            names.iter().filter_map(|name| domain(&name.to_string())).collect()
        }
        _ => own_domain.iter().cloned().collect(),
    };
    let host_name = match option(OptionCode::Hostname) {
        Some(DhcpOption::Hostname(name)) => domain(name),
        _ => None,
    };
    let mtu = match option(OptionCode::InterfaceMtu) {
        // RFC 791: every IPv4 link carries 576 bytes; with 68, the least it must carry at all, nothing works.
        Some(DhcpOption::InterfaceMtu(mtu)) if *mtu >= 576 => Some(*mtu),
        _ => None,
    };
    is_usable(address).then(|| Lease {
        address,
        prefix,
        server,
        routes,
        name_servers: addresses(OptionCode::DomainNameServer),
        search,
        domain: own_domain,
        host_name,
        ntp_servers: addresses(OptionCode::NtpServers),
        mtu,
        times: times(message),
    })
}

/// When to renew, to rebind and to give up; half and seven eighths when the server does not say (RFC 2131, 4.4.5).
fn times(message: &Message) -> [Duration; 3] {
    let seconds = |code| match message.opts().get(code) {
        Some(DhcpOption::AddressLeaseTime(s) | DhcpOption::Renewal(s) | DhcpOption::Rebinding(s)) => {
            Some(Duration::from_secs(u64::from(*s)))
        }
        _ => None,
    };
    let end = seconds(OptionCode::AddressLeaseTime).unwrap_or(Duration::from_secs(3600)).max(SHORTEST);
    let rebind = seconds(OptionCode::Rebinding).unwrap_or(end / 8 * 7).clamp(SHORTEST / 2, end);
    let renew = seconds(OptionCode::Renewal).unwrap_or(end / 2).clamp(SHORTEST / 2, rebind);
    [renew, rebind, end]
}

/// Addresses that a lease may name.
fn is_usable(address: Ipv4Addr) -> bool {
    let broadcast = address.is_broadcast() || address.is_multicast();
    !(address.is_unspecified() || address.is_loopback() || broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    /// A server's message of `kind` with `options`.
    fn from_server(kind: MessageType, options: Vec<DhcpOption>) -> Vec<u8> {
        let mut message = Message::default();
        message.set_xid(7).set_chaddr(&HARDWARE).set_yiaddr(Ipv4Addr::new(10, 0, 2, 15));
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        options.into_iter().for_each(|option| drop(message.opts_mut().insert(option)));
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        bytes
    }

    fn lease_with(mut options: Vec<DhcpOption>) -> Lease {
        options.push(DhcpOption::ServerIdentifier(SERVER));
        match reply(&from_server(MessageType::Ack, options), HARDWARE, 7) {
            Some(Reply::Ack(lease)) => *lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lease_says_address_routes_and_names() {
        let lease = lease_with(vec![
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::Router(vec![SERVER]),
            DhcpOption::DomainNameServer(vec![Ipv4Addr::UNSPECIFIED, SERVER]),
            DhcpOption::NtpServers(vec![SERVER]),
            DhcpOption::Hostname("harbour".to_owned()),
            DhcpOption::DomainName("example.com".to_owned()),
            DhcpOption::AddressLeaseTime(86_400),
        ]);
        assert_eq!((lease.address, lease.prefix, lease.server), (Ipv4Addr::new(10, 0, 2, 15), 24, SERVER));
        assert_eq!(lease.routes, [(Ipv4Addr::UNSPECIFIED, 0, SERVER)]);
        assert_eq!((lease.search, lease.name_servers), (vec!["example.com".to_owned()], vec![SERVER]));
        assert_eq!(
            (lease.host_name.as_deref(), lease.ntp_servers.as_slice()),
            (Some("harbour"), [SERVER].as_slice())
        );
        assert_eq!(lease.times.map(|time| time.as_secs()), [43_200, 75_600, 86_400]);
    }

    #[test]
    fn what_a_server_says_is_kept_in_bounds() {
        let lease = lease_with(vec![
            DhcpOption::AddressLeaseTime(1),
            DhcpOption::Renewal(0),
            DhcpOption::InterfaceMtu(68),
            DhcpOption::DomainName("a\nnameserver 6.6.6.6".to_owned()),
        ]);
        assert_eq!(lease.times.map(|time| time.as_secs()), [15, 26, 30]);
        assert_eq!((lease.mtu, lease.search.len()), (None, 0));
        let endless = lease_with(vec![DhcpOption::AddressLeaseTime(u32::MAX)]);
        assert!(endless.times[2] > Duration::from_secs(100 * 365 * 86_400));
    }

    #[test]
    fn only_answers_to_the_question_count() {
        let server = || vec![DhcpOption::ServerIdentifier(SERVER)];
        let offer = from_server(MessageType::Offer, server());
        assert!(matches!(reply(&offer, HARDWARE, 7), Some(Reply::Offer(_))));
        assert_eq!(reply(&offer, HARDWARE, 8), None, "another transaction");
        assert_eq!(reply(&offer, [9; 6], 7), None, "another station");
        assert_eq!(reply(&from_server(MessageType::Offer, vec![]), HARDWARE, 7), None, "no server");
        assert_eq!(
            reply(&from_server(MessageType::Nak, server()), HARDWARE, 7),
            Some(Reply::Nak { server: Some(SERVER) })
        );
        for length in 0..offer.len() {
            reply(&offer[..length], HARDWARE, 7);
        }
    }

    #[test]
    fn questions_name_what_the_protocol_wants() {
        let decode = |bytes: &[u8]| Message::decode(&mut Decoder::new(bytes)).unwrap();
        let address = Ipv4Addr::new(10, 0, 2, 15);
        let request = decode(&message(Question::Request { address, server: SERVER }, HARDWARE, 7, None));
        assert_eq!(request.ciaddr(), Ipv4Addr::UNSPECIFIED);
        assert!(request.opts().get(OptionCode::ServerIdentifier).is_some());
        let renew = decode(&message(Question::Renew { address }, HARDWARE, 7, Some("harbour")));
        assert_eq!(renew.ciaddr(), address);
        assert!(renew.opts().get(OptionCode::ServerIdentifier).is_none(), "RFC 2131, section 4.3.6");
        assert!(renew.opts().get(OptionCode::RequestedIpAddress).is_none());
        assert_eq!(renew.opts().get(OptionCode::Hostname), Some(&DhcpOption::Hostname("harbour".to_owned())));
        let reboot = decode(&message(Question::Reboot { address }, HARDWARE, 7, None));
        assert_eq!(reboot.ciaddr(), Ipv4Addr::UNSPECIFIED, "RFC 2131, section 4.3.2");
        assert!(reboot.opts().get(OptionCode::ServerIdentifier).is_none());
        assert!(reboot.opts().get(OptionCode::RequestedIpAddress).is_some());
    }
}
