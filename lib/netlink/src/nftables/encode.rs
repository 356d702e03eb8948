//! Tables, chains and rules as the kernel takes them (include/uapi/linux/netfilter/nf_tables.h). Numbers in attributes are
//! in network order, those in registers as the machine has them or as packets do.

use std::net::IpAddr;

use super::rule::{Part, Rule};
use super::{Chain, Family, Hook, Policy, Table};
use crate::attributes::Attributes;
use crate::socket::{APPEND, CREATE};

/// `NFNL_MSG_BATCH_BEGIN` and `_END` (include/uapi/linux/netfilter/nfnetlink.h)
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`
const NFTABLES: u16 = 10;

// NFT_MSG_*
const NEWTABLE: u16 = NFTABLES << 8;
const DELTABLE: u16 = NFTABLES << 8 | 2;
const NEWCHAIN: u16 = NFTABLES << 8 | 3;
const NEWRULE: u16 = NFTABLES << 8 | 6;

/// `NFTA_*_TABLE` of chains and rules, `NFTA_TABLE_NAME`.
const TABLE: u16 = 1;
// NFTA_CHAIN_*
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
// NFTA_HOOK_*
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
// NFTA_RULE_*
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
/// `NFTA_LIST_ELEM`
const ELEMENT: u16 = 1;
// NFTA_EXPR_*
const NAME: u16 = 1;
const DATA: u16 = 2;
// NFTA_DATA_*, NFTA_VERDICT_*
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// `NFT_REG_VERDICT`, `NFT_REG_1` and `NFT_REG_2`
const VERDICTS: u32 = 0;
const FIRST: u32 = 1;
const SECOND: u32 = 2;

// NFT_META_*
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;

// NFT_CMP_*
const EQUAL: u32 = 0;
const DIFFERENT: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

// NFT_PAYLOAD_*_HEADER
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// `NF_CT_STATE_BIT` of established and related connections.
const KNOWN: u32 = 2 | 4;
/// `IPS_DST_NAT`
const REDIRECTED: u32 = 32;

/// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP`
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;

/// `NFPROTO_INET`, `NFPROTO_IPV4`, `NFPROTO_IPV6`
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// One message: its kind, flags and what follows the header.
type Message = (u16, u16, Vec<u8>);

/// The batch that puts `tables` in the place of those of the same names.
pub(super) fn batch(tables: &[Table]) -> Vec<Message> {
    let border = |kind| (kind, 0, vec![0, 0, 0, 10]);
    let mut messages = vec![border(BEGIN)];
    for table in tables {
        let named = || Attributes::default().text(TABLE, table.name);
        // Made first, so that there is something to take away.
        messages.push(message(table.family, NEWTABLE, CREATE, named()));
        messages.push(message(table.family, DELTABLE, 0, named()));
        if !table.chains.is_empty() {
            messages.push(message(table.family, NEWTABLE, CREATE, named()));
        }
        for chain in &table.chains {
            messages.push(message(table.family, NEWCHAIN, CREATE, chain_attributes(named(), chain)));
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                let attributes = named()
                    .text(RULE_CHAIN, chain.name)
                    .nested(RULE_EXPRESSIONS, &expressions(rule, table.family));
                messages.push(message(table.family, NEWRULE, CREATE | APPEND, attributes));
            }
        }
    }
    messages.push(border(END));
    messages
}

/// `struct nfgenmsg`, then attributes.
fn message(family: Family, kind: u16, flags: u16, attributes: Attributes) -> Message {
    let family = match family {
        Family::Inet => INET,
        Family::Ip => IPV4,
    };
    (kind, flags, [[family, 0, 0, 0].as_slice(), &attributes.into_bytes()].concat())
}

fn chain_attributes(named: Attributes, chain: &Chain) -> Attributes {
    let named = named.text(CHAIN_NAME, chain.name);
    let Some((hook, policy)) = chain.base else { return named };
    let (kind, number, priority): (_, u32, i32) = match hook {
        Hook::Raw => ("filter", 0, -300),
        Hook::Input => ("filter", 1, 0),
        Hook::Forward => ("filter", 2, 0),
        Hook::TranslateIncoming => ("nat", 0, -100),
        Hook::TranslateOwn => ("nat", 3, -100),
        Hook::TranslateLeaving => ("nat", 4, 100),
    };
    let policy = match policy {
        Policy::Accept => ACCEPT,
        Policy::Drop => DROP,
    };
    let place = Attributes::default()
        .bytes(HOOK_NUMBER, &number.to_be_bytes())
        .bytes(HOOK_PRIORITY, &priority.to_be_bytes());
    named.nested(CHAIN_HOOK, &place).bytes(CHAIN_POLICY, &policy.to_be_bytes()).text(CHAIN_TYPE, kind)
}

fn expressions(rule: &Rule, family: Family) -> Attributes {
    let mut list = List(Attributes::default());
    for part in &rule.0 {
        // A table of one family sees no other.
        if family == Family::Inet || !matches!(part, Part::Six(_)) {
            list.part(part);
        }
    }
    list.0
}

/// Expressions, one after the other.
struct List(Attributes);

impl List {
    fn part(&mut self, part: &Part) {
        match part {
            Part::InputLink(name) => self.meta(IIFNAME, EQUAL, &link_name(name)),
            Part::OutputLink(name) => self.meta(OIFNAME, EQUAL, &link_name(name)),
            Part::OtherOutputLink(name) => self.meta(OIFNAME, DIFFERENT, &link_name(name)),
            Part::Six(six) => self.meta(NFPROTO, EQUAL, &[if *six { IPV6 } else { IPV4 }]),
            Part::Transport(number) => self.meta(L4PROTO, EQUAL, &[*number]),
            // Where the addresses are in the headers of IPv4 and IPv6.
            Part::Source(IpAddr::V4(network), prefix) => self.network(12, &network.octets(), *prefix),
            Part::Source(IpAddr::V6(network), prefix) => self.network(8, &network.octets(), *prefix),
            Part::Destination(IpAddr::V4(network), prefix) => self.network(16, &network.octets(), *prefix),
            Part::Destination(IpAddr::V6(network), prefix) => self.network(24, &network.octets(), *prefix),
            Part::Ports(first, last) => {
                self.payload(TRANSPORT, 2, 2);
                if first == last {
                    self.compare(EQUAL, &first.to_be_bytes());
                } else {
                    self.compare(AT_LEAST, &first.to_be_bytes());
                    self.compare(AT_MOST, &last.to_be_bytes());
                }
            }
            Part::Known => self.connection(0, KNOWN),
            Part::Redirected => self.connection(2, REDIRECTED),
            Part::Local => {
                // NFTA_FIB_DREG; NFTA_FIB_RESULT: the type of address; NFTA_FIB_FLAGS: of the destination.
                self.add("fib", number(number(number(Attributes::default(), 1, FIRST), 2, 3), 3, 2));
                // RTN_LOCAL
                self.compare(EQUAL, &2_u32.to_ne_bytes());
            }
            Part::Counter => self.add("counter", Attributes::default()),
            Part::Accept => self.verdict(ACCEPT, None),
            Part::Drop => self.verdict(DROP, None),
            Part::Jump(chain) => self.verdict(JUMP, Some(chain)),
            Part::To(address, port) => {
                self.load(FIRST, &address.octets());
                // NFTA_NAT_TYPE: of the destination; FAMILY; REG_ADDR_MIN; REG_PROTO_MIN.
                let mut nat = number(number(Attributes::default(), 1, 1), 2, IPV4.into());
                nat = number(nat, 3, FIRST);
                if let Some(port) = port {
                    self.load(SECOND, &port.to_be_bytes());
                    nat = number(nat, 5, SECOND);
                }
                self.add("nat", nat);
            }
            Part::Masquerade => self.add("masq", Attributes::default()),
        }
    }

    fn add(&mut self, name: &str, data: Attributes) {
        let expression = Attributes::default().text(NAME, name).nested(DATA, &data);
        self.0 = std::mem::take(&mut self.0).nested(ELEMENT, &expression);
    }

    /// `NFTA_META_DREG`, `NFTA_META_KEY`
    fn meta(&mut self, key: u32, operation: u32, value: &[u8]) {
        self.add("meta", number(number(Attributes::default(), 1, FIRST), 2, key));
        self.compare(operation, value);
    }

    /// `NFTA_CMP_SREG`, `NFTA_CMP_OP`, `NFTA_CMP_DATA`
    fn compare(&mut self, operation: u32, value: &[u8]) {
        let data = number(number(Attributes::default(), 1, FIRST), 2, operation);
        self.add("cmp", data.nested(3, &Attributes::default().bytes(VALUE, value)));
    }

    /// `NFTA_PAYLOAD_DREG`, `_BASE`, `_OFFSET`, `_LEN`
    fn payload(&mut self, base: u32, offset: u32, length: u32) {
        let data = number(number(Attributes::default(), 1, FIRST), 2, base);
        self.add("payload", number(number(data, 3, offset), 4, length));
    }

    /// An address at `offset`, as far as `prefix` reaches.
    fn network(&mut self, offset: u32, network: &[u8], prefix: u8) {
        let length = if network.len() == 4 { 4 } else { 16 };
        self.payload(NETWORK, offset, length);
        let bits =
            |place: usize| u32::from(prefix).saturating_sub(8 * u32::try_from(place).unwrap_or(32)).min(8);
        let mask: Vec<u8> =
            (0..network.len()).map(|place| u8::MAX.checked_shl(8 - bits(place)).unwrap_or(0)).collect();
        self.mask(&mask);
        let wanted: Vec<u8> = network.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        self.compare(EQUAL, &wanted);
    }

    /// `NFTA_BITWISE_SREG`, `_DREG`, `_LEN`, `_MASK`, `_XOR`
    fn mask(&mut self, mask: &[u8]) {
        let length = if mask.len() == 4 { 4 } else { 16 };
        let data = number(number(number(Attributes::default(), 1, FIRST), 2, FIRST), 3, length);
        let value = |value: &[u8]| Attributes::default().bytes(VALUE, value);
        self.add("bitwise", data.nested(4, &value(mask)).nested(5, &value(&vec![0; mask.len()])));
    }

    /// Some of these bits of the connection's state (key 0) or status (key 2): `NFTA_CT_DREG`, `NFTA_CT_KEY`.
    fn connection(&mut self, key: u32, bits: u32) {
        self.add("ct", number(number(Attributes::default(), 1, FIRST), 2, key));
        self.mask(&bits.to_ne_bytes());
        self.compare(DIFFERENT, &[0; 4]);
    }

    /// `NFTA_IMMEDIATE_DREG`, `NFTA_IMMEDIATE_DATA`
    fn load(&mut self, register: u32, value: &[u8]) {
        let data = number(Attributes::default(), 1, register);
        self.add("immediate", data.nested(2, &Attributes::default().bytes(VALUE, value)));
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        let verdict = Attributes::default()
            .bytes(VERDICT_CODE, &code.to_be_bytes())
            .with(chain, |attributes, chain| attributes.text(VERDICT_CHAIN, chain));
        let data = number(Attributes::default(), 1, VERDICTS);
        self.add("immediate", data.nested(2, &Attributes::default().nested(VERDICT, &verdict)));
    }
}

/// 32 bits in network order.
fn number(attributes: Attributes, kind: u16, value: u32) -> Attributes {
    attributes.bytes(kind, &value.to_be_bytes())
}

/// `IFNAMSIZ` bytes, so that only the whole name is equal.
fn link_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}
