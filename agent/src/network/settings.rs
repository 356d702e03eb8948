//! What the kernel takes as text in a file: settings of bonds and bridges, and what a link does with IPv6.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use netconfig::{Kind, Link, Param, ParamValue, State};

/// A file of the kernel and what it is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) path: PathBuf,
    pub(super) value: Value,
    /// What has to be done with the link for it to take effect.
    pub(super) takes: Takes,
}

/// What a file is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// This.
    Text(String),
    /// Each of these, which are added with `+` and taken away with `-`.
    List(Vec<String>),
}

/// What a change takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing.
    Nothing,
    /// The link has to be off.
    Off,
    /// The link's IPv6 begins anew: a link asks for routers only then.
    NewIpv6,
}

/// Settings of bonds that the kernel refuses while the bond is on (`BOND_OPTFLAG_IFDOWN`).
const WHILE_OFF: [&str; 2] = ["lacp_rate", "ad_select"];

/// The settings of an entry's link, whose name is `name`, in the order in which they are to be made.
pub(super) fn of(entry: &Link, state: &State, name: &str) -> Vec<Setting> {
    let mut settings = ipv6(entry, name);
    match &entry.kind {
        Kind::Bond { params, .. } => settings.extend(bond(params, state, name)),
        Kind::Bridge { params, .. } => settings.extend(bridge(params, name)),
        _ => {}
    }
    if let Some(master) = &entry.master
        && let Some(Link { kind: Kind::Bridge { params, .. }, .. }) =
            state.links.iter().find(|link| link.id == *master)
    {
        settings.extend(bridge_port(params, &entry.id, name));
    }
    settings
}

/// The number of a bond's mode.
pub(super) fn bond_mode(params: &[Param]) -> u8 {
    const MODES: [&str; 7] =
        ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];
    let mode = params.iter().find(|param| param.name == "bond-mode").and_then(|param| match param.value {
        ParamValue::Word(word) => MODES.iter().position(|mode| *mode == word),
        _ => None,
    });
    mode.and_then(|mode| u8::try_from(mode).ok()).unwrap_or(0)
}

fn ipv6(entry: &Link, name: &str) -> Vec<Setting> {
    let path = |file: &str| Path::new("/proc/sys/net/ipv6/conf").join(name).join(file);
    let text = |file: &str, value: &str, takes| Setting {
        path: path(file),
        value: Value::Text(value.to_owned()),
        takes,
    };
    // What is part of a bond or bridge is no end of its own.
    if entry.master.is_some() {
        return vec![text("disable_ipv6", "1", Takes::Nothing)];
    }
    // 2: also on a node that forwards packets for its containers (Documentation/networking/ip-sysctl.rst).
    let accept = if entry.accept_ra == Some(false) { "0" } else { "2" };
    vec![text("accept_ra", accept, Takes::NewIpv6), text("disable_ipv6", "0", Takes::Nothing)]
}

fn bond(params: &[Param], state: &State, name: &str) -> Vec<Setting> {
    let directory = Path::new("/sys/class/net").join(name).join("bonding");
    let mut settings = Vec::new();
    for Param { name, value } in params {
        let file = match *name {
            // Given when the bond is made.
            "bond-mode" => continue,
            "bond-learn-packet-interval" => "lp_interval".to_owned(),
            other => other.trim_start_matches("bond-").replace('-', "_"),
        };
        let value = match value {
            // By its id; the kernel wants the link's name.
            ParamValue::Name(id) => {
                let link = state.links.iter().find(|link| link.id == *id);
                Value::Text(link.map_or(id, |link| &link.name).clone())
            }
            ParamValue::Texts(texts) => Value::List(texts.clone()),
            other => Value::Text(text(other, 1)),
        };
        let takes = if WHILE_OFF.contains(&file.as_str()) { Takes::Off } else { Takes::Nothing };
        settings.push(Setting { path: directory.join(file), value, takes });
    }
    // Delays are multiples of the interval, so the interval comes first.
    settings.sort_by_key(|setting| !setting.path.ends_with("miimon"));
    settings
}

/// The kernel counts in hundredths of a second (`USER_HZ`), the file in seconds.
const TICKS: i64 = 100;

fn bridge(params: &[Param], name: &str) -> Vec<Setting> {
    let directory = Path::new("/sys/class/net").join(name).join("bridge");
    let settings = params.iter().filter_map(|Param { name, value }| {
        let (file, unit) = match *name {
            "bridge_ageing" => ("ageing_time", TICKS),
            "bridge_bridgeprio" => ("priority", 1),
            "bridge_fd" => ("forward_delay", TICKS),
            "bridge_hello" => ("hello_time", TICKS),
            "bridge_maxage" => ("max_age", TICKS),
            "bridge_stp" => ("stp_state", 1),
            // Of each port, or of the tools of other systems.
            _ => return None,
        };
        Some(Setting {
            path: directory.join(file),
            value: Value::Text(text(value, unit)),
            takes: Takes::Nothing,
        })
    });
    settings.collect()
}

fn bridge_port(params: &[Param], id: &str, name: &str) -> Vec<Setting> {
    let directory = Path::new("/sys/class/net").join(name).join("brport");
    let mut settings = Vec::new();
    for Param { name, value } in params {
        let file = match *name {
            "bridge_pathcost" => "path_cost",
            "bridge_portprio" => "priority",
            _ => continue,
        };
        let ParamValue::Ports(ports) = value else { continue };
        for (_, number) in ports.iter().filter(|(port, _)| port == id) {
            settings.push(Setting {
                path: directory.join(file),
                value: Value::Text(number.to_string()),
                takes: Takes::Nothing,
            });
        }
    }
    settings
}

fn text(value: &ParamValue, unit: i64) -> String {
    match value {
        ParamValue::Number(number) => number.saturating_mul(unit).to_string(),
        ParamValue::Word(word) => (*word).to_owned(),
        ParamValue::Flag(flag) => u8::from(*flag).to_string(),
        ParamValue::Name(name) => name.clone(),
        ParamValue::Texts(_) | ParamValue::Ports(_) => String::new(),
    }
}

impl Setting {
    /// The writes that are missing: none when the file says what it is to say.
    pub(super) fn missing(&self) -> io::Result<Vec<String>> {
        let actual = fs::read_to_string(&self.path)?;
        // `802.3ad 4`: the word, and the number that it stands for.
        let words: Vec<&str> = actual.split_whitespace().collect();
        Ok(match &self.value {
            Value::Text(text) if words.first() == Some(&text.as_str()) => Vec::new(),
            Value::Text(text) => vec![text.clone()],
            Value::List(list) => {
                let extra = words.iter().filter(|word| !list.iter().any(|text| text == *word));
                let missing = list.iter().filter(|text| !words.contains(&text.as_str()));
                extra.map(|word| format!("-{word}")).chain(missing.map(|text| format!("+{text}"))).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(path: &Path, value: Value) -> Setting {
        Setting { path: path.to_owned(), value, takes: Takes::Nothing }
    }

    #[test]
    fn only_what_differs_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mode");
        fs::write(&path, "802.3ad 4\n").unwrap();
        let text = |text: &str| setting(&path, Value::Text(text.to_owned())).missing().unwrap();
        assert!(text("802.3ad").is_empty());
        assert_eq!(text("active-backup"), ["active-backup"]);
        fs::write(&path, "10.0.0.1 10.0.0.2\n").unwrap();
        let list = Value::List(["10.0.0.2", "10.0.0.3"].map(str::to_owned).to_vec());
        assert_eq!(setting(&path, list).missing().unwrap(), ["-10.0.0.1", "+10.0.0.3"]);
        assert!(setting(Path::new("/nowhere"), Value::List(Vec::new())).missing().is_err());
    }

    #[test]
    fn names_and_units_are_the_kernels() {
        let param = |name, value| Param { name, value };
        let bond = bond(
            &[
                param("bond-mode", ParamValue::Word("802.3ad")),
                param("bond-updelay", ParamValue::Number(200)),
                param("bond-lacp-rate", ParamValue::Word("fast")),
                param("bond-learn-packet-interval", ParamValue::Number(2)),
                param("bond-miimon", ParamValue::Number(100)),
            ],
            &State::default(),
            "bond0",
        );
        let lines: Vec<String> =
            bond.iter().map(|s| format!("{} {:?} {:?}", s.path.display(), s.value, s.takes)).collect();
        assert_eq!(
            lines,
            [
                "/sys/class/net/bond0/bonding/miimon Text(\"100\") Nothing",
                "/sys/class/net/bond0/bonding/updelay Text(\"200\") Nothing",
                "/sys/class/net/bond0/bonding/lacp_rate Text(\"fast\") Off",
                "/sys/class/net/bond0/bonding/lp_interval Text(\"2\") Nothing",
            ]
        );
        let params = [
            param("bridge_fd", ParamValue::Number(4)),
            param("bridge_stp", ParamValue::Flag(false)),
            param("bridge_pathcost", ParamValue::Ports(vec![("a".to_owned(), 75)])),
        ];
        let values = |settings: Vec<Setting>| settings.into_iter().map(|s| s.value).collect::<Vec<_>>();
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(values(bridge(&params, "br0")), [text("400"), text("0")]);
        assert_eq!(values(bridge_port(&params, "a", "eth0")), [text("75")]);
        assert!(bridge_port(&params, "b", "eth1").is_empty());
    }

    #[test]
    fn the_modes_number_is_the_kernels() {
        let mode = |word| bond_mode(&[Param { name: "bond-mode", value: ParamValue::Word(word) }]);
        assert_eq!((mode("balance-rr"), mode("active-backup"), mode("802.3ad")), (0, 1, 4));
        assert_eq!(bond_mode(&[]), 0);
    }
}
