//! A message with nothing but the options that are read here.
//!
//! Anybody on the link may answer, and what decodes messages has more kinds of options than a client asks for: some
//! hold each other, so that a short message nests them thousands deep, and some take their lengths on trust, as it does
//! with that of the hardware address. None of these reaches it.

/// DHCPv4: what stands before the options (RFC 2131, figure 1, and the magic cookie), and their codes (RFC 2132, 3397,
/// 3442): mask, routers, name servers, host name, domain, MTU, time servers, times, kind of message, server, search list,
/// classless routes.
const V4_HEADER: usize = 240;
const V4: [u8; 14] = [1, 3, 6, 12, 15, 26, 42, 51, 53, 54, 58, 59, 119, 121];
/// Where it says how long the hardware address is, and how long ours are.
const V4_HARDWARE_LENGTH: usize = 2;
const HARDWARE_LENGTH: u8 = 6;
const V4_PAD: u8 = 0;
const V4_END: u8 = 255;

/// DHCPv6: what stands before the options (RFC 8415, section 8), and their codes (section 21, RFC 3646, RFC 5908).
const V6_HEADER: usize = 4;
const CLIENT: u16 = 1;
const SERVER: u16 = 2;
const ASSOCIATION: u16 = 3;
const ADDRESS: u16 = 5;
const STATUS: u16 = 13;
const NAME_SERVERS: u16 = 23;
const SEARCH: u16 = 24;
const REFRESH: u16 = 32;
const TIME_SERVERS: u16 = 56;
const V6: [u16; 8] = [CLIENT, SERVER, ASSOCIATION, STATUS, NAME_SERVERS, SEARCH, REFRESH, TIME_SERVERS];

/// A DHCPv4 message; `None` when it is none.
pub(crate) fn v4(message: &[u8]) -> Option<Vec<u8>> {
    let (header, mut rest) = message.split_at_checked(V4_HEADER)?;
    if header.get(V4_HARDWARE_LENGTH) != Some(&HARDWARE_LENGTH) {
        return None;
    }
    let mut kept = header.to_vec();
    loop {
        match rest {
            [] | [V4_END, ..] => break,
            [V4_PAD, more @ ..] => rest = more,
            [code, length, more @ ..] => {
                let (value, more) = more.split_at_checked(usize::from(*length))?;
                if V4.contains(code) {
                    kept.extend([*code, *length]);
                    kept.extend(value);
                }
                rest = more;
            }
            [_] => return None,
        }
    }
    kept.push(V4_END);
    Some(kept)
}

/// A DHCPv6 message; `None` when it is none.
pub(crate) fn v6(message: &[u8]) -> Option<Vec<u8>> {
    v6_options(message, V6_HEADER, &V6)
}

/// `bytes`, of which the first `header` are no options. What holds options keeps those that may be in it.
fn v6_options(bytes: &[u8], header: usize, wanted: &[u16]) -> Option<Vec<u8>> {
    let (header, mut rest) = bytes.split_at_checked(header)?;
    let mut kept = header.to_vec();
    while !rest.is_empty() {
        let (head, more) = rest.split_first_chunk::<4>()?;
        let [c0, c1, l0, l1] = *head;
        let (value, more) = more.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        rest = more;
        let code = u16::from_be_bytes([c0, c1]);
        if !wanted.contains(&code) {
            continue;
        }
        let value = match code {
            // RFC 8415, sections 21.4, 21.6 and 21.13.
            ASSOCIATION => v6_options(value, 12, &[ADDRESS, STATUS])?,
            ADDRESS => v6_options(value, 24, &[STATUS])?,
            STATUS if value.len() < 2 => return None,
            _ => value.to_vec(),
        };
        kept.extend([c0, c1]);
        // Not longer than it was.
        kept.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
        kept.extend(value);
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(code: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).expect("a short value");
        [code.to_be_bytes().as_slice(), &length.to_be_bytes(), value].concat()
    }

    #[test]
    fn options_that_nobody_asked_for_are_left_out() {
        let header = [HARDWARE_LENGTH; V4_HEADER];
        let options =
            [[1, 2, 9, 9].as_slice(), &[0, 0], &[82, 1, 5], &[53, 1, 2], &[255], &[1, 2, 3]].concat();
        let kept = v4(&[header.as_slice(), &options].concat()).expect("a message");
        assert_eq!(kept[V4_HEADER..], [1, 2, 9, 9, 53, 1, 2, 255]);

        let address =
            option(ADDRESS, &[[3; 24].as_slice(), &option(STATUS, &[0, 0]), &option(17, b"x")].concat());
        let whole = [[1, 2, 3, 4].as_slice(), &option(SERVER, b"s"), &option(17, b"x"), &option(9, b"relay")];
        let message =
            [whole.concat(), option(ASSOCIATION, &[[2; 12].as_slice(), &address].concat())].concat();
        let kept_address = option(ADDRESS, &[[3; 24].as_slice(), &option(STATUS, &[0, 0])].concat());
        let expected = [
            [1, 2, 3, 4].as_slice(),
            &option(SERVER, b"s"),
            &option(ASSOCIATION, &[[2; 12].as_slice(), &kept_address].concat()),
        ];
        assert_eq!(v6(&message), Some(expected.concat()));
    }

    #[test]
    fn lengths_that_lie_make_no_message() {
        let header = [HARDWARE_LENGTH; V4_HEADER];
        for options in [&[53][..], &[53, 2, 1]] {
            assert_eq!(v4(&[header.as_slice(), options].concat()), None, "{options:?}");
        }
        assert_eq!(v4(&header[1..]), None);
        assert!(v4(&header).is_some());
        assert_eq!(v4(&[255; V4_HEADER]), None, "a hardware address of 255 bytes");
        let head = [7, 0, 0, 1];
        for options in [vec![0], vec![0, 1, 0, 2, 9], option(STATUS, &[0]), option(ASSOCIATION, &[0; 11])] {
            assert_eq!(v6(&[head.as_slice(), &options].concat()), None, "{options:?}");
        }
    }
}
