//! Fragments of a kernel configuration, and whether Kconfig did as they ask.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail};

/// What is asked for, by option; the last line wins.
pub(super) type Requests = BTreeMap<String, String>;

/// A request that Kconfig did not fulfil: something that the option depends on is missing, or it is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    option: String,
    wanted: String,
    got: String,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} became {}", self.option, self.wanted, self.got)
    }
}

/// Reads fragments: lines of `CONFIG_NAME=value`, comments and blanks.
pub(super) fn parse(text: &str) -> Result<Requests> {
    let mut requests = Requests::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=') {
            Some((option, value)) if option.starts_with("CONFIG_") => {
                requests.insert(option.to_owned(), value.to_owned());
            }
            _ => bail!("a kernel fragment has the line '{line}', which is no CONFIG_NAME=value"),
        }
    }
    Ok(requests)
}

/// The requests that the finished configuration does not hold.
pub(super) fn dropped(requests: &Requests, config: &str) -> Vec<Dropped> {
    let set: BTreeMap<&str, &str> = config
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    let got = |option: &str| set.get(option).copied().unwrap_or("n");
    let lost = requests.iter().filter(|(option, wanted)| got(option) != *wanted);
    lost.map(|(option, wanted)| Dropped {
        option: option.clone(),
        wanted: wanted.clone(),
        got: got(option).to_owned(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kconfig_dropped_is_named() {
        let requests =
            parse("# why\nCONFIG_A=y\nCONFIG_B=n\n\nCONFIG_C=\"x y\"\nCONFIG_D=y\nCONFIG_D=m\n").unwrap();
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x y\"\nCONFIG_D=m\n";
        assert_eq!(dropped(&requests, config), []);
        let config = "CONFIG_B=y\nCONFIG_C=\"x y\"\nCONFIG_D=m\n";
        let said: Vec<_> = dropped(&requests, config).iter().map(ToString::to_string).collect();
        assert_eq!(said, ["CONFIG_A=y became n", "CONFIG_B=n became y"]);
    }

    #[test]
    fn a_line_that_asks_for_nothing_is_refused() {
        assert!(parse("CONFIG_A y\n").is_err());
        assert!(parse("A=y\n").is_err());
    }
}
