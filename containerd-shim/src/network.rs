//! The container's network: a cable into each of its bridges, or the network of another service.
//!
//! It is made here and not by the agent, because at every boot but the first one containers start before the agent does.
//! Nothing has to be cleared up: the links end with the container's network, and the bridges stay for the others.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use modules::Index;
use netlink::{Cable, Gateway, Kernel, NextHop, Route, RouteKind, TABLE_MAIN, hardware_address, local};
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use plan::{Bridge, ContainerNetwork, Interface, ServiceName, paths};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The drivers of bridges and cables.
const DRIVERS: [&str; 2] = ["bridge", "veth"];

/// Settings of a container's own network: it may ping, and any user of it may listen at any port, as with other engines.
/// Nobody else is in there.
const SETTINGS: [(&str, &str); 2] =
    [("net/ipv4/ping_group_range", "0 2147483647"), ("net/ipv4/ip_unprivileged_port_start", "0")];

/// Why a container has no network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("cannot write {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("the service '{service}', whose network it shares, does not run")]
    NotRunning { service: ServiceName },
    #[error("cannot {what}")]
    Step { what: &'static str, source: io::Error },
    #[error("cannot {what} {name}")]
    Link { what: &'static str, name: String, source: io::Error },
}

/// Puts what `config.json` mounts or joins below the shim's own `directory`. Gives the first process of the container whose
/// network is shared: when it ends, that network leads nowhere.
pub(crate) fn prepare(directory: &Path, network: &ContainerNetwork) -> Result<Option<OwnedFd>, NetworkError> {
    let files = directory.join("files");
    fs::create_dir_all(&files).map_err(|source| NetworkError::File { path: files.clone(), source })?;
    for (name, text) in [("hosts", &network.hosts), ("resolv.conf", &network.resolv_conf)] {
        let path = files.join(name);
        fs::write(&path, text).map_err(|source| NetworkError::File { path, source })?;
    }
    let Some(shared) = &network.of else { return Ok(None) };
    let (process, handle) = first_process(&shared.service)
        .ok_or_else(|| NetworkError::NotRunning { service: shared.service.clone() })?;
    let path = directory.join("netns");
    symlink(format!("/proc/{process}/ns/net"), &path)
        .map_err(|source| NetworkError::File { path, source })?;
    Ok(Some(handle))
}

/// Joins the network of another container, if `spec` names one, so that the container is made in it: with a user namespace of
/// its own it may not join another one's network any more.
pub(crate) fn enter_shared(spec: &mut Spec) -> io::Result<()> {
    let Some(namespaces) = spec.linux_mut().as_mut().and_then(|linux| linux.namespaces_mut().as_mut()) else {
        return Ok(());
    };
    let shared = |ns: &LinuxNamespace| ns.typ() == LinuxNamespaceType::Network && ns.path().is_some();
    let Some(place) = namespaces.iter().position(shared) else { return Ok(()) };
    if let Some(path) = namespaces.remove(place).path() {
        setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
    }
    Ok(())
}

/// The first process of another service's container.
fn first_process(service: &ServiceName) -> Option<(i32, OwnedFd)> {
    let group = Path::new("/sys/fs/cgroup").join(paths::SERVICES_SLICE).join(service.as_str());
    let processes = || -> Vec<i32> {
        let list = fs::read_to_string(group.join("container/cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let all = processes();
    let process = *all.iter().find(|process| is_first(**process)).or(all.first())?;
    let handle = pidfd_open(Pid::from_raw(process)?, PidfdFlags::empty()).ok()?;
    // Still there, so the handle is that of the process and not of one that came after it.
    processes().contains(&process).then_some((process, handle))
}

/// Whether a process is the first one in its own process namespace (proc_pid_status(5), `NSpid`).
fn is_first(process: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let mut ids = status.lines().filter_map(|line| line.strip_prefix("NSpid:"));
    ids.next().is_some_and(|ids| ids.split_whitespace().last() == Some("1"))
}

/// Gives the network of the process `pid` its loopback and its links. This process stays in that network: it has nothing
/// more to do in another one.
pub(crate) fn connect(pid: i32, interfaces: &[Interface]) -> Result<(), NetworkError> {
    let step = |what| move |source: io::Error| NetworkError::Step { what, source };
    let mut kernel = Kernel::route().map_err(step("talk to the kernel about links"))?;
    for (number, interface) in interfaces.iter().enumerate() {
        plug_in(&mut kernel, pid, number, interface).map_err(|source| NetworkError::Link {
            what: "make the link to",
            name: interface.bridge.name.clone(),
            source,
        })?;
    }
    File::open(format!("/proc/{pid}/ns/net"))
        .and_then(|namespace| Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?))
        .map_err(step("join the container's network"))?;
    sys::net::loopback_up().map_err(step("bring up the container's loopback device"))?;
    if interfaces.is_empty() {
        return Ok(());
    }
    for (file, value) in SETTINGS {
        write_setting(file, value).map_err(step("set up the container's network"))?;
    }
    let mut kernel = Kernel::route().map_err(step("talk to the kernel about links"))?;
    for interface in interfaces {
        set_up(&mut kernel, interface).map_err(|source| NetworkError::Link {
            what: "set up the container's link",
            name: interface.name.clone(),
            source,
        })?;
    }
    Ok(())
}

/// On the node's side.
fn plug_in(kernel: &mut Kernel, pid: i32, number: usize, interface: &Interface) -> io::Result<()> {
    let bridge = match bridge(kernel, &interface.bridge) {
        Err(error) if is_unknown(&error) => {
            load_drivers()?;
            bridge(kernel, &interface.bridge)?
        }
        result => result?,
    };
    // Process ids are unique, and so is this name, which is only for people to read.
    let outer = format!("v{pid}.{number}");
    let cable = Cable {
        bridge,
        outer: &outer,
        inner: &interface.name,
        hardware: hardware_address(interface.address),
        process: u32::try_from(pid).map_err(|_| ErrorKind::InvalidInput)?,
    };
    match kernel.connect(&cable) {
        Err(error) if is_unknown(&error) => {
            load_drivers()?;
            kernel.connect(&cable)
        }
        result => result,
    }
}

fn bridge(kernel: &mut Kernel, bridge: &Bridge) -> io::Result<u32> {
    let gateway = Gateway {
        bridge: &bridge.name,
        address: bridge.gateway,
        prefix: bridge.prefix,
        alias: plan::BRIDGE_ALIAS,
    };
    kernel.keep_bridge(&gateway, || without_ipv6(&bridge.name))
}

/// On the container's side.
fn set_up(kernel: &mut Kernel, interface: &Interface) -> io::Result<()> {
    let link = kernel.link(&interface.name)?.ok_or(ErrorKind::NotFound)?.index;
    without_ipv6(&interface.name)?;
    kernel.set_address(&local(link, interface.address, interface.bridge.prefix))?;
    kernel.switch(link, true)?;
    if interface.default_route {
        kernel.add_route(&Route {
            network: std::net::Ipv4Addr::UNSPECIFIED.into(),
            prefix: 0,
            table: TABLE_MAIN,
            metric: 0,
            next: NextHop {
                link: Some(link),
                gateway: Some(interface.bridge.gateway.into()),
                on_link: false,
            },
            source: None,
            mtu: None,
            kind: RouteKind::Unicast,
        })?;
    }
    Ok(())
}

/// Container networks have IPv4. Without this, a container could advertise itself as the node's router.
fn without_ipv6(link: &str) -> io::Result<()> {
    write_setting(&format!("net/ipv6/conf/{link}/disable_ipv6"), "1")
}

/// Makes a setting. What this kernel does not have is no error.
fn write_setting(file: &str, value: &str) -> io::Result<()> {
    match fs::write(Path::new("/proc/sys").join(file), value) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// `EOPNOTSUPP`: the kernel knows no such kind of link.
fn is_unknown(error: &io::Error) -> bool {
    error.raw_os_error() == Some(95)
}

/// Loads the drivers of bridges and cables: at a boot's first container, and only when there is one that has links. A
/// module that another shim is loading at this moment is waited for by the kernel.
fn load_drivers() -> io::Result<()> {
    let directory = Path::new(paths::MODULES);
    let index: Index = plan::read_json(&directory.join("index.json")).map_err(io::Error::other)?;
    for (name, module) in index.load_order(DRIVERS) {
        if fs::read(Path::new("/sys/module").join(name).join("initstate"))
            .is_ok_and(|state| state == b"live\n")
        {
            continue;
        }
        sys::module::insert(&File::open(directory.join(&module.file))?, module.file.ends_with(".xz"), c"")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_a_service_that_does_not_run_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let shared = plan::Shared { service: ServiceName::new("nowhere").unwrap(), digest: String::new() };
        let network = ContainerNetwork {
            interfaces: Vec::new(),
            of: Some(shared),
            hosts: "127.0.0.1 localhost\n".to_owned(),
            resolv_conf: String::new(),
        };
        let error = prepare(directory.path(), &network).unwrap_err();
        assert!(error.to_string().contains("'nowhere'"), "{error}");
        assert_eq!(fs::read_to_string(directory.path().join("files/hosts")).unwrap(), network.hosts);
    }
}
