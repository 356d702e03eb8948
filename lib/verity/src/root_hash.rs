//! The identity of a verified root.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// The hash at the top of a tree; written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootHash([u8; 32]);

impl RootHash {
    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// PARTUUID of the root partition, as text: the first 128 bits (Discoverable Partitions Specification).
    pub fn root_partuuid(&self) -> String {
        uuid_text(&self.0[..16])
    }

    /// PARTUUID of the verity partition, as text: the last 128 bits (Discoverable Partitions Specification).
    pub fn verity_partuuid(&self) -> String {
        uuid_text(&self.0[16..])
    }
}

impl FromStr for RootHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error::RootHash { text: text.chars().take(80).collect() };
        if text.len() != 64 {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else { return Err(error()) };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

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

/// The value of a lower-case hex digit.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// 16 bytes as 8-4-4-4-12 hex digits, in the order they have.
fn uuid_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210";

    #[test]
    fn text_and_back() {
        let hash: RootHash = TEXT.parse().unwrap();
        assert_eq!(hash.to_string(), TEXT);
        assert_eq!(hash.root_partuuid(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(hash.verity_partuuid(), "01234567-89ab-cdef-fedc-ba9876543210");
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in ["", "00", &TEXT[1..], &TEXT.to_uppercase(), &format!("{TEXT}0"), &TEXT.replace('3', "é")]
        {
            assert!(text.parse::<RootHash>().is_err(), "{text}");
        }
    }
}
