//! From the network as it is to the network as it shall be. Pure.
//!
//! Only what is ours is taken away: links that carry our mark, and addresses, routes and rules that carry our number.
//! What others add beside that, such as an address that moves between machines, is left alone.

use std::fmt;

use netlink::{Address, Kind, Link, NewLink, Origin, Route, Rule};

use super::settings::Setting;
use super::wanted::{Actual, MARK, Wanted, WantedLink};

/// By how many seconds the time of an address may be off: the kernel counts it down, and we round.
const SLACK: u32 = 5;

/// One thing to do. They are done in the order in which they are given; one that fails is tried again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    RemoveRule(Rule),
    RemoveRoute(Route),
    RemoveAddress(Address),
    /// A link that was made and is not wanted any more, or is of another kind than it shall be.
    Delete(u32),
    /// A link that was found and is not wanted any more: switched off and without our mark.
    Release(u32),
    Create(NewLink),
    Switch(u32, bool),
    Rename(u32, String),
    Mark(u32),
    Set(u32, Setting),
    HardwareAddress(u32, Vec<u8>),
    Mtu(u32, u32),
    Master(u32, Option<u32>),
    SetAddress(Address),
    AddRoute(Route),
    AddRule(Rule),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveRule(_) => write!(f, "remove a rule"),
            Self::RemoveRoute(route) => write!(f, "remove the route to {}/{}", route.network, route.prefix),
            Self::RemoveAddress(address) => write!(f, "remove {}", address.address),
            Self::Delete(_) => write!(f, "remove it"),
            Self::Release(_) => write!(f, "release it"),
            Self::Create(link) => write!(f, "make {} '{}'", link.kind.word(), link.name),
            Self::Switch(_, true) => write!(f, "switch it on"),
            Self::Switch(_, false) => write!(f, "switch it off"),
            Self::Rename(_, name) => write!(f, "rename it to '{name}'"),
            Self::Mark(_) => write!(f, "mark it"),
            Self::Set(_, setting) => write!(f, "set {}", setting.path.display()),
            Self::HardwareAddress(..) => write!(f, "set its hardware address"),
            Self::Mtu(_, mtu) => write!(f, "set its MTU to {mtu}"),
            Self::Master(_, Some(_)) => write!(f, "make it part of another one"),
            Self::Master(_, None) => write!(f, "take it out of another one"),
            Self::SetAddress(address) => write!(f, "set {}/{}", address.address, address.prefix),
            Self::AddRoute(route) => write!(f, "add the route to {}/{}", route.network, route.prefix),
            Self::AddRule(_) => write!(f, "add a rule"),
        }
    }
}

impl Change {
    /// The number of the link that it is about.
    pub(super) fn link(&self) -> Option<u32> {
        match self {
            Self::RemoveRule(_) | Self::AddRule(_) | Self::Create(_) => None,
            Self::RemoveRoute(route) | Self::AddRoute(route) => route.next.link,
            Self::RemoveAddress(address) | Self::SetAddress(address) => Some(address.link),
            Self::Delete(link)
            | Self::Release(link)
            | Self::Switch(link, _)
            | Self::Rename(link, _)
            | Self::Mark(link)
            | Self::Set(link, _)
            | Self::HardwareAddress(link, _)
            | Self::Mtu(link, _)
            | Self::Master(link, _) => Some(*link),
        }
    }
}

/// What is to be done. `missing` tells which settings do not say what they are to say.
pub(super) fn difference(
    actual: &Actual,
    wanted: &Wanted,
    missing: impl Fn(&Setting) -> bool,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let other = |rule: &&Rule| !wanted.rules.contains(rule);
    changes.extend(actual.rules.iter().filter(other).cloned().map(Change::RemoveRule));
    let other = |route: &&Route| !wanted.routes.contains(route);
    changes.extend(actual.routes.iter().filter(other).cloned().map(Change::RemoveRoute));
    let other = |address: &&Address| {
        address.origin == Origin::Ours && !wanted.addresses.iter().any(|own| is_same(own, address))
    };
    changes.extend(actual.addresses.iter().filter(other).cloned().map(Change::RemoveAddress));

    let unwanted = |link: &&Link| {
        link.alias.as_deref() == Some(MARK) && !wanted.links.iter().any(|own| own.index == link.index)
    };
    changes.extend(actual.links.iter().filter(unwanted).map(|link| match link.kind {
        Some(_) => Change::Delete(link.index),
        None => Change::Release(link.index),
    }));
    changes.extend(wanted.create.iter().cloned().map(Change::Create));
    for own in &wanted.links {
        if let Some(link) = actual.links.iter().find(|link| link.index == own.index && !link.loopback) {
            of_link(link, own, actual, &missing, &mut changes);
        }
    }

    let late = |address: &&Address| {
        !actual.addresses.iter().any(|other| is_same(address, other) && lasts_as_long(address, other))
    };
    changes.extend(wanted.addresses.iter().filter(late).cloned().map(Change::SetAddress));
    let late = |route: &&Route| !actual.routes.contains(route);
    changes.extend(wanted.routes.iter().filter(late).cloned().map(Change::AddRoute));
    let late = |rule: &&Rule| !actual.rules.contains(rule);
    changes.extend(wanted.rules.iter().filter(late).cloned().map(Change::AddRule));
    changes
}

fn of_link(
    link: &Link,
    own: &WantedLink,
    actual: &Actual,
    missing: &impl Fn(&Setting) -> bool,
    changes: &mut Vec<Change>,
) {
    let index = link.index;
    if own.kind.as_ref().is_some_and(|kind| !is_kind(link, kind)) {
        // It is made anew as it shall be.
        return changes.push(Change::Delete(index));
    }
    if link.alias.as_deref() != Some(MARK) {
        changes.push(Change::Mark(index));
    }
    let mut on = link.up;
    let mut off = |changes: &mut Vec<Change>| {
        if std::mem::take(&mut on) {
            changes.push(Change::Switch(index, false));
        }
    };
    if let Some(name) = own.name.as_ref().filter(|name| **name != link.name) {
        if let Some(other) = actual.links.iter().find(|other| other.name == *name) {
            // Its own entry, if it has one, gives it its name in the next round.
            changes.push(Change::Switch(other.index, false));
            changes.push(Change::Rename(other.index, format!("old{}", other.index)));
        }
        off(changes);
        changes.push(Change::Rename(index, name.clone()));
    }
    for setting in own.settings.iter().filter(|setting| missing(setting)) {
        if setting.takes == super::settings::Takes::Off {
            off(changes);
        }
        changes.push(Change::Set(index, setting.clone()));
    }
    if let Some(address) = own.address.as_ref().filter(|address| **address != link.address) {
        off(changes);
        changes.push(Change::HardwareAddress(index, address.clone()));
    }
    if let Some(mtu) = own.mtu.filter(|mtu| *mtu != link.mtu) {
        changes.push(Change::Mtu(index, mtu));
    }
    let foreign = |index| actual.links.iter().any(|other| other.index == index && other.kind.is_none());
    match own.master {
        // A function of a network card under another one belongs to its driver.
        Some(None) if link.master.is_some_and(foreign) => {}
        Some(master) if master != link.master => {
            // A bond takes no link that is on.
            if master.is_some() {
                off(changes);
            }
            changes.push(Change::Master(index, master));
        }
        _ => {}
    }
    if !on {
        changes.push(Change::Switch(index, true));
    }
}

fn is_kind(link: &Link, kind: &Kind) -> bool {
    let own = link.kind.as_deref() == Some(kind.word());
    own && match kind {
        Kind::Vlan { id, lower } => link.vlan == Some(*id) && link.lower == Some(*lower),
        Kind::Bond { mode } => link.bond_mode == Some(*mode),
        Kind::Bridge | Kind::Wireguard => true,
    }
}

fn is_same(a: &Address, b: &Address) -> bool {
    (a.link, a.address, a.prefix) == (b.link, b.address, b.prefix)
}

fn lasts_as_long(own: &Address, actual: &Address) -> bool {
    match (own.lifetime, actual.lifetime) {
        (None, None) => true,
        (Some((preferred, valid)), Some((actual_preferred, actual_valid))) => {
            preferred.abs_diff(actual_preferred) <= SLACK && valid.abs_diff(actual_valid) <= SLACK
        }
        // What lasts longer than the kernel can count, it takes for ever.
        (Some((_, valid)), None) => valid >= u32::MAX / 100,
        (None, Some(_)) => false,
    }
}
