//! Names of our kernel images on the ESP, and the boot counter in them.
//!
//! `holdfast_<version>[+<left>[-<done>]].efi`: systemd-boot counts `left` down and `done` up at each try and prefers
//! an image without a counter, or with tries left, to one with none (systemd's "Automatic Boot Assessment").

use std::fmt;
use std::str::FromStr;

/// What each of our kernel images begins with.
const PREFIX: &str = "holdfast_";
/// What each kernel image ends with.
const SUFFIX: &str = ".efi";

/// The name of a kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UkiName {
    version: String,
    counter: Option<Counter>,
}

/// How often it may still be tried, and was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Tries that are left.
    pub left: u32,
    /// Tries that were made without being blessed.
    pub done: u32,
}

impl UkiName {
    /// A name for `version` (of `A-Z a-z 0-9 . _ ~ ^ -`), with `counter` when it is to be tried first.
    pub fn new(version: &str, counter: Option<Counter>) -> Result<Self, InvalidUkiName> {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '^' | '-');
        if version.is_empty() || !version.chars().all(word) {
            return Err(InvalidUkiName { name: format!("{PREFIX}{version}{SUFFIX}") });
        }
        Ok(Self { version: version.to_owned(), counter })
    }

    /// The version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The counter, if it has one.
    pub fn counter(&self) -> Option<Counter> {
        self.counter
    }

    /// Its name when it has proven itself: without a counter.
    #[must_use]
    pub fn blessed(&self) -> Self {
        Self { counter: None, ..self.clone() }
    }

    /// Its name when it is not to be tried again: no tries left.
    #[must_use]
    pub fn given_up(&self) -> Self {
        let done = self.counter.map_or(0, |counter| counter.done);
        Self { counter: Some(Counter { left: 0, done: done.max(1) }), ..self.clone() }
    }
}

impl fmt::Display for UkiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.version)?;
        match self.counter {
            None => {}
            Some(Counter { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Counter { left, done }) => write!(f, "+{left}-{done}")?,
        }
        f.write_str(SUFFIX)
    }
}

impl FromStr for UkiName {
    type Err = InvalidUkiName;

    fn from_str(name: &str) -> Result<Self, InvalidUkiName> {
        let invalid = || InvalidUkiName { name: name.to_owned() };
        let stem = name.strip_prefix(PREFIX).and_then(|n| n.strip_suffix(SUFFIX)).ok_or_else(invalid)?;
        let (version, counter) = match stem.split_once('+') {
            None => (stem, None),
            Some((version, counter)) => {
                let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
                let counter = number(left).zip(number(done)).map(|(left, done)| Counter { left, done });
                (version, Some(counter.ok_or_else(invalid)?))
            }
        };
        Self::new(version, counter).map_err(|_| invalid())
    }
}

/// A decimal number of digits only: `u32::from_str` takes a sign as well.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A file name that is not one of our kernel images'.
#[derive(Debug, thiserror::Error)]
#[error("'{name}' is not a kernel image's name: holdfast_<version>[+<left>[-<done>]].efi")]
pub struct InvalidUkiName {
    /// The name as it was given.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_systemd_boots() {
        for (name, version, counter) in [
            ("holdfast_0.1.0.efi", "0.1.0", None),
            ("holdfast_0.1.0+3.efi", "0.1.0", Some(Counter { left: 3, done: 0 })),
            ("holdfast_0.2.0-rc1+2-1.efi", "0.2.0-rc1", Some(Counter { left: 2, done: 1 })),
            ("holdfast_1+0-3.efi", "1", Some(Counter { left: 0, done: 3 })),
        ] {
            let parsed: UkiName = name.parse().unwrap();
            assert_eq!((parsed.version(), parsed.counter()), (version, counter), "{name}");
            assert_eq!(parsed.to_string(), name);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "holdfast_.efi",
            "holdfast_1",
            "linux_1.efi",
            "holdfast_1+.efi",
            "holdfast_1+x.efi",
            "holdfast_1++1.efi",
            "holdfast_1+1-.efi",
            "holdfast_1+1-+1.efi",
            "holdfast_../1.efi",
            "holdfast_1+99999999999.efi",
        ] {
            assert!(name.parse::<UkiName>().is_err(), "{name}");
        }
    }

    #[test]
    fn blessing_and_giving_up_rename() {
        let name: UkiName = "holdfast_2+2-1.efi".parse().unwrap();
        assert_eq!(name.blessed().to_string(), "holdfast_2.efi");
        assert_eq!(name.given_up().to_string(), "holdfast_2+0-1.efi");
        assert_eq!(name.blessed().given_up().to_string(), "holdfast_2+0-1.efi");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,40}") {
            if let Ok(name) = format!("holdfast_{text}.efi").parse::<UkiName>() {
                prop_assert_eq!(name.to_string().parse::<UkiName>().unwrap(), name);
            }
        }
    }
}
