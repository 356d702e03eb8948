//! Links of every kind, and what nf_tables is asked for.

use std::fs::{self, File};
use std::net::TcpListener;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};

use crate::netlink::{self, Attributes};
use crate::{Checked, Fault, expect_paths};

/// linux/if_link.h.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;

/// A link that others lie on.
const BASE: &str = "probe-base";

fn link(kind: &str, name: &str) -> Attributes {
    Attributes::default()
        .text(IFLA_IFNAME, name)
        .nested(IFLA_LINKINFO, &Attributes::default().text(IFLA_INFO_KIND, kind))
}

fn make(kind: &str) -> Checked {
    Ok(netlink::new_link(&link(kind, &format!("probe-{kind}")))?)
}

/// A link of `kind` on the base link, which is made first.
fn make_on_base(kind: &str, data: Attributes) -> Checked {
    let index = format!("/sys/class/net/{BASE}/ifindex");
    if !fs::exists(&index)? {
        netlink::new_link(&link("bridge", BASE))?;
    }
    let index: u32 = fs::read_to_string(index)?.trim().parse()?;
    let info = Attributes::default().text(IFLA_INFO_KIND, kind).nested(IFLA_INFO_DATA, &data);
    let attributes = Attributes::default()
        .text(IFLA_IFNAME, &format!("probe-{kind}"))
        .bytes(IFLA_LINK, &index.to_ne_bytes())
        .nested(IFLA_LINKINFO, &info);
    Ok(netlink::new_link(&attributes)?)
}

/// Drivers that are built in make links of their own accord, unless they are told not to.
pub(crate) fn none_unasked() -> Checked {
    for name in ["bond0", "dummy0"] {
        if fs::exists(format!("/sys/class/net/{name}"))? {
            return Err(format!("there is a {name}").into());
        }
    }
    Ok(())
}

pub(crate) fn bridge() -> Checked {
    make("bridge")
}

pub(crate) fn veth() -> Checked {
    make("veth")
}

pub(crate) fn dummy() -> Checked {
    make("dummy")
}

pub(crate) fn vlan() -> Checked {
    make_on_base("vlan", Attributes::default().bytes(IFLA_VLAN_ID, &7_u16.to_ne_bytes()))
}

pub(crate) fn bond() -> Checked {
    make("bond")
}

pub(crate) fn macvlan() -> Checked {
    make_on_base("macvlan", Attributes::default())
}

pub(crate) fn wireguard() -> Checked {
    make("wireguard")
}

pub(crate) fn tun() -> Checked {
    expect_paths(&["/dev/net/tun"])?;
    File::options().read(true).write(true).open("/dev/net/tun")?;
    Ok(())
}

pub(crate) fn ipv6() -> Checked {
    TcpListener::bind("[::1]:0")?;
    Ok(())
}

pub(crate) fn vsock() -> Checked {
    expect_paths(&["/dev/vsock", "/sys/bus/virtio/drivers/vmw_vsock_virtio_transport"])?;
    socket(AddressFamily::VSOCK, SocketType::STREAM, None)?;
    Ok(())
}

// Message types, attributes and values of linux/netfilter/nf_tables.h.
const NEWTABLE: u16 = 0;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const TABLE: &str = "probe";

/// A chain `name` of this type at a hook, with a rule of one expression.
fn rule(chain_type: &str, hook: u32, name: &str, expression: &str, data: &Attributes) -> Checked {
    let step = |what: &'static str, result: std::io::Result<()>| -> Checked {
        result.map_err(|error| -> Fault { format!("{what}: {error}").into() })
    };
    step("table", netlink::nf_tables(NEWTABLE, &Attributes::default().text(1, TABLE)))?;
    let at = Attributes::default().bytes(1, &hook.to_be_bytes()).bytes(2, &0_u32.to_be_bytes());
    let chain = Attributes::default().text(1, TABLE).text(3, name).nested(4, &at).text(7, chain_type);
    step("chain", netlink::nf_tables(NEWCHAIN, &chain))?;
    let expression = Attributes::default().text(1, expression).nested(2, data);
    let list = Attributes::default().nested(1, &expression);
    let rule = Attributes::default().text(1, TABLE).text(2, name).nested(4, &list);
    step("rule", netlink::nf_tables(NEWRULE, &rule))
}

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const POSTROUTING: u32 = 4;

pub(crate) fn nat() -> Checked {
    rule("nat", POSTROUTING, "masquerade", "masq", &Attributes::default())
}

pub(crate) fn conntrack() -> Checked {
    // Into register 1: the connection's state.
    let data = Attributes::default().bytes(1, &1_u32.to_be_bytes()).bytes(2, &0_u32.to_be_bytes());
    rule("filter", INPUT, "conntrack", "ct", &data)
}

pub(crate) fn reject() -> Checked {
    // ICMP unreachable, the port.
    let data = Attributes::default().bytes(1, &0_u32.to_be_bytes()).bytes(2, &[3]);
    // Not at the input: this rule applies to all that passes.
    rule("filter", 2, "reject", "reject", &data)
}

pub(crate) fn fib() -> Checked {
    // Into register 1: the kind of the destination's address.
    let data = Attributes::default()
        .bytes(1, &1_u32.to_be_bytes())
        .bytes(2, &3_u32.to_be_bytes())
        .bytes(3, &2_u32.to_be_bytes());
    rule("filter", PREROUTING, "fib", "fib", &data)
}

pub(crate) fn log() -> Checked {
    rule("filter", 2, "log", "log", &Attributes::default().text(2, "probe"))
}

/// A request that is nothing must be refused, or the checks above would say nothing.
pub(crate) fn refuses_nonsense() -> Checked {
    match netlink::new_link(&link("no-such-kind", "probe-none")) {
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Ok(()),
        other => Err(format!("a link of no kind: {other:?}").into()),
    }
}
