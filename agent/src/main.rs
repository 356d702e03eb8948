//! holdfastd: turns the configuration that the machine is given into what PID 1 runs, and keeps the network up.
//!
//! It may be killed at any moment and is then started again: whatever it finds done is left as it is, and nothing it
//! writes is ever half there. It starts no containers and waits for none; PID 1 does both, also without the agent.
//!
//! * find the user-data (`source`), judge it (`config`), make a plan of it (`planner`)
//! * write the plan as a new generation, or find that the current one says the same (`generations`)
//! * make the node what the plan says: name, hosts, keys (`identity`); hand the generation to PID 1
//! * meanwhile, in threads of their own: keep the network as it is described (`network`), and the time right (`clock`)

mod clock;
mod configure;
mod drivers;
mod file;
mod generations;
mod host;
mod http;
mod identity;
mod network;
mod planner;
mod source;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use host::Host;
use sd_notify::NotifyState;
use sys::console;

/// How often PID 1 hears that the agent lives, when it names no interval.
const HEARTBEAT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let host = match Host::read() {
        Ok(host) => Arc::new(host),
        Err(error) => {
            console::error(console::chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let network = network::start(&host.cmdline);
    let facts = network.clone();
    clock::start(move || facts.facts().ntp_servers);
    configure::configure(&host, &network);
    tell(&[NotifyState::Ready]);
    let interval = sd_notify::watchdog_enabled().map_or(HEARTBEAT, |limit| limit / 3);
    loop {
        tell(&[NotifyState::Watchdog]);
        std::thread::sleep(interval);
    }
}

/// Tells PID 1.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        console::warning(format_args!("cannot tell PID 1: {error}"));
    }
}
