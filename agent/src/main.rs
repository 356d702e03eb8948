//! holdfastd: turns the configuration that the machine is given into what PID 1 runs, and keeps the network up.
//!
//! It may be killed at any moment and is then started again: whatever it finds done is left as it is, and nothing it
//! writes is ever half there. It starts no containers and waits for none; PID 1 does both, also without the agent.
//!
//! * find the user-data (`source`), judge it (`config`), make a plan of it (`planner`)
//! * write the plan as a new generation, or find that the current one says the same (`generations`)
//! * pull the images that it needs and that are not here (`store`)
//! * make the machine what the configuration says: names, files, keys, disks (`apply`); hand the generation to PID 1
//! * on SIGHUP do so again: a changed configuration takes effect without a reboot; on SIGUSR1 read all that is kept of
//!   images (`store`)
//! * meanwhile, in threads of their own: keep the network as it is described (`network`), and the time right (`clock`)
//! * the logs of services on their way to somebody else (`logs`)
//! * the networks of containers, and who may reach what (`containers`)

mod apply;
mod clock;
mod commands;
mod configure;
mod containers;
mod drivers;
mod file;
mod generations;
mod host;
mod http;
mod logs;
mod network;
mod planner;
mod source;
mod store;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use host::Host;
use network::Network;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;
use sys::console;
use sys::signals::{SIGHUP, SIGUSR1, SignalFd};

/// How often PID 1 hears that the agent lives, when it names no interval.
const HEARTBEAT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [verb, property] = args.as_slice()
        && verb == source::GUESTINFO
    {
        return source::tell_guestinfo(property);
    }
    let host = match Host::read() {
        Ok(host) => Arc::new(host),
        Err(error) => {
            console::error(console::chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let signals = match SignalFd::new(&[SIGHUP, SIGUSR1]) {
        Ok(signals) => signals,
        Err(error) => {
            console::error(format_args!("cannot listen to signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // Before the first link is up, so that nobody finds the node open meanwhile.
    containers::apply(&generations::networks(&host.root_hash));
    let network = network::start(&host.cmdline);
    let facts = network.clone();
    clock::start(move || facts.facts().ntp_servers);
    configure::configure(&host, &network);
    tell(&[NotifyState::Ready]);
    watch(&host, &network, &signals)
}

/// Lives on: tells PID 1 so, and does what signals ask for: SIGHUP, to look for the configuration again; SIGUSR1, to read
/// all that is kept of images.
fn watch(host: &Arc<Host>, network: &Network, signals: &SignalFd) -> ! {
    let interval = sd_notify::watchdog_enabled().map_or(HEARTBEAT, |limit| limit / 3);
    let mut due = Instant::now();
    // Looking takes its time, in which PID 1 must hear something; and one look at a time is enough.
    let mut asked = false;
    let mut looking: Option<JoinHandle<()>> = None;
    loop {
        if due <= Instant::now() {
            tell(&[NotifyState::Watchdog]);
            due = Instant::now() + interval;
        }
        while let Ok(Some(signal)) = signals.read() {
            match signal.number {
                SIGUSR1 => store::scrub_now(),
                _ => asked = true,
            }
        }
        let is_looking = looking.as_ref().is_some_and(|thread| !thread.is_finished());
        if asked && !is_looking {
            asked = false;
            looking = look_again(Arc::clone(host), network.clone());
        }
        let pause =
            if asked { Duration::from_millis(200) } else { due.saturating_duration_since(Instant::now()) };
        let limit = Timespec::try_from(pause).ok();
        // Interrupted or failed: there is nothing to lose by another turn.
        poll(&mut [PollFd::new(signals, PollFlags::IN)], limit.as_ref()).ok();
    }
}

fn look_again(host: Arc<Host>, network: Network) -> Option<JoinHandle<()>> {
    console::notice("config: asked to look for it again");
    let look = move || configure::configure(&host, &network);
    match thread::Builder::new().name("configure".to_owned()).spawn(look) {
        Ok(thread) => Some(thread),
        Err(error) => {
            console::error(format_args!("cannot look for the configuration: {error}"));
            None
        }
    }
}

/// Tells PID 1.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        console::warning(format_args!("cannot tell PID 1: {error}"));
    }
}
