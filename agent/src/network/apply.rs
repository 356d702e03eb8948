//! Changes, done.

use std::fs;
use std::io;

use netlink::Kernel;

use super::difference::Change;
use super::settings::{Setting, Takes};

/// Does one change.
pub(super) fn apply(kernel: &mut Kernel, change: &Change) -> io::Result<()> {
    match change {
        Change::RemoveRule(rule) => kernel.remove_rule(rule),
        Change::RemoveRoute(route) => kernel.remove_route(route),
        Change::RemoveAddress(address) => kernel.remove_address(address),
        Change::Delete(link) => kernel.delete(*link),
        Change::Release(link) => {
            kernel.switch(*link, false)?;
            kernel.set_alias(*link, "")
        }
        Change::Create(link) => kernel.create(link),
        Change::Switch(link, on) => kernel.switch(*link, *on),
        Change::Rename(link, name) => kernel.rename(*link, name),
        Change::Mark(link) => kernel.set_alias(*link, super::wanted::MARK),
        Change::Set(_, setting) => set(setting),
        Change::HardwareAddress(link, address) => kernel.set_hardware_address(*link, address),
        Change::Mtu(link, mtu) => kernel.set_mtu(*link, *mtu),
        Change::Master(link, master) => kernel.set_master(*link, *master),
        Change::SetAddress(address) => kernel.set_address(address),
        Change::AddRoute(route) => kernel.add_route(route),
        Change::AddRule(rule) => kernel.add_rule(rule),
    }
}

fn set(setting: &Setting) -> io::Result<()> {
    for text in setting.missing()? {
        fs::write(&setting.path, text)?;
    }
    if setting.takes == Takes::NewIpv6 {
        let switch = setting.path.with_file_name("disable_ipv6");
        fs::write(&switch, "1")?;
        fs::write(&switch, "0")?;
    }
    Ok(())
}
