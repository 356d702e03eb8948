//! `ip=` on the kernel command line, in the form of the kernel (`Documentation/admin-guide/nfs/nfsroot.rst`), with
//! dracut's short form `ip=INTERFACE:dhcp` and its words for IPv6.

use std::net::{IpAddr, Ipv4Addr};

use crate::address::{mac_of, prefix_length};
use crate::state::{Dhcp, Link, Method, Select, State, Subnet};

/// What the kernel command line says of the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandLine {
    /// The interfaces. The one whose name is empty is the first that has carrier.
    pub state: State,
    /// The host's name.
    pub host_name: Option<String>,
    /// Time servers.
    pub ntp_servers: Vec<IpAddr>,
}

/// Why `ip=` is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLineError {
    word: String,
    what: &'static str,
}

impl std::fmt::Display for CommandLineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}': {}", self.word, self.what)
    }
}

impl std::error::Error for CommandLineError {}

/// Reads every `ip=` of a kernel command line; `None` when there is none.
pub fn command_line(cmdline: &str) -> Result<Option<CommandLine>, CommandLineError> {
    let mut read = None;
    for word in cmdline.split_ascii_whitespace() {
        let Some(value) = word.strip_prefix("ip=") else { continue };
        let line = read.get_or_insert_with(CommandLine::default);
        line.add(value).map_err(|what| CommandLineError { word: word.to_owned(), what })?;
    }
    Ok(read)
}

impl CommandLine {
    fn add(&mut self, value: &str) -> Result<(), &'static str> {
        let fields = fields(value);
        let field = |at: usize| fields.get(at).map_or("", String::as_str);
        if fields.len() == 1 {
            if matches!(value, "off" | "none") {
                self.state.disabled = true;
                return Ok(());
            }
            let method = method(value).ok_or("neither a word nor an address that is known")?;
            self.put(Link { subnets: vec![Subnet { method, ..Subnet::default() }], ..Link::default() });
            return Ok(());
        }
        // INTERFACE:WORD[:MTU[:MAC]]
        if let Some(method) = method(field(1)).filter(|_| field(0).parse::<IpAddr>().is_err()) {
            let mtu = number(field(2))?;
            // It has colons itself.
            let mac = fields.get(3..).map(|parts| parts.join(":")).filter(|text| !text.is_empty());
            let mac = mac.map(|text| mac_of(&text).ok_or("not a hardware address")).transpose()?;
            let mut link = named(field(0));
            (link.mtu, link.mac) = (mtu, mac);
            link.subnets.push(Subnet { method, ..Subnet::default() });
            self.put(link);
            return Ok(());
        }
        self.long(&field)
    }

    /// CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP0
    fn long<'a>(&mut self, field: &impl Fn(usize) -> &'a str) -> Result<(), &'static str> {
        let mut link = named(field(5));
        let mut subnet = Subnet::default();
        let client = address(field(0))?;
        match client {
            Some(own) => {
                let prefix = match field(3) {
                    "" => classful(own).ok_or("an IPv6 address needs a prefix length")?,
                    mask => prefix_length(mask, own).ok_or("not a netmask")?,
                };
                subnet.method = Method::Static { six: false };
                subnet.address = Some((own, prefix));
                subnet.gateway = address(field(2))?;
            }
            None => match field(6) {
                "off" | "none" => return Err("neither an address nor a way to get one"),
                "" => subnet.method = Method::Dhcp(Dhcp::Four),
                word => subnet.method = method(word).ok_or("a way to get an address that is not known")?,
            },
        }
        for server in [field(7), field(8)] {
            subnet.dns.servers.extend(address(server)?);
        }
        self.ntp_servers.extend(address(field(9))?);
        let name = Some(field(4)).filter(|name| !name.is_empty());
        self.host_name = self.host_name.take().or(name.map(str::to_owned));
        link.subnets.push(subnet);
        self.put(link);
        Ok(())
    }

    fn put(&mut self, link: Link) {
        match self.state.links.iter_mut().find(|other| other.id == link.id) {
            Some(other) => other.subnets.extend(link.subnets),
            None => self.state.links.push(link),
        }
    }
}

fn named(name: &str) -> Link {
    Link { id: name.to_owned(), name: name.to_owned(), select: Select::default(), ..Link::default() }
}

/// The fields between colons; those of an address in brackets do not count.
fn fields(value: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut inside = false;
    for c in value.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            ':' if !inside => fields.push(String::new()),
            c => {
                if let Some(last) = fields.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    fields
}

fn method(word: &str) -> Option<Method> {
    Some(match word {
        "dhcp" | "on" | "any" => Method::Dhcp(Dhcp::Four),
        "dhcp6" => Method::Dhcp(Dhcp::Six),
        "auto6" => Method::Slaac,
        _ => return None,
    })
}

fn address(text: &str) -> Result<Option<IpAddr>, &'static str> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| "not an IP address") }
}

fn number(text: &str) -> Result<Option<u32>, &'static str> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| "not a number") }
}

/// The prefix length that the kernel takes when there is no netmask: that of the address's class.
fn classful(address: IpAddr) -> Option<u8> {
    let IpAddr::V4(address) = address else { return None };
    Some(match address {
        address if address < Ipv4Addr::new(128, 0, 0, 0) => 8,
        address if address < Ipv4Addr::new(192, 0, 0, 0) => 16,
        _ => 24,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cmdline: &str) -> CommandLine {
        command_line(cmdline).unwrap().unwrap()
    }

    fn methods(cmdline: &str) -> Vec<(String, Method)> {
        let links = read(cmdline).state.links;
        links.into_iter().map(|link| (link.name, link.subnets[0].method)).collect()
    }

    #[test]
    fn ways_to_get_an_address() {
        let four = Method::Dhcp(Dhcp::Four);
        for (cmdline, name, method) in [
            ("quiet ip=dhcp", "", four),
            ("ip=on", "", four),
            ("ip=eth1:dhcp", "eth1", four),
            ("ip=eth1:dhcp6", "eth1", Method::Dhcp(Dhcp::Six)),
            ("ip=auto6", "", Method::Slaac),
            ("ip=:::::eth2:dhcp", "eth2", four),
            ("ip=:::::eth2", "eth2", four),
        ] {
            assert_eq!(methods(cmdline), [(name.to_owned(), method)], "{cmdline}");
        }
        assert_eq!(methods("ip=eth0:dhcp ip=eth1:dhcp").len(), 2);
        assert!(read("ip=off").state.disabled);
        assert_eq!(command_line("console=ttyS0"), Ok(None));
    }

    #[test]
    fn a_whole_line() {
        let line = read(
            "ip=192.0.2.5:192.0.2.9:192.0.2.1:255.255.255.0:harbour:eth0:off:192.0.2.2:192.0.2.3:192.0.2.4",
        );
        let link = &line.state.links[0];
        let subnet = &link.subnets[0];
        assert_eq!((link.name.as_str(), line.host_name.as_deref()), ("eth0", Some("harbour")));
        assert_eq!(subnet.address, Some(("192.0.2.5".parse().unwrap(), 24)));
        assert_eq!(subnet.gateway, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(subnet.dns.servers.len(), 2);
        assert_eq!(line.ntp_servers, ["192.0.2.4".parse::<IpAddr>().unwrap()]);
        let six = read("ip=[2001:db8::5]::[2001:db8::1]:64::eth0:none");
        assert_eq!(six.state.links[0].subnets[0].address, Some(("2001:db8::5".parse().unwrap(), 64)));
        assert_eq!(read("ip=10.1.2.3:::").state.links[0].subnets[0].address.unwrap().1, 8, "class A");
        let short = &read("ip=eth0:dhcp:1400:52:54:00:00:00:01").state.links[0];
        assert_eq!((short.mtu, short.mac.as_ref().map(|mac| mac.0.len())), (Some(1400), Some(6)));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (cmdline, what) in [
            ("ip=sometimes", "neither a word nor an address that is known"),
            ("ip=10.0.0.1", "neither a word nor an address that is known"),
            ("ip=10.0.0.1:::255.0.255.0", "not a netmask"),
            ("ip=10.0.0:::24", "not an IP address"),
            ("ip=:::::eth0:off", "neither an address nor a way to get one"),
            ("ip=:::::eth0:rarp", "a way to get an address that is not known"),
            ("ip=[2001:db8::1]:::", "an IPv6 address needs a prefix length"),
            ("ip=eth0:dhcp:many", "not a number"),
        ] {
            let error = command_line(cmdline).unwrap_err();
            assert_eq!(error.to_string(), format!("'{cmdline}': {what}"));
        }
    }
}
