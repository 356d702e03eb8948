//! The node's network: kept as a configuration describes it, for as long as the node runs.
//!
//! A thread of its own, because nothing else of the agent may wait for it. It follows the kernel's events and works by
//! comparing: `bind` finds the links that a configuration means, `wanted` works out what the kernel is to have,
//! `difference` what is missing or too much, `apply` does it. DHCP clients are the state machines of `lib/dhcp`, here
//! with sockets (`clients`). What an agent that was killed had got is kept in `/run` (`store`), so that the next one goes
//! on with it.

mod apply;
mod bind;
mod clients;
mod difference;
mod engine;
mod fallback;
mod frame;
mod given;
mod look;
mod report;
mod resolver;
mod settings;
mod store;
#[cfg(test)]
mod tests;
mod tunnels;
mod wake;
mod wanted;

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use engine::{Command, Engine};
use sd_notify::NotifyState;
use sys::console;
use wake::Wake;

use crate::tell;

/// The network of the node, for the other parts of the agent. Clones are the same network.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    shared: Shared,
    /// `None` when there is no thread.
    thread: Option<(Sender<Command>, Wake)>,
}

/// What servers on the network have told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Time servers: addresses, or names by DHCPv6.
    pub(crate) ntp_servers: Vec<String>,
    /// The name that the node is to have.
    pub(crate) host_name: Option<String>,
    /// Name servers, those of the configuration included.
    pub(crate) name_servers: Vec<IpAddr>,
    /// The domain that the node is in.
    pub(crate) domain: Option<String>,
}

/// What the network is at the moment.
#[derive(Clone, Debug, Default)]
struct View {
    /// There is an address that is not link-local.
    online: bool,
    facts: Facts,
}

/// The view that the thread and everybody else share.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<(Mutex<View>, Condvar)>);

impl Shared {
    fn set(&self, view: View) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = view;
        self.0.1.notify_all();
    }
}

/// Starts the thread. Without it the node is one without network, and says so.
pub(crate) fn start(cmdline: &str) -> Network {
    let shared = Shared::default();
    let thread = begin(cmdline, &shared);
    let thread = thread.map_err(|error| {
        console::error(format_args!("cannot start the network: {error}"));
        tell(&[NotifyState::Custom("X_HOLDFAST_NETWORK=failed")]);
    });
    Network { shared, thread: thread.ok() }
}

fn begin(cmdline: &str, shared: &Shared) -> io::Result<(Sender<Command>, Wake)> {
    let at_boot = netconfig::command_line(cmdline).unwrap_or_else(|error| {
        console::error(format_args!("kernel command line: {error}"));
        None
    });
    let (sender, commands) = channel();
    let wake = Wake::new()?;
    let engine = Engine::new(commands, wake.clone(), shared.clone(), at_boot)?;
    thread::Builder::new().name("network".to_owned()).stack_size(512 << 10).spawn(|| engine.run())?;
    Ok((sender, wake))
}

impl Network {
    /// From now on this is wanted. `None` is the fallback: what `ip=` on the kernel command line says, else DHCPv4 and
    /// router advertisements on the first link with carrier. Before the first call everything stays as it is.
    pub(crate) fn apply(&self, wanted: Option<netconfig::State>) {
        self.send(Command::Apply(wanted));
    }

    /// Waits for an address that is not link-local; says whether there is one.
    pub(crate) fn wait_online(&self, limit: Duration) -> bool {
        let (view, changed) = &*self.shared.0;
        let view = view.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(view, limit, |view| !view.online);
        waited.unwrap_or_else(PoisonError::into_inner).0.online
    }

    /// What servers on the network have told so far.
    pub(crate) fn facts(&self) -> Facts {
        self.shared.0.0.lock().unwrap_or_else(PoisonError::into_inner).facts.clone()
    }

    /// Gives `/etc/resolv.conf` this content, or (`None`) what the network says.
    pub(crate) fn set_resolv_conf(&self, text: Option<String>) {
        self.send(Command::ResolvConf(text));
    }

    fn send(&self, command: Command) {
        if let Some((commands, wake)) = &self.thread {
            // The thread lives as long as the agent, so there is somebody to hear it.
            commands.send(command).ok();
            wake.wake();
        }
    }
}
