//! Firewall and address translation: whole tables of nf_tables, replaced at once.
//!
//! A packet sees the old tables or the new ones and never something between: the kernel does a batch as one transaction,
//! or nothing of it. A rule prints in nft(8)'s words, so that tests and people can read what is set.

mod encode;
mod rule;

use std::io;

pub use rule::{Protocol, Rule};

use crate::socket::Kernel;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
}

/// Where packets enter a chain (`NF_INET_*`, and the usual priorities of nft(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// As they come, before connections are looked up.
    Raw,
    /// For this machine.
    Input,
    /// From one link to another.
    Forward,
    /// As they come: where the destination is exchanged.
    TranslateIncoming,
    /// Sent by this machine: the same.
    TranslateOwn,
    /// As they leave: where the source is exchanged.
    TranslateLeaving,
}

/// What becomes of packets that no rule decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They pass.
    Accept,
    /// They are dropped.
    Drop,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where packets enter it; `None`: by a jump.
    pub base: Option<(Hook, Policy)>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What it sees.
    pub family: Family,
    /// Its name.
    pub name: &'static str,
    /// Its chains; one that is jumped to comes before the jump.
    pub chains: Vec<Chain>,
}

/// Puts `tables` in the place of those of the same names. A table without chains is taken away.
pub fn replace(tables: &[Table]) -> io::Result<()> {
    Kernel::netfilter()?.batch(&encode::batch(tables))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_removes_what_was_there_and_asks_for_all_of_the_new() {
        let chain = Chain {
            name: "input",
            base: Some((Hook::Input, Policy::Drop)),
            rules: vec![Rule::new().input_link("lo").accept(), Rule::new().counter().drop()],
        };
        let table = Table { family: Family::Inet, name: "t", chains: vec![chain] };
        let kinds: Vec<u16> = encode::batch(&[table]).iter().map(|(kind, ..)| kind & 0xff).collect();
        // Begin, new table, no table, new table, chain, two rules, end.
        assert_eq!(kinds, [16, 0, 2, 0, 3, 6, 6, 17]);
        let gone = Table { family: Family::Ip, name: "t", chains: Vec::new() };
        let kinds: Vec<u16> = encode::batch(&[gone]).iter().map(|(kind, ..)| kind & 0xff).collect();
        assert_eq!(kinds, [16, 0, 2, 17]);
    }

    #[test]
    fn the_kernel_names_what_it_does_not_take() {
        // Without the right to do so, or because there is no such chain to jump to: never silently.
        let chain = Chain { name: "a", base: None, rules: vec![Rule::new().jump("nowhere")] };
        assert!(
            replace(&[Table { family: Family::Ip, name: "holdfast-test", chains: vec![chain] }]).is_err()
        );
    }
}
