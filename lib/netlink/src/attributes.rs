//! Attributes: typed values behind a fixed header, in both directions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Attributes to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

/// `NLA_F_NESTED`
const NESTED: u16 = 1 << 15;

/// `NLA_TYPE_MASK`: the kind without the flags for nesting and byte order.
const KIND: u16 = 0x3fff;

impl Attributes {
    /// Adds a value as it is. One that is longer than an attribute can be is left out.
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        if let Ok(length) = u16::try_from(value.len() + 4) {
            self.0.extend(length.to_ne_bytes());
            self.0.extend(kind.to_ne_bytes());
            self.0.extend(value);
            self.0.resize(self.0.len().next_multiple_of(4), 0);
        }
        self
    }

    /// Adds a byte.
    pub fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    /// Adds 16 bits in the machine's order.
    pub fn u16(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds 32 bits in the machine's order.
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a text with the zero byte that ends it.
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds an address of 4 or 16 bytes.
    pub fn address(self, kind: u16, value: IpAddr) -> Self {
        match value {
            IpAddr::V4(address) => self.bytes(kind, &address.octets()),
            IpAddr::V6(address) => self.bytes(kind, &address.octets()),
        }
    }

    /// Adds attributes within an attribute.
    pub fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NESTED, &value.0)
    }

    /// Adds when there is something to add.
    pub fn with<T>(self, value: Option<T>, add: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => add(self, value),
            None => self,
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads attributes: kind and value of each, up to the first one that is cut off.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of one attribute; the last one when it is given more than once.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).filter(|(own, _)| *own == kind).last().map(|(_, value)| value)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// 16 bits in the machine's order.
pub(crate) fn as_u16(value: &[u8]) -> Option<u16> {
    u16_at(value, 0)
}

/// 32 bits in the machine's order.
pub(crate) fn as_u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// A text up to its zero byte.
pub(crate) fn as_text(value: &[u8]) -> Option<String> {
    let text = value.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

/// An address of 4 or 16 bytes.
pub(crate) fn as_address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// The unspecified address of a family.
pub(crate) fn unspecified(six: bool) -> IpAddr {
    if six { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// `AF_INET` or `AF_INET6`.
pub(crate) fn family(six: bool) -> u8 {
    if six { 10 } else { 2 }
}

/// Whether a family is `AF_INET6`; `None` when it is neither of the two.
pub(crate) fn is_six(family: u8) -> Option<bool> {
    match family {
        2 => Some(false),
        10 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Attributes::default().u8(1, 7).address(2, Ipv4Addr::LOCALHOST.into());
        let bytes = Attributes::default().text(3, "eth0").u32(4, 5).nested(6, &inner).into_bytes();
        assert_eq!(bytes.len() % 4, 0);
        let text = find(&bytes, 3).and_then(as_text);
        assert_eq!((text.as_deref(), find(&bytes, 4).and_then(as_u32)), (Some("eth0"), Some(5)));
        let inner = find(&bytes, 6).unwrap();
        assert_eq!(find(inner, 2).and_then(as_address), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(find(inner, 1), Some([7].as_slice()));
        for length in 0..bytes.len() {
            attributes(&bytes[..length]).count();
        }
        assert_eq!(attributes(&[0; 64]).count(), 0, "a length of nothing ends it");
    }
}
