//! Says what is being done: one moving line on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a long step says where it is when there is no terminal.
const PAUSE: Duration = Duration::from_secs(60);

/// The line on the terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// When something was said last.
    said: Cell<Instant>,
}

impl Progress {
    /// Of so many steps.
    pub(crate) fn new(steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps);
            if let Ok(style) = ProgressStyle::with_template("{spinner} [{pos}/{len}] {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, said: Cell::new(Instant::now()) }
    }

    /// The next step begins.
    pub(crate) fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                bar.set_message(what.to_owned());
            }
            None => eprintln!("{what}"),
        }
        self.said.set(Instant::now());
    }

    /// Where a long step is: how much is done, and what it is doing.
    pub(crate) fn detail(&self, done: u64, doing: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{done}: {doing}")),
            None if self.said.get().elapsed() > PAUSE => {
                eprintln!("  {done}: {doing}");
                self.said.set(Instant::now());
            }
            None => {}
        }
    }

    /// So many more steps than were known before.
    pub(crate) fn more(&self, steps: u64) {
        if let Some(bar) = &self.bar {
            bar.inc_length(steps);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
