//! The logs of services on their way to somebody else (`holdfast.logs`).
//!
//! One thread a receiver follows the files that shims write and sends what is new, in their order. What is kept in mind
//! is where it has come to, on the state partition, too: a receiver that is away, an agent that is killed and a boot cost
//! nothing that is still in the files. A line is sent at least once. The files are the only buffer, so whatever a receiver
//! does takes no more memory than one batch.
//!
//! * `follow`: what is new in the files of one service; `place`: how far each receiver has come
//! * `record`: a line as a message of syslog or as JSON; `receiver`: the connections

mod follow;
mod place;
mod receiver;
mod record;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use config::Receiver;
use plan::paths;

use crate::console;
use follow::Follower;
use place::Places;
use receiver::{Connection, SendError};
use record::Form;

/// The most bytes of one service's log that are sent at once.
const BATCH: usize = 256 << 10;
/// How often files are looked at in which nothing was new.
const IDLE: Duration = Duration::from_secs(1);
/// How long a receiver is left alone after the first failure, and after many.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// As many failures in a row are said on the console: the first may be a network that is not up yet.
const SAID_AT: u32 = 3;

/// What is to be done; threads of an older number end.
static WANTED: Mutex<Wanted> =
    Mutex::new(Wanted { number: 0, hostname: String::new(), receivers: Vec::new() });

struct Wanted {
    number: u64,
    hostname: String,
    receivers: Vec<Receiver>,
}

/// From now on these get the logs.
pub(crate) fn apply(receivers: &[Receiver], hostname: &str) {
    let mut wanted = WANTED.lock().unwrap_or_else(PoisonError::into_inner);
    if wanted.receivers == receivers && wanted.hostname == hostname {
        return;
    }
    let number = wanted.number + 1;
    *wanted = Wanted { number, hostname: hostname.to_owned(), receivers: receivers.to_vec() };
    drop(wanted);
    for receiver in receivers {
        let forward = Forward {
            receiver: receiver.clone(),
            hostname: hostname.to_owned(),
            directory: PathBuf::from(paths::LOGS),
        };
        let run = move || forward.run(|| is_wanted(number));
        let thread = thread::Builder::new().name("logs".to_owned()).stack_size(256 << 10);
        if let Err(error) = thread.spawn(run) {
            console::error(format_args!("logs: cannot start to send to {receiver}: {error}"));
        }
    }
}

fn is_wanted(number: u64) -> bool {
    WANTED.lock().unwrap_or_else(PoisonError::into_inner).number == number
}

/// All logs on their way to one receiver.
#[derive(Debug)]
struct Forward {
    receiver: Receiver,
    hostname: String,
    directory: PathBuf,
}

impl Forward {
    fn run(&self, is_wanted: impl Fn() -> bool) {
        let mut places = Places::of(Path::new(paths::LOG_PLACES), &self.receiver);
        let mut connection = Connection::new(&self.receiver);
        let (mut failures, mut pause) = (0_u32, BACK_OFF.0);
        while is_wanted() {
            match self.turn(&mut places, &mut connection) {
                Ok(sent) => {
                    if failures >= SAID_AT {
                        console::notice(format_args!("logs: {} takes them again", self.receiver));
                    }
                    (failures, pause) = (0, BACK_OFF.0);
                    if !sent {
                        thread::sleep(IDLE);
                    }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == SAID_AT {
                        let error = console::chain(&error);
                        console::warning(format_args!(
                            "logs: {error}; it is tried again until {} takes them",
                            self.receiver
                        ));
                    }
                    connection.close();
                    thread::sleep(pause);
                    pause = (pause * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    /// Sends what is new of each service, one batch at most; says whether anything was.
    fn turn(&self, places: &mut Places, connection: &mut Connection) -> Result<bool, SendError> {
        let mut sent = false;
        for (service, path) in follow::logs_in(&self.directory) {
            let follower = Follower::new(&path);
            let Some((lines, place)) = follower.next(places.get(&service), BATCH) else { continue };
            let form = Form::of(&self.receiver, &self.hostname, &service);
            let batch = form.batch(&lines);
            if !batch.is_empty() {
                connection.send(&batch)?;
            }
            if let Err(error) = places.set(service, place) {
                // It is sent once more after the next start of the agent, which is better than not at all.
                console::warning(console::chain(&error));
            }
            sent = true;
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests;
