//! What a piece of user-data is: by the MIME type it declares, else by how it begins.

use std::borrow::Cow;
use std::io::Read;

/// The most bytes that user-data may have, all its parts together, also after decompression. The largest clouds allow
/// 64 KiB; files of real use stay below 1 MiB.
pub const MAX_SIZE: usize = 16 << 20;

/// What a piece of user-data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    CloudConfig,
    Archive,
    Include,
    Refused(&'static Refused),
    Unknown,
}

/// A format that asks for what a node does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// How it begins, in lower case.
    begin: &'static str,
    /// What it is in a sentence.
    pub(crate) what: &'static str,
    pub(crate) advice: &'static str,
}

const CONTAINER: &str = "there is no shell on a node: put the program into a container under 'services'";

/// The longer of two beginnings comes first.
static REFUSED: [Refused; 6] = [
    Refused { begin: "#!", what: "a script", advice: CONTAINER },
    Refused { begin: "#cloud-boothook", what: "a boothook", advice: CONTAINER },
    Refused { begin: "#upstart-job", what: "an upstart job", advice: CONTAINER },
    Refused {
        begin: "#cloud-config-jsonp",
        what: "a JSON patch",
        advice: "write what it changes as a '#cloud-config' part with 'merge_how'",
    },
    Refused {
        begin: "#part-handler",
        what: "a part-handler",
        advice: "there is no Python on a node: write a '#cloud-config' file",
    },
    Refused {
        begin: "## template:",
        what: "a jinja template",
        advice: "render it first and give the result",
    },
];

fn refused(begin: &str) -> Format {
    REFUSED.iter().find(|refused| refused.begin == begin).map_or(Format::Unknown, Format::Refused)
}

/// By how the text begins, after white space, in lower case.
pub(crate) fn sniff(text: &str) -> Format {
    let text = text.trim_start();
    let head: String = text.chars().take(32).flat_map(char::to_lowercase).collect();
    if head.starts_with("#cloud-config-archive") {
        Format::Archive
    } else if let Some(refused) = REFUSED.iter().find(|refused| head.starts_with(refused.begin)) {
        Format::Refused(refused)
    } else if head.starts_with("#cloud-config") {
        Format::CloudConfig
    } else if head.starts_with("#include") {
        Format::Include
    } else {
        Format::Unknown
    }
}

/// By the declared MIME type; `None` when the type says nothing and the text itself must be looked at.
pub(crate) fn declared(mime_type: &str) -> Option<Format> {
    Some(match mime_type {
        "" | "text/plain" | "text/x-not-multipart" | "text/x-shellscript" => return None,
        _ if is_compressed(mime_type) => return None,
        "text/cloud-config" => Format::CloudConfig,
        "text/cloud-config-archive" => Format::Archive,
        "text/x-include-url" | "text/x-include-once-url" => Format::Include,
        "text/cloud-config-jsonp" => refused("#cloud-config-jsonp"),
        "text/cloud-boothook" => refused("#cloud-boothook"),
        "text/part-handler" => refused("#part-handler"),
        "text/upstart-job" => refused("#upstart-job"),
        "text/jinja2" => refused("## template:"),
        _ if mime_type.starts_with("text/x-shellscript") => refused("#!"),
        _ => Format::Unknown,
    })
}

fn is_compressed(mime_type: &str) -> bool {
    matches!(
        mime_type,
        "application/gzip"
            | "application/gzip-compressed"
            | "application/gzipped"
            | "application/x-compress"
            | "application/x-compressed"
            | "application/x-gunzip"
            | "application/x-gzip"
            | "application/x-gzip-compressed"
    )
}

/// Whether a whole text is a MIME message: the first line is a header, and there is a `MIME-Version` near the start.
pub(crate) fn is_mime(text: &[u8]) -> bool {
    let head = text.get(..4096).unwrap_or(text).to_ascii_lowercase();
    let first = head.trim_ascii_start();
    let has = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    !first.starts_with(b"#") && (has(b"mime-version:") || first.starts_with(b"content-type: multipart/"))
}

/// Unpacks gzip; gives back what is none. `left` is what remains of [`MAX_SIZE`], and is made smaller by what was unpacked.
pub fn gunzip<'a>(bytes: Cow<'a, [u8]>, left: &mut usize) -> Result<Cow<'a, [u8]>, String> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut out = Vec::new();
    // One byte more than allowed tells a file of that size from a larger one.
    let read = flate2::read::MultiGzDecoder::new(&*bytes).take(*left as u64 + 1).read_to_end(&mut out);
    read.map_err(|error| format!("begins like gzip but cannot be unpacked: {error}"))?;
    *left = left.checked_sub(out.len()).ok_or_else(too_large)?;
    Ok(Cow::Owned(out))
}

pub(crate) fn too_large() -> String {
    format!("is larger than {} MiB when it is unpacked", MAX_SIZE >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_tells_the_format() {
        for (text, format) in [
            ("#cloud-config\na: 1", Format::CloudConfig),
            ("\n  #Cloud-Config\n", Format::CloudConfig),
            ("#cloud-config-archive\n", Format::Archive),
            ("#cloud-config-jsonp\n", refused("#cloud-config-jsonp")),
            ("#include https://a\n", Format::Include),
            ("#include-once\n", Format::Include),
            ("#!/bin/sh\n", refused("#!")),
            ("## template: jinja\n#cloud-config", refused("## template:")),
            ("hostname: a", Format::Unknown),
            ("", Format::Unknown),
        ] {
            assert_eq!(sniff(text), format, "{text}");
        }
    }

    #[test]
    fn a_cloud_config_that_holds_a_message_is_not_one() {
        assert!(is_mime(b"Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n"));
        assert!(is_mime(b"Content-Type: multipart/mixed; boundary=b\n\n"));
        assert!(!is_mime(b"#cloud-config\nwrite_files:\n- content: |\n    MIME-Version: 1.0\n"));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&[b'#'; 2000]).unwrap_or_default();
        let bomb = gzip.finish().unwrap_or_default();
        assert!(gunzip(bomb.as_slice().into(), &mut 1999).is_err_and(|error| error.contains("larger")));
        let mut left = 2000;
        assert!(gunzip(bomb.into(), &mut left).is_ok_and(|bytes| bytes.len() == 2000) && left == 0);
    }
}
