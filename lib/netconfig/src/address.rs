//! Addresses, networks and the words they are written as.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use userdata::At;

/// A hardware address of 6 bytes (Ethernet) or 20 (InfiniBand).
#[derive(Clone, PartialEq, Eq)]
pub struct Mac(pub Vec<u8>);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) fn mac(at: &At<'_>) -> Option<Mac> {
    let mac = mac_of(at.text()?);
    if mac.is_none() {
        at.error_with_hint("not a hardware address", "as in '52:54:00:12:34:56', in quotes");
    }
    mac
}

pub(crate) fn mac_of(text: &str) -> Option<Mac> {
    let byte = |part: &str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten();
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
    bytes.filter(|bytes| matches!(bytes.len(), 6 | 20)).map(Mac)
}

pub(crate) fn ip(at: &At<'_>) -> Option<IpAddr> {
    let address = at.text()?.parse().ok();
    if address.is_none() {
        at.error("not an IP address");
    }
    address
}

/// An address with the length of its prefix, as `10.0.0.1/24` or `10.0.0.1/255.255.255.0`.
pub(crate) fn with_prefix(at: &At<'_>) -> Option<(IpAddr, Option<u8>)> {
    let text = at.text()?;
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        at.error_with_hint("not an IP address", "as in 192.0.2.10/24 or 2001:db8::10/64");
        return None;
    };
    match prefix.map(|prefix| prefix_length(prefix, address)) {
        None => Some((address, None)),
        Some(Some(prefix)) => Some((address, Some(prefix))),
        Some(None) => {
            at.error(format!("'{text}' has no valid prefix length"));
            None
        }
    }
}

/// A network as a route or rule names it: an address without a prefix means that address alone, `default` means all.
pub(crate) fn network(at: &At<'_>, six: bool) -> Option<(IpAddr, u8)> {
    match at.text()? {
        "default" if six => Some((Ipv6Addr::UNSPECIFIED.into(), 0)),
        "default" => Some((Ipv4Addr::UNSPECIFIED.into(), 0)),
        _ => with_prefix(at).map(|(address, prefix)| (address, prefix.unwrap_or(host_prefix(address)))),
    }
}

pub(crate) fn netmask(at: &At<'_>, address: IpAddr) -> Option<u8> {
    let prefix = prefix_length(at.text()?, address);
    if prefix.is_none() {
        at.error("not a netmask");
    }
    prefix
}

/// The prefix length that is given as a number or as a mask.
pub(crate) fn prefix_length(text: &str, address: IpAddr) -> Option<u8> {
    let longest = host_prefix(address);
    if let Ok(prefix) = text.parse::<u8>() {
        return (prefix <= longest).then_some(prefix);
    }
    let (bits, ones) = match (text.parse::<IpAddr>().ok()?, address) {
        (IpAddr::V4(mask), IpAddr::V4(_)) => {
            (u128::from(mask.to_bits()) << 96, mask.to_bits().leading_ones())
        }
        (IpAddr::V6(mask), IpAddr::V6(_)) => (mask.to_bits(), mask.to_bits().leading_ones()),
        _ => return None,
    };
    (bits.count_ones() == ones).then_some(ones).and_then(|ones| u8::try_from(ones).ok())
}

pub(crate) fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `255.255.255.0` for 24.
pub(crate) fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0))
}

/// A name that the kernel accepts for an interface (`dev_valid_name`).
pub(crate) fn interface_name(at: &At<'_>, name: &str) -> bool {
    let valid = (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != ':');
    if !valid {
        at.error(format!(
            "'{name}' is not an interface name: 1 to 15 characters, without '/', ':' and spaces"
        ));
    }
    valid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_prefixes_are_the_same() {
        for (text, address, prefix) in [
            ("24", "10.0.0.1", Some(24)),
            ("255.255.255.0", "10.0.0.1", Some(24)),
            ("0.0.0.0", "10.0.0.1", Some(0)),
            ("255.0.255.0", "10.0.0.1", None),
            ("33", "10.0.0.1", None),
            ("64", "::1", Some(64)),
            ("ffff:ffff::", "::1", Some(32)),
            ("255.255.255.0", "::1", None),
        ] {
            assert_eq!(
                address.parse().ok().and_then(|address| prefix_length(text, address)),
                prefix,
                "{text}"
            );
        }
        assert_eq!(mask(0).to_string(), "0.0.0.0");
        assert_eq!(mask(12).to_string(), "255.240.0.0");
        assert_eq!(mask(32).to_string(), "255.255.255.255");
    }
}
