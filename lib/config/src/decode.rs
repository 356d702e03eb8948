//! From bytes to the text of one `#cloud-config`: gzip, UTF-8 and the header.

use std::borrow::Cow;
use std::io::Read;

use crate::problem::{Mark, Report, Severity};

/// The most bytes that user-data may have, also after decompression. The largest clouds allow 64 KiB; files of real
/// use stay below 1 MiB.
pub const MAX_SIZE: usize = 16 << 20;

/// The formats that user-data may have elsewhere, by how they begin, and what to do instead.
const REFUSED: [(&str, &str, &str); 9] = [
    ("#!", "a script", "there is no shell on a node: put the program into a container under 'services'"),
    (
        "#cloud-config-archive",
        "a cloud-config archive",
        "put its parts together into one '#cloud-config' file",
    ),
    ("#cloud-config-jsonp", "a JSON patch", "write the resulting configuration as one '#cloud-config' file"),
    ("#cloud-boothook", "a boothook", "there is no shell on a node: put the program into a container"),
    ("#part-handler", "a part handler", "there is no Python on a node; write a '#cloud-config' file"),
    ("#include", "a list of addresses to include", "give the content itself as one '#cloud-config' file"),
    ("#upstart-job", "an upstart job", "describe the program as a container under 'services'"),
    ("## template:", "a jinja template", "render it first and give the result"),
    ("{", "JSON without a header", "begin the file with a line '#cloud-config'; YAML holds JSON"),
];

/// The text behind the header, or `None` and a problem. Empty user-data is empty text and a warning.
pub(crate) fn decode<'a>(bytes: &'a [u8], report: &Report) -> Option<Cow<'a, str>> {
    let bytes = gunzip(bytes, report)?;
    if bytes.len() > MAX_SIZE {
        report.error(None, "", format!("user-data is larger than {} MiB", MAX_SIZE >> 20));
        return None;
    }
    let text = match bytes {
        Cow::Borrowed(bytes) => utf8(bytes, report).map(Cow::Borrowed),
        Cow::Owned(bytes) => utf8(&bytes, report).map(|text| Cow::Owned(text.to_owned())),
    }?;
    header(&text, report).then_some(text)
}

fn gunzip<'a>(bytes: &'a [u8], report: &Report) -> Option<Cow<'a, [u8]>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut out = Vec::new();
    // One byte more than allowed tells a file of that size from a larger one.
    let limit = MAX_SIZE as u64 + 1;
    match flate2::read::MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut out) {
        Ok(_) => Some(Cow::Owned(out)),
        Err(error) => {
            report.error(None, "", format!("user-data begins like gzip but cannot be unpacked: {error}"));
            None
        }
    }
}

pub(crate) fn utf8<'a>(bytes: &'a [u8], report: &Report) -> Option<&'a str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + good.iter().filter(|b| **b == b'\n').count();
            let line_start = good.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let column = 1 + String::from_utf8_lossy(&good[line_start..]).chars().count();
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let mark = Mark { line: number(line), column: number(column), width: 1 };
            report.error(Some(mark), "", "not UTF-8 text");
            None
        }
    }
}

/// Whether the first line says `#cloud-config`; a problem when not.
fn header(text: &str, report: &Report) -> bool {
    let start = text.trim_start();
    let first = start.lines().next().unwrap_or_default().trim_end().to_lowercase();
    if first.is_empty() {
        let hint = Some("begin it with a line '#cloud-config'".to_owned());
        report.add(Severity::Warning, None, "", "user-data is empty: nothing to run".to_owned(), hint);
        return true;
    }
    if first.split_whitespace().next() == Some("#cloud-config") {
        return true;
    }
    let line = 1 + text.chars().take(text.len() - start.len()).filter(|c| *c == '\n').count();
    let width = u32::try_from(first.chars().count().min(60)).unwrap_or(0);
    let mark = Mark { line: u32::try_from(line).unwrap_or(1), column: 1, width };
    let head = start.get(..4096).unwrap_or(start).to_lowercase();
    let (message, hint) = if head.contains("mime-version:") || first.starts_with("content-type:") {
        ("user-data is a MIME message, which is not supported".to_owned(), "give one '#cloud-config' file")
    } else if let Some((_, what, advice)) = REFUSED.iter().find(|(begin, ..)| first.starts_with(begin)) {
        (format!("user-data is {what}, which is not supported"), *advice)
    } else {
        ("user-data does not begin with '#cloud-config'".to_owned(), "make that its first line")
    };
    report.add(Severity::Error, Some(mark), "", message, Some(hint.to_owned()));
    false
}
