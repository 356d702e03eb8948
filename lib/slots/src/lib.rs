//! Which of the two slots a machine may boot, and the flight recorder that remembers it.
//!
//! Three parts: [`Slots`] decides (pure, no I/O), [`Recorder`] keeps its state and a ring of text on the recorder
//! partition, [`UkiName`] names the kernel images by which systemd-boot counts tries. PID 1 links this crate before
//! anything is mounted: nothing here panics, and garbage on the partition is the same as an empty one.

#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::fmt;
use std::str::FromStr;

mod recorder;
mod state;
mod uki;

pub use recorder::{Entry, Error, Recorder};
pub use state::{MAX_FAILURES, SlotRecord, Slots, Verdict};
pub use uki::{Counter, InvalidUkiName, UkiName};

/// One of the two places a version of the operating system can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// `root-a`, `verity-a`: where the factory puts the first version.
    A,
    /// `root-b`, `verity-b`.
    B,
}

impl Slot {
    /// The one that is not this one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// The root hash of a dm-verity tree: what a version of the root is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootHash(pub [u8; 32]);

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootHash({self})")
    }
}

impl FromStr for RootHash {
    type Err = InvalidRootHash;

    fn from_str(text: &str) -> Result<Self, InvalidRootHash> {
        let invalid = || InvalidRootHash { text: text.to_owned() };
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            let digits = text.get(at..at + 2).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| invalid())?;
        }
        Ok(Self(hash))
    }
}

/// A text that is no root hash.
#[derive(Debug, thiserror::Error)]
#[error("'{text}' is not a root hash: 64 hexadecimal digits")]
pub struct InvalidRootHash {
    /// The text as it was given.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_hash_reads_as_it_is_written() {
        let text = "00ff".repeat(16);
        assert_eq!(text.parse::<RootHash>().unwrap().to_string(), text);
        for bad in ["", "00", &"0g".repeat(32), &"+f".repeat(32), &"00".repeat(33)] {
            assert!(bad.parse::<RootHash>().is_err(), "{bad}");
        }
    }
}
