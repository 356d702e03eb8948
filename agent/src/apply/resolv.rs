//! `resolv_conf`: the name servers that the configuration wants, whatever the network says (resolv.conf(5)).

use config::ResolvConf;

/// `/etc/resolv.conf` as the configuration has it.
pub(super) fn text(conf: &ResolvConf) -> String {
    let mut lines = Vec::new();
    lines.extend(conf.domain.iter().map(|domain| format!("domain {domain}")));
    lines.extend(words("search", &conf.search));
    lines.extend(conf.nameservers.iter().map(|server| format!("nameserver {server}")));
    lines.extend(words("sortlist", &conf.sortlist));
    let option = |(name, value): (&String, &Option<String>)| match value {
        Some(value) => format!("{name}:{value}"),
        None => name.clone(),
    };
    lines.extend(words("options", &conf.options.iter().map(option).collect::<Vec<_>>()));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn words(name: &str, words: &[String]) -> Option<String> {
    (!words.is_empty()).then(|| format!("{name} {}", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_part_has_its_line() {
        let conf = ResolvConf {
            nameservers: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            search: vec!["a.example".to_owned(), "b.example".to_owned()],
            domain: Some("a.example".to_owned()),
            sortlist: vec!["10.0.0.0".to_owned()],
            options: BTreeMap::from([
                ("rotate".to_owned(), None),
                ("timeout".to_owned(), Some("1".to_owned())),
            ]),
        };
        assert_eq!(
            text(&conf),
            "domain a.example\nsearch a.example b.example\nnameserver 10.0.0.1\nnameserver fd00::1\n\
             sortlist 10.0.0.0\noptions rotate timeout:1\n"
        );
        assert_eq!(text(&ResolvConf::default()), "");
    }
}
