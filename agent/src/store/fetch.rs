//! What a configuration waits for: its images are pulled or imported, and tried again until they are here.

use std::thread;
use std::time::{Duration, Instant};

use images::Reference;

use super::collect::Needed;
use super::progress;
use super::pull::Pulling;
use super::wanted::{Missing, Pulled};
use crate::console;
use crate::network::Network;

/// How long a pull waits for the network before it fails for want of it.
const NETWORK: Duration = Duration::from_secs(30);
/// Waits between attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// How often it is looked whether anybody still waits.
const LOOK: Duration = Duration::from_secs(1);

/// Images that have to be pulled or imported, and how.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    missing: Missing,
    pulling: Pulling,
}

impl Fetch {
    pub(crate) fn new(missing: Missing, pulling: Pulling) -> Self {
        Self { missing, pulling }
    }

    /// The images' full names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.missing.iter().map(Reference::to_string).collect()
    }

    /// Pulls until everything is here, or nobody waits any more. What `needed` names stays when room has to be made.
    pub(crate) fn run(
        &self,
        network: &Network,
        is_wanted: impl Fn() -> bool,
        needed: impl Fn() -> Needed,
        pulled: &mut Pulled,
    ) {
        let mut left = self.missing.clone();
        let mut pause = FIRST_PAUSE;
        let make_room = |pulled: &Pulled, unfinished| {
            let mut needed = needed();
            needed.names.extend(self.names());
            needed.names.extend(pulled.iter().cloned());
            if let Err(error) = self.pulling.store().collect(&needed, unfinished) {
                console::warning(console::chain(&error));
            }
        };
        loop {
            if left.iter().any(|image| self.pulling.takes_network(image)) {
                network.wait_online(NETWORK);
            }
            left.retain(|image| {
                let here =
                    is_wanted() && self.pulling.pull(image, |unfinished| make_room(pulled, unfinished));
                if here {
                    pulled.insert(image.to_string());
                }
                !here
            });
            if left.is_empty() {
                return;
            }
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if !is_wanted() {
                    let gone: Vec<String> = left.iter().map(Reference::to_string).collect();
                    return progress::forget(|name| gone.iter().any(|gone| gone == name));
                }
                thread::sleep(LOOK);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
