//! Taking user-data apart: what is packed is unpacked, what has parts is split, until each piece is one format.

use std::borrow::Cow;
use std::sync::Arc;

use crate::format::{self, Format, Refused};
use crate::load::{Config, Include, Item, Load, MAX_PARTS};
use crate::mime::{self, Headers};
use crate::problem::{Mark, Severity};
use crate::tree::{Key, Node, Value};
use crate::yaml::{self, Duplicates, Place};

/// How deep messages, archives and includes may nest.
const MAX_NESTING: u8 = 8;

/// A piece of user-data on its way.
pub(crate) struct Piece<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    /// Where it stands, as long as it is not encoded.
    pub(crate) place: Option<Place>,
    /// The source around it, for problems of the piece itself.
    pub(crate) mark: Mark,
    /// `part 2 'web.yaml'`; empty for the whole.
    pub(crate) label: String,
    pub(crate) headers: Headers,
    pub(crate) nesting: u8,
    /// Whether it may be a MIME message without being declared as one: a whole file.
    pub(crate) whole: bool,
}

impl Load<'_> {
    /// One piece as the items that it is or holds.
    pub(crate) fn take_apart(&mut self, mut piece: Piece<'_>) -> Vec<Item> {
        let mark = piece.mark;
        let packed = piece.bytes.starts_with(&[0x1f, 0x8b]);
        match format::gunzip(std::mem::take(&mut piece.bytes), &mut self.bytes_left) {
            Ok(bytes) => piece.bytes = bytes,
            Err(error) => {
                self.broken(mark, &piece.label, &error);
                return Vec::new();
            }
        }
        if packed && !piece.label.is_empty() {
            piece.place = None;
        }
        if piece.whole && format::is_mime(&piece.bytes) {
            // The text of the whole message is what places in it count in.
            if let Some(place) = piece.place {
                self.report.set_text(place.source, String::from_utf8_lossy(&piece.bytes).into());
            }
            let start = piece.bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
            return self.message(piece, start);
        }
        let declared = format::declared(&piece.headers.mime_type);
        if declared == Some(Format::Unknown) {
            return self.unknown(&piece);
        }
        let Some((text, place)) = self.text(&piece) else { return Vec::new() };
        self.part(piece, declared.unwrap_or_else(|| format::sniff(&text)), text, place)
    }

    /// The text of a piece as a source of its own or as a stretch of the one around it.
    fn text(&mut self, piece: &Piece<'_>) -> Option<(Arc<str>, Place)> {
        if let Some(charset) = piece.headers.charset.as_deref()
            && !["utf-8", "utf8", "us-ascii", "ascii"].contains(&charset.to_lowercase().as_str())
        {
            self.broken(piece.mark, &piece.label, &format!("is text in '{charset}': it must be UTF-8"));
            return None;
        }
        match std::str::from_utf8(&piece.bytes) {
            Ok(text) => {
                let text: Arc<str> = text.strip_prefix('\u{feff}').unwrap_or(text).into();
                let place = match piece.place {
                    Some(place) if piece.whole => {
                        self.report.set_text(place.source, Arc::clone(&text));
                        place
                    }
                    Some(place) => place,
                    None => {
                        let name = format!("{} {}", self.report.name(piece.mark.source), piece.label);
                        Place { source: self.report.source(&name, Arc::clone(&text)), line: 1 }
                    }
                };
                Some((text, place))
            }
            Err(error) => {
                let good = piece.bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = good.iter().filter(|b| **b == b'\n').count();
                let column = good.iter().rposition(|b| *b == b'\n').map_or(good, |at| &good[at + 1..]);
                let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let column = number(String::from_utf8_lossy(column).chars().count()).saturating_add(1);
                let mark = piece.place.map_or(piece.mark, |place| Mark {
                    source: place.source,
                    line: place.line.saturating_add(number(line)),
                    column,
                    width: 1,
                });
                self.broken(mark, &piece.label, "is not UTF-8 text");
                None
            }
        }
    }

    fn unknown(&self, piece: &Piece<'_>) -> Vec<Item> {
        let what = format!("of the type '{}'", piece.headers.mime_type);
        vec![Item::Refused { mark: piece.mark, label: piece.label.clone(), what, advice: None }]
    }

    fn part(&mut self, piece: Piece<'_>, format: Format, text: Arc<str>, place: Place) -> Vec<Item> {
        if self.parts == MAX_PARTS {
            self.broken(piece.mark, "user-data", &format!("has more than {MAX_PARTS} parts"));
            return Vec::new();
        }
        self.parts += 1;
        let skipped = text.len() - text.trim_start().len();
        let lines = text.get(..skipped).unwrap_or_default().matches('\n').count();
        let first = text.trim_start().lines().next().unwrap_or_default().trim_end();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mark = Mark {
            source: place.source,
            line: place.line.saturating_add(number(lines)),
            column: 1,
            width: number(first.chars().count().clamp(1, 60)),
        };
        match format {
            Format::CloudConfig => {
                if !piece.label.is_empty()
                    && matches!(format::sniff(&text), Format::Refused(Refused { what, .. }) if what.contains("jinja"))
                {
                    let message =
                        format!("{} is a jinja template: it is read as it stands, not rendered", piece.label);
                    self.report.add(
                        Severity::Warning,
                        Some(mark),
                        "",
                        message,
                        Some("give the result".to_owned()),
                    );
                }
                let Headers { merge_type, launch_index, .. } = piece.headers;
                vec![Item::Config(Config { text, place, label: piece.label, merge_type, launch_index })]
            }
            Format::Archive => self.archive(&piece, &text, place),
            Format::Include => self.include(&piece, &text, place),
            Format::Refused(refused) => {
                let (what, advice) = (refused.what.to_owned(), Some(refused.advice));
                vec![Item::Refused { mark, label: piece.label, what, advice }]
            }
            Format::Unknown if piece.label.is_empty() && text.trim().is_empty() => {
                vec![Item::Config(Config {
                    text,
                    place,
                    label: piece.label,
                    merge_type: None,
                    launch_index: None,
                })]
            }
            Format::Unknown if piece.label.is_empty() => {
                let (message, hint) = if first.starts_with('{') {
                    (
                        "user-data does not begin with '#cloud-config'",
                        "make that its first line; YAML holds JSON",
                    )
                } else {
                    ("user-data does not begin with '#cloud-config'", "make that its first line")
                };
                self.report.add(self.severity(), Some(mark), "", message.to_owned(), Some(hint.to_owned()));
                Vec::new()
            }
            Format::Unknown => {
                let what = "text that does not begin with '#cloud-config'".to_owned();
                vec![Item::Refused { mark, label: piece.label, what, advice: None }]
            }
        }
    }

    /// A MIME message: one part, or several.
    fn message(&mut self, piece: Piece<'_>, start: usize) -> Vec<Item> {
        let Piece { bytes, place, mark, label, nesting, .. } = piece;
        let message = bytes.get(start..).unwrap_or_default();
        let lines = bytes.get(..start).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
        let line = u32::try_from(lines).unwrap_or(u32::MAX);
        let place = place.map(|place| Place { line: place.line.saturating_add(line), ..place });
        self.entity(message, place, mark, label, nesting)
    }

    /// Headers and body of a message or a part of one.
    fn entity(
        &mut self,
        bytes: &[u8],
        place: Option<Place>,
        mark: Mark,
        label: String,
        nesting: u8,
    ) -> Vec<Item> {
        let (headers, body_start) = match Headers::parse(bytes) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.broken(mark, &label, &error);
                return Vec::new();
            }
        };
        let body = bytes.get(body_start..).unwrap_or_default();
        let place = place.map(|place| after(place, &bytes[..body_start]));
        if headers.is_multipart() {
            return self.multipart(&headers, body, place, mark, label, nesting);
        }
        let label = match &headers.filename {
            Some(filename) if !label.is_empty() => format!("{label} '{}'", plain(filename)),
            _ => label,
        };
        match headers.decode(body) {
            Err(error) => {
                self.broken(mark, &label, &error);
                Vec::new()
            }
            Ok(bytes) => {
                let label = if label.is_empty() { "the message".to_owned() } else { label };
                let place = place.filter(|_| headers.is_identity());
                self.take_apart(Piece { bytes, place, mark, label, headers, nesting, whole: false })
            }
        }
    }

    fn multipart(
        &mut self,
        headers: &Headers,
        body: &[u8],
        place: Option<Place>,
        mark: Mark,
        label: String,
        nesting: u8,
    ) -> Vec<Item> {
        if nesting == MAX_NESTING {
            self.broken(mark, &label, &format!("nests deeper than {MAX_NESTING} messages"));
            return Vec::new();
        }
        let Some(boundary) = headers.boundary.as_deref().filter(|boundary| !boundary.is_empty()) else {
            self.broken(mark, &label, "is a multipart message without a boundary in its Content-Type");
            return Vec::new();
        };
        let parts = mime::split(body, boundary, MAX_PARTS);
        if parts.ranges.is_empty() {
            self.broken(
                mark,
                &label,
                &format!("has no part: its boundary '{}' does not occur", plain(boundary)),
            );
        } else if parts.too_many {
            self.broken(mark, &label, &format!("has more than {MAX_PARTS} parts"));
            return Vec::new();
        } else if !parts.closed {
            let label = if label.is_empty() { "user-data" } else { &label };
            let message = format!("{label} does not end with its boundary: it may be cut off");
            self.report.add(Severity::Warning, Some(mark), "", message, None);
        }
        let mut items = Vec::new();
        for (index, range) in parts.ranges.into_iter().enumerate() {
            let place = place.map(|place| after(place, &body[..range.start]));
            let mark = place.map_or(mark, |place| Mark {
                source: place.source,
                line: place.line,
                column: 1,
                width: 1,
            });
            let label = part_label(&label, index);
            items.extend(self.entity(&body[range], place, mark, label, nesting + 1));
        }
        items
    }

    /// A list of parts in YAML: each a text, or a map with `content` and the headers.
    fn archive(&mut self, piece: &Piece<'_>, text: &str, place: Place) -> Vec<Item> {
        if piece.nesting == MAX_NESTING {
            self.broken(piece.mark, &piece.label, &format!("nests deeper than {MAX_NESTING} archives"));
            return Vec::new();
        }
        let parsed = yaml::parse(text, place, Duplicates::Refuse, &mut self.budget, self.report);
        let Some(node) = parsed else { return Vec::new() };
        let Value::List(entries) = &node.value else {
            self.broken(node.mark, &piece.label, "is an archive and must be a list of parts");
            return Vec::new();
        };
        let mut items = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let mut label = part_label(&piece.label, index);
            let content = match &entry.value {
                Value::Map(_) => entry.get("content"),
                _ => Some(entry),
            };
            let field = |names: &[&str]| {
                let Value::Map(fields) = &entry.value else { return None };
                let is_named = |key: &Key| names.iter().any(|name| key.text.eq_ignore_ascii_case(name));
                fields
                    .iter()
                    .find(|(key, _)| is_named(key))
                    .and_then(|(_, node)| node.text())
                    .map(str::to_owned)
            };
            if let Some(filename) = field(&["filename"]) {
                label = format!("{label} '{}'", plain(&filename));
            }
            let Some(content) = content.and_then(Node::text) else {
                self.broken(entry.mark, &label, "of the archive has no text: give it as 'content'");
                continue;
            };
            let mut mime_type = field(&["type"]).unwrap_or_default().to_lowercase();
            if mime_type.is_empty() && format::sniff(content) == Format::Unknown {
                mime_type = "text/cloud-config".to_owned();
            }
            let headers = Headers {
                mime_type,
                merge_type: field(&["merge-type", "x-merge-type"]),
                launch_index: field(&["launch-index"]).and_then(|index| index.parse().ok()),
                ..Headers::default()
            };
            items.extend(self.take_apart(Piece {
                bytes: Cow::Borrowed(content.as_bytes()),
                place: None,
                mark: entry.mark,
                label,
                headers,
                nesting: piece.nesting + 1,
                whole: false,
            }));
        }
        items
    }

    /// One address a line; `#include-once` and `#include` before an address say how often it is fetched from there on.
    fn include(&mut self, piece: &Piece<'_>, text: &str, place: Place) -> Vec<Item> {
        if piece.nesting == MAX_NESTING {
            self.broken(piece.mark, &piece.label, &format!("nests deeper than {MAX_NESTING} includes"));
            return Vec::new();
        }
        let mut items = Vec::new();
        let mut once = false;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let lower = line.get(..13).unwrap_or(line).to_lowercase();
            let rest = if lower.starts_with("#include-once") {
                once = true;
                line.get(13..)
            } else if lower.starts_with("#include") {
                once = false;
                line.get(8..)
            } else {
                Some(line)
            };
            let url = rest.unwrap_or_default().trim();
            if url.is_empty() || url.starts_with('#') {
                continue;
            }
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let mark = Mark {
                source: place.source,
                line: place.line.saturating_add(number(index)),
                column: 1,
                width: number(line.chars().count()),
            };
            if !["http://", "https://"].iter().any(|scheme| url.to_lowercase().starts_with(scheme)) {
                let message = "an address to include must begin with http:// or https://".to_owned();
                self.report.add(self.severity(), Some(mark), "", message, None);
            } else if self.parts == MAX_PARTS {
                self.broken(mark, "user-data", &format!("has more than {MAX_PARTS} parts"));
                break;
            } else {
                self.parts += 1;
                let (nesting, label) = (piece.nesting, piece.label.clone());
                items.push(Item::Include(Include { url: url.to_owned(), once, mark, nesting, label }));
            }
        }
        items
    }
}

/// Where what follows `before` stands.
fn after(place: Place, before: &[u8]) -> Place {
    let lines = before.iter().filter(|b| **b == b'\n').count();
    Place { line: place.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX)), ..place }
}

fn part_label(parent: &str, index: usize) -> String {
    if parent.is_empty() { format!("part {}", index + 1) } else { format!("{parent}, part {}", index + 1) }
}

/// A name from outside, fit for a line of the console.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect()
}
