//! MIME messages: headers, transfer encodings and the parts of a multipart, as ranges of the message.
//!
//! `mailparse` reads headers and encodings. The parts are split here: it would recurse, build every part of a hostile
//! message at once, and give no part and no error when the boundary does not occur.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailparse::MailHeaderMap as _;
use mailparse::body::Body;

/// The most bytes that the headers of a message or a part may have.
const MAX_HEADERS: usize = 64 << 10;

/// What the headers of a message or a part say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    /// In lower case; empty when there is none.
    pub(crate) mime_type: String,
    pub(crate) boundary: Option<String>,
    pub(crate) charset: Option<String>,
    pub(crate) filename: Option<String>,
    pub(crate) transfer_encoding: String,
    /// `Merge-Type` or `X-Merge-Type`.
    pub(crate) merge_type: Option<String>,
    pub(crate) launch_index: Option<i64>,
}

impl Headers {
    /// The headers at the start of `bytes`, and where the body begins.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, usize), String> {
        let head = bytes.get(..MAX_HEADERS).unwrap_or(bytes);
        let body = body_start(head);
        let Some(body) = body.or((head.len() == bytes.len()).then_some(bytes.len())) else {
            return Err(format!("has no empty line behind its headers within {} KiB", MAX_HEADERS >> 10));
        };
        let (headers, _) = mailparse::parse_headers(&bytes[..body])
            .map_err(|error| format!("has headers that cannot be read: {error}"))?;
        let value = |name: &str| headers.get_first_value(name).filter(|value| !value.trim().is_empty());
        let content_type = value("Content-Type").map(|value| mailparse::parse_content_type(&value));
        let disposition =
            value("Content-Disposition").map(|value| mailparse::parse_content_disposition(&value));
        let mut parameters = content_type.as_ref().map(|ctype| ctype.params.clone()).unwrap_or_default();
        let named = parameters.remove("name");
        Ok((
            Self {
                boundary: parameters.remove("boundary"),
                charset: parameters.remove("charset"),
                filename: disposition.and_then(|mut d| d.params.remove("filename")).or(named),
                mime_type: content_type.map(|ctype| ctype.mimetype).unwrap_or_default(),
                transfer_encoding: value("Content-Transfer-Encoding")
                    .unwrap_or_default()
                    .trim()
                    .to_lowercase(),
                merge_type: value("Merge-Type").or_else(|| value("X-Merge-Type")),
                launch_index: value("Launch-Index").and_then(|value| value.trim().parse().ok()),
            },
            body,
        ))
    }

    pub(crate) fn is_multipart(&self) -> bool {
        self.mime_type.starts_with("multipart/")
    }

    /// Whether the body stands in the message as it is.
    pub(crate) fn is_identity(&self) -> bool {
        matches!(self.transfer_encoding.as_str(), "" | "7bit" | "8bit" | "binary")
    }

    /// The body without its transfer encoding.
    pub(crate) fn decode<'a>(&self, body: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        match self.transfer_encoding.as_str() {
            "base64" => {
                let text: Vec<u8> = body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
                STANDARD.decode(text).map(Cow::Owned).map_err(|error| format!("is not valid base64: {error}"))
            }
            "quoted-printable" => {
                let encoding = Some(self.transfer_encoding.clone());
                let content_type = mailparse::ParsedContentType::default();
                match Body::new(body, &content_type, &encoding) {
                    Body::QuotedPrintable(encoded) => encoded.get_decoded().map(Cow::Owned),
                    _ => Ok(Cow::Borrowed(body)),
                }
                .map_err(|error| format!("is not valid quoted-printable: {error}"))
            }
            _ if self.is_identity() => Ok(Cow::Borrowed(body)),
            other => Err(format!("has the transfer encoding '{other}', which is not known")),
        }
    }
}

/// Behind the first empty line; a message without headers begins with it.
fn body_start(head: &[u8]) -> Option<usize> {
    let mut start = 0;
    for line in head.split_inclusive(|b| *b == b'\n') {
        let end = start + line.len();
        if matches!(line, b"\n" | b"\r\n") {
            return Some(end);
        }
        start = end;
    }
    None
}

/// The parts of a multipart body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Headers and body of each part.
    pub(crate) ranges: Vec<Range<usize>>,
    /// Whether the last boundary has its closing dashes.
    pub(crate) closed: bool,
    /// Whether there were more than `limit`.
    pub(crate) too_many: bool,
}

/// Splits the body of a multipart at the lines that are its boundary.
pub(crate) fn split(body: &[u8], boundary: &str, limit: usize) -> Parts {
    let mut parts = Parts::default();
    let mut begin: Option<usize> = None;
    let mut at = 0;
    for line in body.split_inclusive(|b| *b == b'\n') {
        let next = at + line.len();
        let rest = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary.as_bytes()));
        let close = match rest.map(<[u8]>::trim_ascii_end) {
            Some(b"") => false,
            Some(b"--") => true,
            _ => {
                at = next;
                continue;
            }
        };
        if let Some(begin) = begin {
            if parts.ranges.len() == limit {
                parts.too_many = true;
                return parts;
            }
            parts.ranges.push(begin..without_line_break(body, begin, at));
        }
        if close {
            parts.closed = true;
            return parts;
        }
        begin = Some(next);
        at = next;
    }
    if let Some(begin) = begin.filter(|begin| *begin < body.len()) {
        parts.ranges.push(begin..body.len());
    }
    parts
}

/// The line break before a boundary belongs to the boundary (RFC 2046, section 5.1.1).
fn without_line_break(body: &[u8], begin: usize, end: usize) -> usize {
    let part = &body[begin..end];
    let part = part.strip_suffix(b"\n").unwrap_or(part);
    begin + part.strip_suffix(b"\r").unwrap_or(part).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str, boundary: &str) -> (Vec<String>, bool) {
        let parts = split(body.as_bytes(), boundary, 100);
        (parts.ranges.into_iter().map(|range| body[range].to_owned()).collect(), parts.closed)
    }

    #[test]
    fn a_body_is_split_at_its_boundary() {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(texts("x\n--b\none\n\n--b \r\ntwo\r\n--b--\nrest", "b"), (own(&["one\n", "two"]), true));
        assert_eq!(texts("--b\none\n--bc\n", "b"), (own(&["one\n--bc\n"]), false));
        assert_eq!(texts("no boundary\n", "b"), (vec![], false));
        assert_eq!(texts("--b--", "b"), (vec![], true));
        assert!(split(b"--b\n--b\n--b\n--b\n", "b", 2).too_many);
    }

    #[test]
    fn headers_are_read_whatever_their_case() {
        let text = b"content-type: Text/Cloud-Config; charset=\"utf-8\"\nX-Merge-Type: list(append)\n\
            Content-Disposition: attachment; filename=\"a.yaml\"\nLaunch-Index: 1\n\nbody";
        let (headers, body) = Headers::parse(text).unwrap_or_default();
        assert_eq!(headers.mime_type, "text/cloud-config");
        assert_eq!(headers.merge_type.as_deref(), Some("list(append)"));
        assert_eq!(headers.filename.as_deref(), Some("a.yaml"));
        assert_eq!(headers.launch_index, Some(1));
        assert_eq!(&text[body..], b"body");
        assert!(Headers::parse(&b"a: b\n".repeat(20_000)).is_err());
    }
}
