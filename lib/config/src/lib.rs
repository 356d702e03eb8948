//! User-data -> what the node shall be, with every problem at its place in the file.
//!
//! The same code judges a file on the node, on a laptop (`holdfast check`) and in `image-build`. It does no I/O and
//! never panics, whatever the bytes. The way of a file: [`decode`] (format, gzip, UTF-8) -> `tree` (YAML nodes with
//! their places, limits against hostile input) -> the key tables (`cloud`, `service`) -> [`Desired`].
//! A key is one entry of a table; what no table names is a problem, so nothing is ignored silently.

mod authorized_keys;
mod cloud;
mod decode;
mod depends;
mod desired;
mod meta_data;
mod problem;
mod read;
mod reference;
mod service;
mod tree;
mod variables;
mod words;

pub use decode::MAX_SIZE;
pub use desired::{Desired, Located, Logging, Network, Service};
pub use meta_data::{MetaData, meta_data};
pub use problem::{Mark, Problem, Severity};
pub use reference::reference;

use problem::Report;

/// Judges user-data. `source` is its name in the problems: a file, `kernel command line`, ...
///
/// The result is there exactly when no problem is an error.
pub fn check(source: &str, bytes: &[u8]) -> (Option<Desired>, Vec<Problem>) {
    let report = Report::new(source);
    let desired = decode::decode(bytes, &report).and_then(|text| match text.trim() {
        "" => Some(Desired::default()),
        _ => tree::parse(&text, &report).map(|root| cloud::read(&root, &report)),
    });
    let problems = report.finish();
    let valid = problems.iter().all(|p| p.severity != Severity::Error);
    (desired.filter(|_| valid), problems)
}

#[cfg(test)]
mod tests;
