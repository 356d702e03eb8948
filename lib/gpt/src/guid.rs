//! GUIDs, which a disk stores with the first three fields in little-endian order.

use std::fmt;
use std::str::FromStr;

/// A GUID. Its text form is the usual one, 8-4-4-4-12 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(u128);

impl Guid {
    /// Marks an entry that is not in use.
    pub const ZERO: Self = Self(0);

    /// The GUID whose hex digits, in the order of its text form, are those of `digits`.
    pub const fn from_u128(digits: u128) -> Self {
        Self(digits)
    }

    /// The hex digits as a number.
    pub const fn to_u128(self) -> u128 {
        self.0
    }

    /// The two GUIDs of a slot: the digits of a 32-byte root hash, first half and second half.
    pub fn halves(root_hash: &[u8; 32]) -> (Self, Self) {
        let digits = |half: &[u8]| Self(half.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)));
        let (first, second) = root_hash.split_at(16);
        (digits(first), digits(second))
    }

    /// As a disk stores it.
    pub fn to_disk(self) -> [u8; 16] {
        swap_fields(self.0.to_be_bytes())
    }

    /// From what a disk stores.
    pub fn from_disk(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(swap_fields(bytes)))
    }
}

/// Turns the byte order of the first three fields around.
fn swap_fields(bytes: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, mask) = (self.0, |bits: u32| (1_u128 << bits) - 1);
        let (a, b, c, d, e) =
            (n >> 96, n >> 80 & mask(16), n >> 64 & mask(16), n >> 48 & mask(16), n & mask(48));
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no GUID.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a GUID: it takes 8-4-4-4-12 hex digits")]
pub struct InvalidGuid {
    /// The text as it was given.
    pub text: String,
}

impl FromStr for Guid {
    type Err = InvalidGuid;

    fn from_str(text: &str) -> Result<Self, InvalidGuid> {
        let invalid = || InvalidGuid { text: text.to_owned() };
        let hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
        let parts: Vec<&str> = text.split('-').collect();
        if !parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) || !parts.iter().all(|part| hex(part)) {
            return Err(invalid());
        }
        u128::from_str_radix(&parts.concat(), 16).map(Self).map_err(|_| invalid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types;

    #[test]
    fn the_disk_form_is_mixed_endian() {
        let bytes =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(types::ESP.to_disk(), bytes);
        assert_eq!(Guid::from_disk(bytes), types::ESP);
    }

    #[test]
    fn text_is_read_and_written() {
        let text = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
        assert_eq!(text.parse(), Ok(types::ROOT));
        assert_eq!(types::ROOT.to_string(), text);
        for wrong in
            ["", "4f68bce3", "4f68bce3-e8cd-4db1-96e7-fbcaf984b70g", "+f68bce3-e8cd-4db1-96e7-fbcaf984b709"]
        {
            assert!(wrong.parse::<Guid>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_root_hash_gives_two_guids_with_its_digits_in_order() {
        let hash = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let (root, verity) = Guid::halves(&hash);
        assert_eq!(root.to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(verity.to_string(), "10111213-1415-1617-1819-1a1b1c1d1e1f");
    }
}
