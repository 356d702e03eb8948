//! Policy rules: which table is asked for what.

use std::io;
use std::net::IpAddr;

use crate::attributes::{Attributes, as_address, as_u32, attributes, family, is_six};
use crate::socket::{CREATE, EXCLUSIVE, Kernel, Message};
use crate::{OURS, TABLE_MAIN};

const NEWRULE: u16 = 32;
const DELRULE: u16 = 33;
const GETRULE: u16 = 34;

// FRA_*, include/uapi/linux/fib_rules.h
const DST: u16 = 1;
const SRC: u16 = 2;
const PRIORITY: u16 = 6;
const FWMARK: u16 = 10;
const TABLE: u16 = 15;
const FWMASK: u16 = 16;
const PROTOCOL: u16 = 21;
/// `FR_ACT_TO_TBL`
const TO_TABLE: u8 = 1;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For IPv6.
    pub six: bool,
    /// Source network.
    pub from: Option<(IpAddr, u8)>,
    /// Destination network.
    pub to: Option<(IpAddr, u8)>,
    /// The table.
    pub table: u32,
    /// Smaller ones come first.
    pub priority: u32,
    /// Firewall mark; 0: any.
    pub mark: u32,
    /// Type of service; 0: any.
    pub tos: u8,
}

impl Kernel {
    /// Our rules.
    pub fn rules(&mut self) -> io::Result<Vec<Rule>> {
        self.dump(GETRULE, &[0; 12], |message| read(message).into_iter().collect())
    }

    /// Adds a rule. One that is there already is no error.
    pub fn add_rule(&mut self, rule: &Rule) -> io::Result<()> {
        match self.request(NEWRULE, CREATE | EXCLUSIVE, &header(rule), rule_attributes(rule)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Removes a rule. One that is gone already is no error.
    pub fn remove_rule(&mut self, rule: &Rule) -> io::Result<()> {
        match self.request(DELRULE, 0, &header(rule), rule_attributes(rule)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

/// `struct fib_rule_hdr`
fn header(rule: &Rule) -> [u8; 12] {
    let prefix = |network: Option<(IpAddr, u8)>| network.map_or(0, |(_, prefix)| prefix);
    let family = family(rule.six);
    [family, prefix(rule.to), prefix(rule.from), rule.tos, 0, 0, 0, TO_TABLE, 0, 0, 0, 0]
}

fn rule_attributes(rule: &Rule) -> Attributes {
    let some = |network: Option<(IpAddr, u8)>| network.filter(|(_, prefix)| *prefix > 0);
    Attributes::default()
        .with(some(rule.from), |attributes, (network, _)| attributes.address(SRC, network))
        .with(some(rule.to), |attributes, (network, _)| attributes.address(DST, network))
        .u32(TABLE, rule.table)
        .u32(PRIORITY, rule.priority)
        .with(Some(rule.mark).filter(|mark| *mark != 0), |attributes, mark| {
            attributes.u32(FWMARK, mark).u32(FWMASK, u32::MAX)
        })
        .u8(PROTOCOL, OURS)
}

fn read((kind, body): Message<'_>) -> Option<Rule> {
    let rest = body.get(12..).filter(|_| kind == NEWRULE)?;
    let mut rule = Rule {
        six: is_six(body[0])?,
        from: None,
        to: None,
        table: u32::from(body[4]),
        priority: 0,
        mark: 0,
        tos: body[3],
    };
    let mut ours = false;
    for (kind, value) in attributes(rest) {
        match kind {
            SRC => rule.from = as_address(value).map(|network| (network, body[2])),
            DST => rule.to = as_address(value).map(|network| (network, body[1])),
            TABLE => rule.table = as_u32(value)?,
            PRIORITY => rule.priority = as_u32(value)?,
            FWMARK => rule.mark = as_u32(value)?,
            PROTOCOL => ours = value == [OURS],
            _ => {}
        }
    }
    ours.then_some(rule)
}

impl Default for Rule {
    fn default() -> Self {
        Self { six: false, from: None, to: None, table: TABLE_MAIN, priority: 0, mark: 0, tos: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_back() {
        let network = |text: &str, prefix| Some((text.parse().unwrap(), prefix));
        for rule in [
            Rule { from: network("10.0.0.0", 8), priority: 100, table: 1000, ..Rule::default() },
            Rule { six: true, to: network("2001:db8::", 32), mark: 7, tos: 16, ..Rule::default() },
        ] {
            let bytes = [header(&rule).as_slice(), &rule_attributes(&rule).into_bytes()].concat();
            assert_eq!(read((NEWRULE, &bytes)), Some(rule));
            for length in 0..bytes.len() {
                read((NEWRULE, &bytes[..length]));
            }
        }
    }
}
