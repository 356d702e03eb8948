//! DHCPv6: RFC 8415, for one address a link or, without addresses, for what else servers tell.

mod machine;
mod message;
#[cfg(test)]
mod tests;

pub use machine::{Action, Event, Held, Machine};
pub use message::{Lease, Mode};
