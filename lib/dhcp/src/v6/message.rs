//! DHCPv6 messages and what a lease says. Pure.

use std::net::Ipv6Addr;
use std::time::Duration;

use dhcproto::v6::{
    DhcpOption, IAAddr, IANA, Message, MessageType, NtpSuboption, ORO, OptionCode, Status, StatusCode,
};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use serde::{Deserialize, Serialize};

use crate::{domain, wanted};

/// Leases are at least this long, however short the server says, so that renewing does not become all we do.
const SHORTEST: Duration = Duration::from_secs(30);

/// How long what a server told without an address counts: RFC 8415, section 21.23, IRT_DEFAULT and IRT_MINIMUM.
const REFRESH: Duration = Duration::from_secs(86_400);
const SHORTEST_REFRESH: Duration = Duration::from_secs(600);

/// The one association of a link. Its number only has to be the same each time (RFC 8415, section 12).
const ASSOCIATION: u32 = 1;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// An address, and what else servers tell.
    Address,
    /// Only what servers tell.
    Information,
}

/// What a server has given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address; its network is what routers advertise. `None`: only information was asked for.
    pub address: Option<Ipv6Addr>,
    /// Identifies who gave it.
    pub server: Vec<u8>,
    /// Name servers.
    pub name_servers: Vec<Ipv6Addr>,
    /// Domains to search names in.
    pub search: Vec<String>,
    /// Time servers: addresses or names.
    pub ntp_servers: Vec<String>,
    /// For how long new connections may use the address.
    pub preferred: Duration,
    /// After how long to renew it, to ask any server, to give it up.
    pub times: [Duration; 3],
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Solicit,
    Request(Ipv6Addr, Vec<u8>),
    Renew(Ipv6Addr, Vec<u8>),
    Rebind(Ipv6Addr),
    Information,
}

/// The identity of a client: the hardware address of the link (DUID-LL, RFC 8415, section 11.4).
fn identity(hardware: [u8; 6]) -> Vec<u8> {
    [[0, 3, 0, 1].as_slice(), &hardware].concat()
}

/// The bytes of a message in the transaction `id` (of which 24 bits count), first asked `elapsed` ago.
pub(super) fn message(question: &Question, hardware: [u8; 6], id: u32, elapsed: Duration) -> Vec<u8> {
    let kind = match question {
        Question::Solicit => MessageType::Solicit,
        Question::Request(..) => MessageType::Request,
        Question::Renew(..) => MessageType::Renew,
        Question::Rebind(_) => MessageType::Rebind,
        Question::Information => MessageType::InformationRequest,
    };
    let mut message = Message::new_with_id(kind, transaction(id));
    let options = message.opts_mut();
    options.insert(DhcpOption::ClientId(identity(hardware)));
    options.insert(DhcpOption::ElapsedTime(u16::try_from(elapsed.as_millis() / 10).unwrap_or(u16::MAX)));
    let mut wanted = vec![OptionCode::DomainNameServers, OptionCode::DomainSearchList, OptionCode::NtpServer];
    if *question == Question::Information {
        wanted.push(OptionCode::InformationRefreshTime);
    }
    options.insert(DhcpOption::ORO(ORO { opts: wanted }));
    let address = match question {
        Question::Solicit | Question::Information => None,
        Question::Request(address, server) | Question::Renew(address, server) => {
            options.insert(DhcpOption::ServerId(server.clone()));
            Some(*address)
        }
        Question::Rebind(address) => Some(*address),
    };
    if *question != Question::Information {
        let addresses = address.map(|addr| {
            DhcpOption::IAAddr(IAAddr {
                addr,
                preferred_life: 0,
                valid_life: 0,
                opts: [].into_iter().collect(),
            })
        });
        let opts = addresses.into_iter().collect();
        options.insert(DhcpOption::IANA(IANA { id: ASSOCIATION, t1: 0, t2: 0, opts }));
    }
    let mut bytes = Vec::new();
    // Only options too long for their length fail to be encoded, and these are all short.
    message.encode(&mut Encoder::new(&mut bytes)).map(|()| bytes).unwrap_or_default()
}

fn transaction(id: u32) -> [u8; 3] {
    let [_, a, b, c] = id.to_be_bytes();
    [a, b, c]
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Advertise(Box<Lease>),
    Given(Box<Lease>),
    /// No address, or not this one any more.
    Refused,
}

/// An answer to the message with this station and transaction id; `None` for what is not one.
pub(super) fn reply(bytes: &[u8], hardware: [u8; 6], id: u32, mode: Mode) -> Option<Reply> {
    let message = Message::decode(&mut Decoder::new(&wanted::v6(bytes)?)).ok()?;
    let ours = matches!(
        message.opts().get(OptionCode::ClientId),
        Some(DhcpOption::ClientId(own)) if *own == identity(hardware)
    );
    if message.xid() != transaction(id) || !ours {
        return None;
    }
    let lease = lease(&message, mode);
    match (message.msg_type(), lease) {
        (MessageType::Advertise, Some(lease)) => Some(Reply::Advertise(Box::new(lease))),
        (MessageType::Reply, Some(lease)) => Some(Reply::Given(Box::new(lease))),
        (MessageType::Reply, None) => Some(Reply::Refused),
        _ => None,
    }
}

fn lease(message: &Message, mode: Mode) -> Option<Lease> {
    let options = message.opts();
    let failed = |status: Option<&DhcpOption>| matches!(status, Some(DhcpOption::StatusCode(StatusCode { status, .. })) if *status != Status::Success);
    let Some(DhcpOption::ServerId(server)) = options.get(OptionCode::ServerId) else { return None };
    if failed(options.get(OptionCode::StatusCode)) {
        return None;
    }
    let (address, preferred, times) = match mode {
        Mode::Address => {
            let association = options.iter().find_map(|option| match option {
                DhcpOption::IANA(association) if association.id == ASSOCIATION => Some(association),
                _ => None,
            })?;
            if failed(association.opts.get(OptionCode::StatusCode)) {
                return None;
            }
            let given = association.opts.iter().find_map(|option| match option {
                DhcpOption::IAAddr(given) if given.valid_life > 0 && is_usable(given.addr) => Some(given),
                _ => None,
            })?;
            let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
            let end = seconds(given.valid_life).max(SHORTEST);
            let preferred = seconds(given.preferred_life).min(end);
            // RFC 8415, section 14.2: half and four fifths of the preferred time when the server leaves it to us.
            let or = |seconds: Duration, share: Duration| if seconds.is_zero() { share } else { seconds };
            let rebind = or(seconds(association.t2), preferred / 5 * 4).clamp(SHORTEST / 2, end);
            let renew = or(seconds(association.t1), preferred / 2).clamp(SHORTEST / 2, rebind);
            (Some(given.addr), preferred, [renew, rebind, end])
        }
        Mode::Information => {
            let refresh = match options.get(OptionCode::InformationRefreshTime) {
                Some(DhcpOption::InformationRefreshTime(seconds)) => Duration::from_secs(u64::from(*seconds)),
                _ => REFRESH,
            };
            // Nothing ends when nobody refreshes it.
            (None, Duration::ZERO, [refresh.max(SHORTEST_REFRESH), Duration::MAX, Duration::MAX])
        }
    };
    let name_servers = match options.get(OptionCode::DomainNameServers) {
        Some(DhcpOption::DomainNameServers(servers)) => {
            servers.iter().copied().filter(|address| is_usable(*address)).collect()
        }
        _ => Vec::new(),
    };
    let search = match options.get(OptionCode::DomainSearchList) {
        Some(DhcpOption::DomainSearchList(names)) => {
            names.iter().filter_map(|name| domain(&name.to_string())).collect()
        }
        _ => Vec::new(),
    };
    let ntp_servers = match options.get(OptionCode::NtpServer) {
        Some(DhcpOption::NtpServer(servers)) => servers.iter().filter_map(time_server).collect(),
        _ => Vec::new(),
    };
    Some(Lease { address, server: server.clone(), name_servers, search, ntp_servers, preferred, times })
}

fn time_server(server: &NtpSuboption) -> Option<String> {
    match server {
        NtpSuboption::ServerAddress(address) => is_usable(*address).then(|| address.to_string()),
        NtpSuboption::MulticastAddress(_) => None,
        NtpSuboption::FQDN(name) => domain(&name.to_string()),
    }
}

/// Addresses that a lease may name.
fn is_usable(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}
