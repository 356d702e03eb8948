//! The time: taken from servers (NTP, RFC 5905), so that certificates can be judged and logs be compared.
//!
//! A thread of its own asks; who needs the right time waits for it with [`wait_synchronised`], and certificates with
//! [`before_certificates`]. PID 1 has set the
//! clock to the last time that is known before the agent is up, and the kernel leads it and writes the hardware clock:
//! what is here decides whom to believe and by how much the clock is wrong. An agent that was killed finds in the kernel
//! that the clock is right already.
//!
//! * `settings`: whom to ask; `servers`: their addresses; `exchange`: one question over UDP
//! * pure: `packet` (one message), `filter` (one server), `select` (several servers), `discipline` (what to do)
//! * `client` puts them together; `status` says what came of it

mod client;
mod discipline;
mod exchange;
mod filter;
mod packet;
mod select;
mod servers;
mod settings;
mod status;

use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use client::Client;
use discipline::Discipline;
use settings::Settings;
use status::Status;

use crate::console;

/// Up to this many nanoseconds the clock is led, beyond it is stepped (RFC 5905, STEPT: 128 ms).
const STEP: i64 = 128_000_000;

/// How long the first certificate waits for the right time. Most nodes have it after some seconds; one that has no time
/// server goes on with the last time that is known, by which most certificates are valid, too.
const CERTIFICATES: Duration = Duration::from_secs(20);

/// The clock: a machine has one.
static CLOCK: Clock = Clock::new();

/// Starts the thread. `network` gives the time servers that the network names at the moment.
pub(crate) fn start(network: impl Fn() -> Vec<String> + Send + 'static) {
    let right = sys::clock::state().is_ok_and(|state| state.synchronised);
    *CLOCK.lock() = Shares { started: true, settings: Settings::kept(), right };
    let thread = thread::Builder::new().name("clock".to_owned()).stack_size(512 << 10);
    if let Err(error) = thread.spawn(move || run(&CLOCK, &network)) {
        console::error(format_args!("cannot start the clock: {error}"));
    }
}

/// From now on this is the configuration.
pub(crate) fn apply(ntp: Option<&config::Ntp>) {
    let settings = Settings::new(ntp);
    if let Err(error) = settings.keep() {
        console::warning(console::chain(&error));
    }
    CLOCK.lock().settings = Some(settings);
    CLOCK.changed.notify_all();
}

/// Waits until the clock is right, asking for the time if nobody has done so yet. Returns false when it is not right by
/// then. With a configuration that wants nobody to be asked the clock is as right as it will ever be.
pub(crate) fn wait_synchronised(patience: Duration) -> bool {
    CLOCK.wait(patience)
}

/// To be called before a certificate is judged: waits until the clock is right, the first time.
pub(crate) fn before_certificates() {
    static WAITED: Once = Once::new();
    WAITED.call_once(|| {
        if CLOCK.lock().started && !wait_synchronised(CERTIFICATES) {
            let known = "certificates are judged by the last time that is known";
            console::warning(format_args!(
                "clock: no right time after {} s; {known}",
                CERTIFICATES.as_secs()
            ));
        }
    });
}

/// What the thread and its users tell each other.
#[derive(Debug)]
struct Clock {
    shares: Mutex<Shares>,
    changed: Condvar,
}

#[derive(Debug)]
struct Shares {
    /// Whether there is a thread that will set it.
    started: bool,
    /// Whom to ask; nobody is asked before it is there.
    settings: Option<Settings>,
    /// Whether the clock has been right in this boot.
    right: bool,
}

impl Clock {
    const fn new() -> Self {
        let shares = Shares { started: false, settings: None, right: false };
        Self { shares: Mutex::new(shares), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before there is a configuration the last one counts, or it is as if there were none.
    fn wait(&self, patience: Duration) -> bool {
        self.lock().settings.get_or_insert_default();
        self.changed.notify_all();
        let wrong = |shares: &mut Shares| !shares.right && shares.settings.as_ref().is_none_or(|s| s.enabled);
        let waited = self.changed.wait_timeout_while(self.lock(), patience, wrong);
        let (_shares, result) = waited.unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }

    /// The settings, when they are there.
    fn settings(&self) -> Settings {
        let mut shares = self.lock();
        loop {
            if let Some(settings) = &shares.settings {
                return settings.clone();
            }
            shares = self.changed.wait(shares).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for so long, or without end. Returns early, and false, when the settings change.
    fn unchanged_for(&self, pause: Duration, settings: &Settings) -> bool {
        let same = |shares: &mut Shares| shares.settings.as_ref() == Some(settings);
        let waited = self.changed.wait_timeout_while(self.lock(), pause, same);
        waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn is_right(&self) -> bool {
        self.lock().right
    }

    fn set_right(&self) {
        self.lock().right = true;
        self.changed.notify_all();
    }
}

fn run(clock: &Clock, network: &dyn Fn() -> Vec<String>) {
    loop {
        let settings = clock.settings();
        if !settings.enabled {
            Status::off().publish();
            while clock.unchanged_for(Duration::MAX, &settings) {}
            continue;
        }
        let mut client = Client::new(&settings, network, Discipline::new(clock.is_right()));
        loop {
            let pause = client.turn();
            if client.is_right() {
                clock.set_right();
            }
            if !clock.unchanged_for(pause, &settings) {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off() -> Settings {
        Settings::new(Some(&config::Ntp { enabled: false, servers: Vec::new(), pools: Vec::new() }))
    }

    #[test]
    fn who_needs_the_time_waits_until_it_is_right_or_will_never_be() {
        let clock = Clock::new();
        let moment = Duration::from_millis(10);
        assert!(!clock.wait(moment));
        assert_eq!(clock.settings(), Settings::default(), "waiting makes somebody ask");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| clock.wait(Duration::from_secs(60)));
            clock.set_right();
            assert!(waiting.join().unwrap());
        });

        let clock = Clock::new();
        clock.lock().settings = Some(off());
        assert!(clock.wait(moment));
    }

    #[test]
    fn a_change_of_the_settings_is_noticed() {
        let clock = Clock::new();
        clock.lock().settings = Some(Settings::default());
        assert!(clock.unchanged_for(Duration::from_millis(1), &Settings::default()));
        assert!(!clock.unchanged_for(Duration::from_secs(60), &off()));
    }
}
