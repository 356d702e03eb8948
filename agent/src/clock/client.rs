//! Asks, compares, decides, and acts on the clock, turn by turn.

use std::fs::{self, File, FileTimes};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plan::paths;
use sys::clock::{Lead, Leap};

use super::discipline::{Correction, Discipline};
use super::packet::Sample;
use super::select::{Agreement, select};
use super::servers::Servers;
use super::settings::{Names, Settings};
use super::status::{State, Status, seconds};
use crate::console;

/// Questions in a row while the clock is not right, and the time between them: the least that servers bear from a
/// client (RFC 5905, section 13, BTIME).
const BURST: u32 = 3;
const SPACING: Duration = Duration::from_secs(2);

/// How long servers that have not answered yet are waited for when others have.
const STRAGGLERS: Duration = Duration::from_secs(15);

/// When silence is complained of: the network may be coming up.
const SILENCE: Duration = Duration::from_secs(30);

/// Until the next try when nobody answers, at most, and when there were answers but no agreement.
const LONGEST_RETRY: Duration = Duration::from_secs(64);
const RETRY: Duration = Duration::from_secs(16);

/// How often names are looked up again while a server is silent.
const LOOK_UP: Duration = Duration::from_secs(1024);

/// How often the time is kept for the next boot.
const KEEP: Duration = Duration::from_secs(3600);

/// So many servers that agree are believed even when they say that it is earlier than this node has known.
const QUORUM: usize = 3;

/// Why a turn came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("none of the time servers has answered; still asking")]
    Silence,
    #[error("some of the time servers have not answered yet")]
    Stragglers,
    #[error("the time servers disagree, and no majority of the {0} is right: the clock is left alone")]
    Disagreement(usize),
    #[error("{0} says that it is earlier than this node knows it to be: not believed")]
    Past(String),
    #[error("cannot set the clock: {0}")]
    Kernel(String),
}

/// The client, with one configuration.
pub(super) struct Client<'a> {
    settings: &'a Settings,
    /// The servers that the network names.
    network: &'a dyn Fn() -> Vec<String>,
    discipline: Discipline,
    servers: Servers,
    choices: Vec<Names>,
    choice: usize,
    looked_up: Option<Instant>,
    begun: Instant,
    /// When the first answer came.
    answered: Option<Instant>,
    /// When the clock was last touched.
    adjusted: Option<Instant>,
    kept: Option<Instant>,
    /// What has been complained of.
    said: Option<Problem>,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        network: &'a dyn Fn() -> Vec<String>,
        discipline: Discipline,
    ) -> Self {
        Self {
            settings,
            network,
            discipline,
            servers: Servers::default(),
            choices: Vec::new(),
            choice: 0,
            looked_up: None,
            begun: Instant::now(),
            answered: None,
            adjusted: None,
            kept: None,
            said: None,
        }
    }

    /// Whether the clock has been right in this boot.
    pub(super) fn is_right(&self) -> bool {
        self.discipline.is_right()
    }

    /// Asks once and acts on the answers. Returns how long to wait until the next turn.
    pub(super) fn turn(&mut self) -> Duration {
        self.look_up();
        let near = built().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for round in 0..if self.is_right() { 1 } else { BURST } {
            if round > 0 {
                thread::sleep(SPACING);
            }
            self.servers.ask(near);
            if self.servers.reachable() == 0 {
                break;
            }
        }
        let now = Instant::now();
        let result = self.act(now);
        match &result {
            Ok(()) => self.said = None,
            Err(problem) => self.complain(problem),
        }
        if self.servers.reachable() == 0 {
            self.choice += 1;
        } else {
            self.answered.get_or_insert(now);
        }
        match result {
            _ if self.is_right() => Duration::from_secs(1 << self.discipline.poll()),
            Err(Problem::Silence | Problem::Stragglers) => {
                (self.begun.elapsed() / 8).clamp(SPACING / 2, LONGEST_RETRY)
            }
            _ => RETRY,
        }
    }

    /// Looks the names up when they are new, or when what they led to is silent.
    fn look_up(&mut self) {
        let choices = self.settings.choices(&(self.network)());
        let changed = choices != self.choices;
        if changed {
            (self.choices, self.choice) = (choices, 0);
        }
        let reachable = self.servers.reachable();
        let old = self.looked_up.is_none_or(|at| at.elapsed() >= LOOK_UP);
        if changed || reachable == 0 || (old && reachable < self.servers.list.len()) {
            if let Some(names) = self.choices.get(self.choice % self.choices.len().max(1)) {
                self.servers.resolve(names);
            }
            self.looked_up = Some(Instant::now());
        }
    }

    /// Compares what the servers say, and acts on it.
    fn act(&mut self, now: Instant) -> Result<(), Problem> {
        let best = |server: &super::servers::Server| server.filter.best(now, self.adjusted);
        let (numbers, samples): (Vec<_>, Vec<_>) =
            self.servers.list.iter().enumerate().filter_map(|(n, server)| Some((n, best(server)?))).unzip();
        let early = !self.is_right() && self.answered.is_none_or(|at| now - at < STRAGGLERS);
        let voters = if early { self.servers.list.len() } else { self.servers.reachable() };
        let agreement = select(&samples, voters);
        let mut status = Status::of(&self.servers.list, &numbers, agreement.as_ref(), now);
        let result = match &agreement {
            Some(agreement) => self.correct(agreement, &numbers, &samples, now, &mut status),
            None if self.servers.reachable() == 0 => Err(Problem::Silence),
            None if samples.len() * 2 <= voters => Err(Problem::Stragglers),
            None => Err(Problem::Disagreement(voters)),
        };
        status.state = match (self.is_right(), self.servers.reachable()) {
            (false, _) => State::Unknown,
            (true, 0) => State::Holdover,
            (true, _) => State::Synchronised,
        };
        status.poll_seconds = self.is_right().then_some(1 << self.discipline.poll());
        status.problem = result.as_ref().err().map(Problem::to_string);
        status.publish();
        result
    }

    fn correct(
        &mut self,
        agreement: &Agreement,
        numbers: &[usize],
        samples: &[Sample],
        now: Instant,
        status: &mut Status,
    ) -> Result<(), Problem> {
        let believed = || agreement.believed.iter().filter_map(|number| numbers.get(*number));
        let servers = || believed().filter_map(|number| self.servers.list.get(*number));
        let name = servers().next().map(|server| server.name.clone()).unwrap_or_default();
        if !is_plausible(
            shifted(SystemTime::now(), agreement.offset),
            built(),
            known(),
            agreement.believed.len(),
        ) {
            return Err(Problem::Past(name));
        }
        let mut leaps = servers().filter_map(|server| server.time).map(|time| time.leap);
        let first = leaps.next().unwrap_or(Leap::None);
        let leap = if leaps.all(|leap| leap == first) { first } else { Leap::None };
        let error = agreement.believed.first().and_then(|number| samples.get(*number));
        let error = error.map_or(agreement.error, |sample| sample.error);

        let was_right = self.is_right();
        let offset = match self.discipline.correct(agreement.offset, now) {
            Correction::Wait => return Ok(()),
            Correction::Lead => agreement.offset,
            Correction::Step => {
                sys::clock::step(agreement.offset).map_err(|error| Problem::Kernel(error.to_string()))?;
                console::notice(format_args!(
                    "clock stepped by {:+.3} s from {name}",
                    seconds(agreement.offset)
                ));
                0
            }
        };
        let lead = Lead { offset, time_constant: self.discipline.time_constant(), error, leap };
        let state = sys::clock::lead(&lead).map_err(|error| Problem::Kernel(error.to_string()))?;
        if !was_right && offset != 0 {
            console::notice(format_args!("clock is right within {:+.3} s of {name}", seconds(offset)));
        }
        status.frequency_ppm = Some(state.frequency);
        self.adjusted = Some(Instant::now());
        self.keep(now);
        Ok(())
    }

    /// Keeps the time for the next boot, not too often.
    fn keep(&mut self, now: Instant) {
        if self.kept.is_some_and(|kept| now - kept < KEEP) {
            return;
        }
        self.kept = Some(now);
        let keep = || -> io::Result<()> {
            let file = File::options().write(true).create(true).truncate(false).open(paths::CLOCK)?;
            file.set_times(FileTimes::new().set_modified(SystemTime::now()))?;
            file.sync_all()
        };
        if let Err(error) = keep() {
            console::warning(format_args!("cannot keep the time in {}: {error}", paths::CLOCK));
        }
    }

    /// Says once what is wrong.
    fn complain(&mut self, problem: &Problem) {
        let too_early = match problem {
            Problem::Silence => self.begun.elapsed() < SILENCE,
            Problem::Stragglers => true,
            _ => false,
        };
        // While it is right, silence is in the status only.
        if too_early || self.is_right() || self.said.as_ref() == Some(problem) {
            return;
        }
        console::warning(format_args!("clock: {problem}"));
        self.said = Some(problem.clone());
    }
}

/// When the release was built.
fn built() -> SystemTime {
    changed(Path::new(paths::RELEASE))
}

/// The last time that was kept.
fn known() -> SystemTime {
    changed(Path::new(paths::CLOCK))
}

fn changed(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH)
}

fn shifted(time: SystemTime, nanoseconds: i64) -> Option<SystemTime> {
    let by = Duration::from_nanos(nanoseconds.unsigned_abs());
    if nanoseconds < 0 { time.checked_sub(by) } else { time.checked_add(by) }
}

/// Whether it can be as late as `believed` servers say: never before the build, and before what this node has known
/// only if enough of them say so. A single one, or an attacker in its place, could otherwise bring back the time of a
/// certificate that has expired.
fn is_plausible(time: Option<SystemTime>, built: SystemTime, known: SystemTime, believed: usize) -> bool {
    // What was kept may be ahead by as much as the clock was allowed to be.
    let slack = Duration::from_secs(1);
    time.is_some_and(|time| time >= built && (believed >= QUORUM || time + slack >= known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_believed_who_says_that_it_is_long_ago() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let (built, known) = (at(1000), at(2000));
        for (time, believed, is) in [
            (Some(at(3000)), 1, true),
            (Some(at(1999)), 1, true),
            (Some(at(1998)), 1, false),
            (Some(at(1998)), 2, false),
            (Some(at(1998)), 3, true),
            (Some(at(999)), 8, false),
            (None, 8, false),
        ] {
            assert_eq!(is_plausible(time, built, known, believed), is, "{time:?} of {believed}");
        }
    }

    #[test]
    fn a_time_is_shifted_both_ways_and_never_out_of_range() {
        let time = UNIX_EPOCH + Duration::from_secs(10);
        assert_eq!(shifted(time, -3_000_000_000), Some(UNIX_EPOCH + Duration::from_secs(7)));
        assert_eq!(shifted(time, 1), Some(time + Duration::from_nanos(1)));
        assert!(shifted(time, i64::MAX).is_some());
    }
}
