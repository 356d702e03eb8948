//! DHCPv4: RFC 2131, with the options of RFC 2132, 3397 (search domains) and 3442 (classless routes).

mod machine;
mod message;
#[cfg(test)]
mod tests;

pub use machine::{Action, Event, Held, Machine};
pub use message::Lease;
