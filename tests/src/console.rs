//! What a guest has said so far, line by line, with the host's time of each.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use regex::Regex;

/// A line and when it came, counted from the guest's start.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: Duration,
    pub(crate) text: String,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<Line>,
    ended: bool,
}

/// The console of a running guest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console {
    said: Arc<(Mutex<Said>, Condvar)>,
}

/// Why a line did not come.
#[derive(Debug)]
pub(crate) enum Missing {
    TimedOut,
    GuestEnded,
}

impl Console {
    /// Follows `output` until it ends.
    pub(crate) fn follow(output: impl Read + Send + 'static) -> Self {
        let console = Self::default();
        let said = Arc::clone(&console.said);
        let start = Instant::now();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut bytes = Vec::new();
            while matches!(output.read_until(b'\n', &mut bytes), Ok(read) if read > 0) {
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                bytes.clear();
                let mut state = said.0.lock().expect("nobody panics with this lock");
                state.lines.push(Line { at: start.elapsed(), text });
                said.1.notify_all();
            }
            said.0.lock().expect("nobody panics with this lock").ended = true;
            said.1.notify_all();
        });
        console
    }

    /// Waits for a line that matches, from line number `from` on; gives its number and the line.
    pub(crate) fn wait(
        &self,
        pattern: &Regex,
        from: usize,
        patience: Duration,
    ) -> Result<(usize, Line), Missing> {
        let deadline = Instant::now() + patience;
        let mut next = from;
        let mut said = self.said.0.lock().expect("nobody panics with this lock");
        loop {
            let found =
                said.lines.iter().enumerate().skip(next).find(|(_, line)| pattern.is_match(&line.text));
            if let Some((number, line)) = found {
                return Ok((number, line.clone()));
            }
            if said.ended {
                return Err(Missing::GuestEnded);
            }
            next = said.lines.len().max(from);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missing::TimedOut);
            }
            said = self.said.1.wait_timeout(said, left).expect("nobody panics with this lock").0;
        }
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.said.0.lock().expect("nobody panics with this lock").lines.clone()
    }
}
