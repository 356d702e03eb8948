//! What comes of an archive, counted. Whoever reads through unpackers and archives sees no more than that it ended: why
//! is kept here.

use std::io::{self, Read};

use crate::store::pace::{Pace, SLOWEST, WINDOW};
use crate::store::progress::Task;

/// Larger than any image; what is endless ends here.
pub(super) const MOST: u64 = 64 << 30;

pub(super) struct Arriving<'a> {
    content: Box<dyn Read>,
    task: &'a Task,
    pace: Pace,
    bytes: u64,
    failure: Option<io::Error>,
}

impl<'a> Arriving<'a> {
    pub(super) fn new(content: Box<dyn Read>, task: &'a Task) -> Self {
        Self { content, task, pace: Pace::from(0), bytes: 0, failure: None }
    }

    /// Why it ended, when that was not its end.
    pub(super) fn failure(self) -> Option<io::Error> {
        self.failure
    }

    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.bytes += count as u64;
        self.task.add(count as u64);
        if count > 0 && self.pace.is_too_slow(self.bytes) {
            let text = format!("there come less than {SLOWEST} bytes in {} s", WINDOW.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        if self.bytes > MOST {
            return Err(io::Error::other(format!("it has more than {} GiB", MOST >> 30)));
        }
        Ok(count)
    }
}

impl Read for Arriving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(failure) = &self.failure {
            return Err(failure.kind().into());
        }
        self.next(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failure = Some(io::Error::new(error.kind(), error.to_string()));
            }
        })
    }
}
