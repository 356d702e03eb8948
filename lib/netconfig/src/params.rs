//! Settings of bonds and bridges: one table for the spellings of both versions.

use userdata::{At, nearest};

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name as version 1 spells it: `bond-mode`, `bridge_stp`.
    pub name: &'static str,
    /// Its value.
    pub value: ParamValue,
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamValue {
    /// A number; times are in the unit that version 1 has for it.
    Number(i64),
    /// One of the setting's words.
    Word(&'static str),
    /// The name of an interface.
    Name(String),
    /// Yes or no.
    Flag(bool),
    /// Addresses.
    Texts(Vec<String>),
    /// A number for each of some interfaces.
    Ports(Vec<(String, i64)>),
}

/// What a setting takes.
enum Takes {
    Number,
    /// A word, or its place in the list as a number.
    Word(&'static [&'static str]),
    Name,
    Flag,
    Texts,
    Ports,
}

/// A setting: its names in version 1 and version 2.
pub(crate) struct Spec {
    one: &'static str,
    two: &'static [&'static str],
    takes: Takes,
}

pub(crate) const BOND: &[Spec] = &[
    Spec {
        one: "bond-mode",
        two: &["mode"],
        takes: Takes::Word(&[
            "balance-rr",
            "active-backup",
            "balance-xor",
            "broadcast",
            "802.3ad",
            "balance-tlb",
            "balance-alb",
        ]),
    },
    Spec {
        one: "bond-ad-select",
        two: &["ad-select"],
        takes: Takes::Word(&["stable", "bandwidth", "count"]),
    },
    Spec {
        one: "bond-all-slaves-active",
        two: &["all-slaves-active", "all-members-active"],
        takes: Takes::Flag,
    },
    Spec { one: "bond-arp-all-targets", two: &["arp-all-targets"], takes: Takes::Word(&["any", "all"]) },
    Spec { one: "bond-arp-interval", two: &["arp-interval"], takes: Takes::Number },
    Spec { one: "bond-arp-ip-target", two: &["arp-ip-targets", "arp-ip-target"], takes: Takes::Texts },
    Spec {
        one: "bond-arp-validate",
        two: &["arp-validate"],
        takes: Takes::Word(&["none", "active", "backup", "all"]),
    },
    Spec { one: "bond-downdelay", two: &["down-delay"], takes: Takes::Number },
    Spec {
        one: "bond-fail-over-mac",
        two: &["fail-over-mac-policy"],
        takes: Takes::Word(&["none", "active", "follow"]),
    },
    Spec { one: "bond-lacp-rate", two: &["lacp-rate"], takes: Takes::Word(&["slow", "fast"]) },
    Spec { one: "bond-learn-packet-interval", two: &["learn-packet-interval"], takes: Takes::Number },
    Spec { one: "bond-miimon", two: &["mii-monitor-interval"], takes: Takes::Number },
    Spec { one: "bond-min-links", two: &["min-links"], takes: Takes::Number },
    Spec { one: "bond-num-grat-arp", two: &["gratuitous-arp", "gratuitious-arp"], takes: Takes::Number },
    Spec {
        one: "bond-packets-per-slave",
        two: &["packets-per-slave", "packets-per-member"],
        takes: Takes::Number,
    },
    Spec { one: "bond-primary", two: &["primary"], takes: Takes::Name },
    Spec {
        one: "bond-primary-reselect",
        two: &["primary-reselect-policy"],
        takes: Takes::Word(&["always", "better", "failure"]),
    },
    Spec { one: "bond-updelay", two: &["up-delay"], takes: Takes::Number },
    Spec {
        one: "bond-xmit-hash-policy",
        two: &["transmit-hash-policy"],
        takes: Takes::Word(&["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"]),
    },
];

pub(crate) const BRIDGE: &[Spec] = &[
    Spec { one: "bridge_ageing", two: &["ageing-time", "aging-time"], takes: Takes::Number },
    Spec { one: "bridge_bridgeprio", two: &["priority"], takes: Takes::Number },
    Spec { one: "bridge_fd", two: &["forward-delay"], takes: Takes::Number },
    Spec { one: "bridge_gcint", two: &[], takes: Takes::Number },
    Spec { one: "bridge_hello", two: &["hello-time"], takes: Takes::Number },
    Spec { one: "bridge_maxage", two: &["max-age"], takes: Takes::Number },
    Spec { one: "bridge_maxwait", two: &[], takes: Takes::Number },
    Spec { one: "bridge_pathcost", two: &["path-cost"], takes: Takes::Ports },
    Spec { one: "bridge_portprio", two: &["port-priority"], takes: Takes::Ports },
    Spec { one: "bridge_stp", two: &["stp"], takes: Takes::Flag },
    Spec { one: "bridge_waitport", two: &[], takes: Takes::Number },
];

/// Settings that are known and not done: the kernel has none of them any more, or they are of other systems' tools.
const NOT_DONE: [&str; 3] = ["bridge_gcint", "bridge_maxwait", "bridge_waitport"];

/// Reads settings; `version` says which spelling counts.
pub(crate) fn read(at: &At<'_>, specs: &'static [Spec], version: u8) -> Vec<Param> {
    let mut params = Vec::new();
    if version == 2 {
        at.knows(specs.iter().flat_map(|spec| spec.two.iter().copied()));
    }
    for (name, _, value) in at.map().into_iter().flatten() {
        let underscored = |text: &str| text.replace('-', "_");
        let is = |spec: &&Spec| match version {
            1 => underscored(spec.one) == underscored(name),
            _ => spec.two.contains(&name),
        };
        let Some(spec) = specs.iter().find(is) else {
            let names =
                specs.iter().flat_map(|spec| if version == 1 { &[] } else { spec.two }.iter().copied());
            let ones = specs.iter().filter(|_| version == 1).map(|spec| spec.one);
            let near = nearest(name, names.chain(ones));
            let hint = near.map_or_else(String::new, |near| format!("did you mean '{near}'?"));
            value.error_with_hint(format!("'{name}' is not a setting of this interface"), &hint);
            continue;
        };
        if value.is_null() {
            continue;
        }
        if NOT_DONE.contains(&spec.one) {
            value.warn("is not supported by this version and is left out");
        }
        if let Some(value) = spec.takes.read(&value) {
            params.push(Param { name: spec.one, value });
        }
    }
    params
}

impl Takes {
    fn read(&self, at: &At<'_>) -> Option<ParamValue> {
        Some(match self {
            Self::Number => ParamValue::Number(at.int(0..=i64::from(u32::MAX))?),
            Self::Name => ParamValue::Name(at.text()?.to_owned()),
            Self::Flag => ParamValue::Flag(match at.text()? {
                "1" => true,
                "0" => false,
                _ => at.truth()?,
            }),
            Self::Texts => {
                let texts = at.list_or_one().into_iter().map(|item| item.text().map(str::to_owned));
                ParamValue::Texts(texts.collect::<Option<_>>()?)
            }
            Self::Word(words) => {
                let text = at.text()?;
                let by_number = text.parse::<usize>().ok().and_then(|place| words.get(place));
                let Some(word) = words.iter().find(|word| **word == text).or(by_number) else {
                    let known: Vec<(&str, ())> = words.iter().map(|word| (*word, ())).collect();
                    at.word(&known);
                    return None;
                };
                ParamValue::Word(word)
            }
            Self::Ports => ParamValue::Ports(ports(at)?),
        })
    }
}

/// `{eth0: 75}`, or a list of `eth0 75`.
fn ports(at: &At<'_>) -> Option<Vec<(String, i64)>> {
    let mut ports = Vec::new();
    if at.is_map() {
        for (name, _, value) in at.map()? {
            ports.push((name.to_owned(), value.int(0..=i64::from(u32::MAX))?));
        }
    } else {
        for item in at.list_or_one() {
            let words: Vec<&str> = item.text()?.split_whitespace().collect();
            let [name, number] = words.as_slice() else {
                item.error_with_hint("must name an interface and a number", "as in 'eth0 75'");
                return None;
            };
            let Ok(number) = number.parse::<u32>() else {
                item.error(format!("'{number}' is not a number"));
                return None;
            };
            ports.push(((*name).to_owned(), i64::from(number)));
        }
    }
    Some(ports)
}
