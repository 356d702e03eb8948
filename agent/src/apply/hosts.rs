//! The node's name: the kernel's, `/etc/hostname` and `/etc/hosts`.

use std::io;
use std::path::Path;

use config::EtcHosts;

use super::{Failures, Wanted};
use crate::file::{self, cannot};

const ETC_HOSTS: &str = "/etc/hosts";

/// Debian's way to give a host without a fixed address its own name.
const OWN_ADDRESS: &str = "127.0.1.1";

/// Gives the node its name, and `/etc/hosts` as a whole.
pub(super) fn set_name(wanted: &Wanted<'_>, failures: &mut Failures) {
    let name = wanted.hostname;
    let kernel = rustix::system::sethostname(name.as_bytes()).map_err(io::Error::from);
    failures.check("hostname", kernel.map_err(cannot("set the host name", Path::new(name))));
    let hostname = format!("{name}\n");
    failures.check("hostname", file::overwrite(Path::new("/etc/hostname"), hostname.as_bytes()));
    let hosts = match wanted.config.machine.etc_hosts {
        EtcHosts::Whole => template(&names(wanted)),
        EtcHosts::Leave | EtcHosts::Line => default(name),
    };
    failures.check("manage_etc_hosts", file::overwrite(Path::new(ETC_HOSTS), hosts.as_bytes()));
}

/// Puts the node's own line into `/etc/hosts`, whatever else has been written there.
pub(super) fn set_line(wanted: &Wanted<'_>, failures: &mut Failures) {
    if wanted.config.machine.etc_hosts != EtcHosts::Line {
        return;
    }
    let path = Path::new(ETC_HOSTS);
    let read = std::fs::read_to_string(path).map_err(cannot("read", path));
    if let Some(text) = failures.check("manage_etc_hosts", read) {
        let text = with_line(&text, &names(wanted));
        failures.check("manage_etc_hosts", file::overwrite(path, text.as_bytes()));
    }
}

/// The names of the node, the full one first.
fn names(wanted: &Wanted<'_>) -> String {
    let local = wanted.meta.local_fqdn.as_deref();
    let short = wanted.config.machine.hostname.short(local).unwrap_or_else(|| wanted.hostname.to_owned());
    match wanted.full_name() {
        Some(full) if full != short => format!("{full} {short}"),
        _ => short,
    }
}

/// What is there when the configuration says nothing.
fn default(name: &str) -> String {
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{OWN_ADDRESS} {name}\n")
}

/// cloud-init's template.
fn template(names: &str) -> String {
    format!(
        "{OWN_ADDRESS} {names}\n127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n\
         ff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
    )
}

fn with_line(text: &str, names: &str) -> String {
    let other = |line: &&str| line.split_whitespace().next() != Some(OWN_ADDRESS);
    let mut lines: Vec<String> = text.lines().filter(other).map(str::to_owned).collect();
    lines.push(format!("{OWN_ADDRESS} {names}"));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_line_is_replaced() {
        let text = "127.0.0.1 localhost\n127.0.1.1 old\n10.0.0.1 db\n";
        let expected = "127.0.0.1 localhost\n10.0.0.1 db\n127.0.1.1 a.example a\n";
        assert_eq!(with_line(text, "a.example a"), expected);
        assert_eq!(with_line(expected, "a.example a"), expected);
        assert_eq!(with_line("", "a"), "127.0.1.1 a\n");
    }
}
