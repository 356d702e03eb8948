//! Requests to the kernel over netlink, as far as the checks take them (netlink(7)).

use std::io;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, recv, send, socket};

/// NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE.
const FLAGS: u16 = 0x1 | 0x4 | 0x400;
/// NLMSG_ERROR, which is also how success is said.
const ERROR: u16 = 2;
/// NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END.
const BATCH: [u16; 2] = [0x10, 0x11];
/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;

/// Attributes one after the other.
#[derive(Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds one with these bytes.
    pub(crate) fn bytes(mut self, kind: u16, content: &[u8]) -> Self {
        let length = u16::try_from(content.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a text with its NUL.
    pub(crate) fn text(self, kind: u16, text: &str) -> Self {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds one that holds others.
    pub(crate) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }
}

fn message(kind: u16, flags: u16, header: &[u8], attributes: &Attributes) -> Vec<u8> {
    let length = u32::try_from(16 + header.len() + attributes.0.len()).unwrap_or(u32::MAX);
    let mut message = Vec::from(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and port: nothing else is asked over the same socket.
    message.extend([0; 8]);
    message.extend(header);
    message.extend(&attributes.0);
    message
}

/// RTM_NEWLINK with an empty `struct ifinfomsg`.
pub(crate) fn new_link(attributes: &Attributes) -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    /// NLM_F_EXCL.
    const EXCLUSIVE: u16 = 0x200;
    let message = message(RTM_NEWLINK, FLAGS | EXCLUSIVE, &[0; 16], attributes);
    // NETLINK_ROUTE is what the family speaks by itself.
    ask(None, &message)
}

/// A change of nf_tables in a batch of its own, for IPv4.
pub(crate) fn nf_tables(kind: u16, attributes: &Attributes) -> io::Result<()> {
    /// NFNL_SUBSYS_NFTABLES, in network order where the batch names it.
    const SUBSYSTEM: u16 = 10;
    const NLM_F_APPEND: u16 = 0x800;
    let none = Attributes::default();
    let batch = |kind| message(kind, 0x1, &[0, 0, 0, 10], &none);
    let [begin, end] = BATCH.map(batch);
    // struct nfgenmsg: AF_INET.
    let change = message(SUBSYSTEM << 8 | kind, FLAGS | NLM_F_APPEND, &[2, 0, 0, 0], attributes);
    ask(Some(rustix::net::netlink::NETFILTER), &[begin, change, end].concat())
}

/// Sends a request and reads the kernel's verdict.
fn ask(protocol: Option<Protocol>, request: &[u8]) -> io::Result<()> {
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, protocol)?;
    send(&socket, request, SendFlags::empty())?;
    let mut answer = vec![0; 8192];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let field = |at: usize| answer.get(..length)?.get(at..)?.first_chunk::<4>();
    let kind = answer.get(4..).and_then(|rest| rest.first_chunk()).map(|bytes| u16::from_ne_bytes(*bytes));
    match field(16).map(|code| i32::from_ne_bytes(*code)) {
        Some(0) if kind == Some(ERROR) => Ok(()),
        Some(code) if kind == Some(ERROR) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::other("the kernel's answer is no verdict")),
    }
}
