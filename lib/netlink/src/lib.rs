//! What the node says to the kernel about its network, and hears from it: rtnetlink(7) and generic netlink.
//!
//! Only the attributes that are used are read, and an attribute that is too short or not known is as good as absent:
//! a link must not be lost because a newer kernel tells more about it. Reading is pure and never panics.

mod address;
mod attributes;
mod events;
mod generic;
mod link;
mod route;
mod rule;
mod socket;
pub mod wireguard;

pub use address::{Address, Origin, Scope};
pub use attributes::{Attributes, attributes};
pub use events::{Event, Events, NameServers};
pub use link::{Kind, Link, NewLink};
pub use route::{NextHop, Route, RouteKind, TABLE_MAIN};
pub use rule::Rule;
pub use socket::Kernel;

/// The number under which the kernel keeps what is ours: the originator of routes and rules (`RTA_PROTOCOL`,
/// `FRA_PROTOCOL`) and of addresses (`IFA_PROTO`). Nothing else may use it, and what does not carry it is left alone.
/// It is none of those that `/etc/iproute2/rt_protos` names.
pub const OURS: u8 = 72;
