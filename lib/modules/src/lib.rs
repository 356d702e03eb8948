//! The index of the kernel modules that an image ships, and the order to load them in.
//!
//! There is no kmod on the node: `image-build` reads what the modules say of themselves and writes `index.json` beside
//! the uncompressed `.ko` files, in the root and (fewer of them) in the initrd. Nothing here loads anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// `index.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Release of the kernel they belong to (`uname -r`).
    pub kernel: String,
    /// The modules by name (`-` written as `_`).
    pub modules: BTreeMap<String, Module>,
    /// Names of the modules that each stage of the boot loads whatever the hardware, in order.
    pub stages: BTreeMap<Stage, Vec<String>>,
}

/// One module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Module {
    /// The file's name beside the index.
    pub file: String,
    /// Names of the modules that must be there first (direct ones and theirs, in load order).
    pub needs: Vec<String>,
    /// Patterns of the `modalias` texts it serves, with `*`, `?` and `[...]` as in fnmatch(3).
    pub aliases: Vec<String>,
}

/// When modules are loaded whatever the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// In the initrd: what opening the root takes.
    Root,
    /// Before the state partition is mounted.
    State,
    /// Before the first container.
    Container,
    /// When the first services run.
    Late,
}

impl Index {
    /// `wanted` and what they need, each once, in load order. Names that the index does not hold are left out.
    pub fn load_order<'a>(&'a self, wanted: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, &'a Module)> {
        let mut seen = BTreeSet::new();
        let mut order = Vec::new();
        for name in wanted {
            let Some((name, module)) = self.modules.get_key_value(name) else { continue };
            for needed in module.needs.iter().chain([name]) {
                if let Some((needed, module)) = self.modules.get_key_value(needed)
                    && seen.insert(needed)
                {
                    order.push((needed.as_str(), module));
                }
            }
        }
        order
    }

    /// Names of the modules that serve a device with this `modalias`.
    pub fn for_modalias<'a>(&'a self, modalias: &'a str) -> impl Iterator<Item = &'a str> {
        let serves = move |m: &&Module| m.aliases.iter().any(|a| matches(a.as_bytes(), modalias.as_bytes()));
        self.modules.iter().filter(move |(_, m)| serves(m)).map(|(name, _)| name.as_str())
    }
}

/// fnmatch(3) without flags, as far as module aliases use it.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            (0..=text.len()).any(|skip| text.get(skip..).is_some_and(|t| matches(rest, t)))
        }
        ([b'?', rest @ ..], [_, t @ ..]) => matches(rest, t),
        ([b'[', rest @ ..], [c, t @ ..]) => {
            let Some(end) = rest.iter().position(|b| *b == b']') else { return false };
            let (set, rest) = rest.split_at(end);
            class_holds(set, *c) && matches(rest.get(1..).unwrap_or_default(), t)
        }
        ([p, rest @ ..], [c, t @ ..]) => p == c && matches(rest, t),
        _ => false,
    }
}

/// Whether a bracket expression such as `0-9a` holds `c`.
fn class_holds(set: &[u8], c: u8) -> bool {
    match set {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&c) || class_holds(rest, c),
        [one, rest @ ..] => *one == c || class_holds(rest, c),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let module = |needs: &[&str], alias: &str| Module {
            file: String::new(),
            needs: needs.iter().map(|s| (*s).to_owned()).collect(),
            aliases: vec![alias.to_owned()],
        };
        Index {
            modules: BTreeMap::from([
                ("net_failover".to_owned(), module(&["failover"], "")),
                ("failover".to_owned(), module(&[], "")),
                ("virtio_net".to_owned(), module(&["failover", "net_failover"], "virtio:d00000001v*")),
            ]),
            ..Index::default()
        }
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let index = index();
        let names: Vec<_> =
            index.load_order(["virtio_net", "net_failover"]).into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio_net"]);
    }

    #[test]
    fn a_device_finds_its_module() {
        let index = index();
        assert_eq!(index.for_modalias("virtio:d00000001v00001AF4").collect::<Vec<_>>(), ["virtio_net"]);
        assert_eq!(index.for_modalias("virtio:d00000002v00001AF4").count(), 0);
    }

    #[test]
    fn patterns_are_fnmatchs() {
        for (pattern, text, expected) in
            [("a*c", "abbc", true), ("a?c", "abc", true), ("[0-9a]x", "ax", true), ("[0-9]x", "ax", false)]
        {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
