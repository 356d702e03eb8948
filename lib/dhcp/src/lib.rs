//! DHCP clients as pure state machines: what came and what time it is go in, what to send and what was given come out.
//!
//! No sockets and no clocks: times are durations since some fixed moment (on a node, since boot), and randomness comes
//! from a seed. So a whole life of a lease is a unit test that takes no time. Whatever a server sends, a machine neither
//! panics nor asks more often than it should.

mod random;
mod retry;
pub mod v4;
pub mod v6;
mod wanted;

pub use random::Random;

/// A domain as a network gives it, when it is one: it goes into a file with a line format.
fn domain(name: &str) -> Option<String> {
    let name = name.trim_end_matches(['.', '\0']);
    let valid = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    (valid && !name.is_empty() && name.len() <= 253).then(|| name.to_owned())
}
