//! User-data as bytes -> parts -> one merged tree in which every value knows where it was written.
//!
//! Formats: `#cloud-config`, `#cloud-config-archive`, MIME, gzip, `#include`. What a node cannot do (scripts, boothooks,
//! part-handlers, templates) is refused with advice, or reported when it is one part of several. Merging follows
//! cloud-init's rules. This crate does no I/O, never panics and never recurses as deep as its input likes; its limits
//! ([`MAX_SIZE`], [`MAX_DEPTH`], [`MAX_NODES`], [`MAX_ALIASES`], [`MAX_PARTS`]) hold for all parts together.

mod apart;
mod format;
mod load;
mod merge;
mod mime;
mod problem;
mod read;
mod tree;
mod watch;
mod yaml;

pub use format::{MAX_SIZE, gunzip};
pub use load::{Include, Load, MAX_PARTS, Role};
pub use merge::below;
pub use problem::{Findings, Mark, Problem, Report, Severity, Source, SourceId};
pub use read::{At, KeySpec, Located, Use, alternatives, nearest};
pub use tree::{Key, Kind, Node, Scalar, Value};
pub use watch::{Asked, Fate, Known, Question};
pub use yaml::{Budget, Duplicates, MAX_ALIASES, MAX_DEPTH, MAX_NODES, Place, parse};

#[cfg(test)]
mod tests;
