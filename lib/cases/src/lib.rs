//! Configuration cases for tests: directories with files as users and platforms write them, and what must come out.
//!
//! They lie outside of this project: `HOLDFAST_CONFIG_CASES` names their directory, `../shared/config-cases` beside
//! the project is the default. Without them tests say so and pass; where `CI` is set they fail.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its directory's name.
    pub name: String,
    /// `expect` of its `expect.json`.
    pub expect: Value,
    directory: PathBuf,
}

impl Case {
    /// One of its files: `user-data`, `vendor-data`, `meta-data` or `network-config`.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.directory.join(name)).ok()
    }

    /// The texts of a list in what is expected; none when there is no such list.
    pub fn texts(&self, key: &str) -> Vec<&str> {
        self.expect[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

/// All cases in the order of their names. Empty when they are not here.
///
/// # Panics
///
/// When they are not here and `CI` is set, or when one cannot be read: a test that calls this fails.
pub fn cases() -> Vec<Case> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/config-cases");
    let directory = std::env::var_os("HOLDFAST_CONFIG_CASES").map_or(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(&directory) else {
        assert!(std::env::var_os("CI").is_none(), "no cases in {}", directory.display());
        eprintln!("SKIPPED: no cases in {}: set HOLDFAST_CONFIG_CASES", directory.display());
        return Vec::new();
    };
    let mut cases: Vec<Case> = entries.flatten().filter_map(|entry| read(&entry.path())).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    if cases.is_empty() {
        panic!("no case in {}", directory.display());
    }
    cases
}

fn read(directory: &Path) -> Option<Case> {
    let name = directory.file_name()?.to_str()?.to_owned();
    let text = std::fs::read(directory.join("expect.json")).ok()?;
    let mut json: Value =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{name}/expect.json: {error}"));
    Some(Case { name, expect: json["expect"].take(), directory: directory.to_owned() })
}

/// Changes bytes here and there: always in the same way, so that a failure comes again.
#[derive(Clone, Debug)]
pub struct Mutations(u64);

impl Default for Mutations {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Mutations {
    /// One to four changes: a byte that means something to YAML, a stretch that is taken out or doubled, an early end.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let (a, b) = (self.below(bytes.len()), self.below(bytes.len()));
            let (from, to) = (a.min(b), a.max(b));
            match self.below(4) {
                0 if !bytes.is_empty() => bytes[from] = b"{}[]:&*-#\"'|\n\t \xff"[self.below(16)],
                1 => drop(bytes.drain(from..to.min(from + 30))),
                2 if from > 14 => bytes.truncate(from),
                _ => bytes.extend_from_within(from..to),
            }
        }
    }

    /// Xorshift: the numbers need not be good, only spread.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_change_something_and_come_again() {
        let mutated = || {
            let (mut mutations, mut bytes) =
                (Mutations::default(), b"#cloud-config\nhostname: a\n".repeat(4));
            (0..50).for_each(|_| mutations.mutate(&mut bytes));
            bytes
        };
        assert_eq!(mutated(), mutated());
        assert_ne!(mutated(), b"#cloud-config\nhostname: a\n".repeat(4));
    }
}
