//! Extended attributes behind an inode.

use std::collections::BTreeMap;

use crate::Problem;

/// `struct erofs_xattr_ibody_header`: all zero, as there are no shared attributes.
const HEADER: usize = 12;
/// The count of four-byte units behind an inode has 16 bits.
const MAX: usize = HEADER + 4 * (u16::MAX as usize - 1);
/// Names that need no text or only the rest of it, with their numbers.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The number and the rest of a name; `None` when EROFS cannot hold it.
pub(crate) fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|&(prefix, number)| {
        let rest = name.strip_prefix(prefix)?;
        let whole = matches!(number, 2 | 3);
        (whole == rest.is_empty() && rest.len() <= 255).then_some((number, rest))
    })
}

/// The attributes as they lie behind an inode; nothing when there are none.
pub(crate) fn encode(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, Problem> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; HEADER];
    for (name, value) in xattrs {
        let problem = |reason| Problem::Xattr { name: String::from_utf8_lossy(name).into_owned(), reason };
        let (number, rest) = split(name).ok_or_else(|| problem("EROFS has no number for its name"))?;
        let length = u8::try_from(rest.len()).map_err(|_| problem("name is too long"))?;
        let size = u16::try_from(value.len()).map_err(|_| problem("value is larger than 65535 bytes"))?;
        bytes.extend_from_slice(&[length, number]);
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        if bytes.len() > MAX {
            return Err(problem("all attributes together are too large"));
        }
    }
    Ok(bytes)
}

/// `i_xattr_icount` for attributes of this encoded size.
pub(crate) fn count(size: usize) -> u16 {
    if size == 0 { 0 } else { u16::try_from((size - HEADER) / 4 + 1).unwrap_or(u16::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered() {
        assert_eq!(split(b"user.a"), Some((1, &b"a"[..])));
        assert_eq!(split(b"system.posix_acl_access"), Some((2, &b""[..])));
        assert_eq!(split(b"trusted.overlay.opaque"), Some((4, &b"overlay.opaque"[..])));
        for bad in [&b"user."[..], b"system.posix_acl_accessx", b"com.apple.quarantine", b""] {
            assert_eq!(split(bad), None);
        }
    }

    #[test]
    fn sizes_are_multiples_of_four_and_bounded() {
        let one = BTreeMap::from([(b"user.ab".to_vec(), b"c".to_vec())]);
        let bytes = encode(&one).unwrap();
        assert_eq!(bytes[HEADER..], *b"\x02\x01\x01\0abc\0");
        assert_eq!(count(bytes.len()), 3);
        let many = (0..5).map(|n| (format!("user.{n}").into_bytes(), vec![0; 65535])).collect();
        assert!(matches!(encode(&many), Err(Problem::Xattr { .. })));
    }
}
