//! Watching a reader: what it asks of each value says what the value may be. Descriptions of the format are made from
//! this (the JSON schema, the reference), so they cannot say anything else than the code that reads.

use std::ops::RangeInclusive;

/// What a reader asked of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It reads a map that has these keys and no others.
    Keys(Vec<Known>),
    /// It wants text, or judges the text itself.
    Text,
    /// It wants one of these words.
    Words(Vec<String>),
    /// It wants true or false.
    Truth,
    /// It wants a whole number of this range.
    Int(RangeInclusive<i64>),
    /// It wants a duration.
    Duration,
    /// It wants something else than what is there: a list and not text, for instance.
    Other,
}

/// A key that a map may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The key.
    pub name: String,
    /// What it means, or why it is refused.
    pub doc: &'static str,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is read.
    Read,
    /// It is reported as not applicable.
    NotApplicable,
    /// It is reported as not supported.
    Unsupported,
    /// A file that has it is refused.
    Refused,
    /// It has no effect.
    Quiet,
}

/// One question of a reader, and the key path of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The path: `services.web.image`.
    pub path: String,
    /// What was asked.
    pub asked: Asked,
}
