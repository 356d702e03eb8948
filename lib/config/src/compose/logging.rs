//! `logging`: where the output of a service goes.

use userdata::{At, KeySpec as Key, Located, Use};

use super::forms::raw;
use super::service::Service;
use super::values::parse_size;
use crate::machine::take;

/// What `logging` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logging {
    /// `driver`
    pub driver: Option<Located<String>>,
    /// `options.max-size`, in bytes.
    pub max_size: Option<u64>,
    /// `options.max-file`
    pub max_files: Option<u32>,
}

/// Fewer would be a file for each line.
const MIN_SIZE: u64 = 4 << 10;
/// The largest file: what a state partition may have to spare.
const MAX_SIZE: u64 = 1 << 40;

const OPTIONS: [Key<Logging>; 2] = [
    take("max-size", max_size, "Size of one file: `10m`. Default `10m`, at least `4k`."),
    take(
        "max-file",
        |at, logging| logging.max_files = whole(at, 1..=1000).and_then(|n| u32::try_from(n).ok()),
        "How many files there are, the one that is written to included. Default 3.",
    ),
];

/// Options of Docker's drivers that are about how the files look or are handed on.
const WITHOUT_EFFECT: [&str; 8] =
    ["compress", "env", "env-regex", "labels", "labels-regex", "max-buffer-size", "mode", "tag"];

pub(super) fn logging(at: &At<'_>, service: &mut Service) {
    let table = [
        take(
            "driver",
            |at, logging: &mut Logging| logging.driver = at.located_text(),
            "`file`, `json-file` or `local` (all the same), `console` or `none`.",
        ),
        take(
            "options",
            options,
            "`max-size` (default `10m`) and `max-file` (default 3): size and number of the files.",
        ),
    ];
    at.section("'logging'", &table, &mut service.logging);
    raw(at, service);
}

fn options(at: &At<'_>, logging: &mut Logging) {
    let quiet = WITHOUT_EFFECT.map(|name| Key { name, use_: Use::Quiet, doc: "" });
    let mut table = Vec::from(OPTIONS);
    table.extend(quiet);
    at.section("'logging.options'", &table, logging);
    for name in WITHOUT_EFFECT {
        if let Some(option) = at.get(name).filter(|option| !option.asks_for_nothing()) {
            option.warn("has no effect: the files have their own form, and are not compressed");
        }
    }
}

fn max_size(at: &At<'_>, logging: &mut Logging) {
    let Some(text) = at.text() else { return };
    match parse_size(text) {
        Some(size) if (MIN_SIZE..=MAX_SIZE).contains(&size) => logging.max_size = Some(size),
        Some(_) => at.error("must be 4k or more"),
        None => at.error_with_hint("not a size", "as in 10m"),
    }
}

/// A whole number, which Docker's options have as a text.
fn whole(at: &At<'_>, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let number = at.text()?.trim().parse().ok().filter(|number| range.contains(number));
    if number.is_none() {
        at.error(format!("must be a whole number from {} to {}", range.start(), range.end()));
    }
    number
}
