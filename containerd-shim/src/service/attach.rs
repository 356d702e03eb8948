//! Clients that hear the container's own output as it comes, and write to its input when that is open (`stdin_open`) or a
//! terminal. A client that does not read misses output: it is in the log.

use std::fs::File;
use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags};

use super::terminal::pass;
use crate::log_file::Stream;

/// The client's FIFOs.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) exec: String,
    pub(super) stdin: Option<File>,
    /// The other end of `stdin`, until the client closes its input.
    pub(super) hold: Option<File>,
    pub(super) stdout: Option<File>,
    pub(super) stderr: Option<File>,
    to_container: Vec<u8>,
}

impl Attached {
    pub(super) fn new(exec: String, input: (Option<File>, Option<File>), output: [Option<File>; 2]) -> Self {
        let ((stdin, hold), [stdout, stderr]) = (input, output);
        Self { exec, stdin, hold, stdout, stderr, to_container: Vec::new() }
    }

    pub(super) fn wanted<'a>(&'a self, input: Option<&'a File>) -> Option<PollFd<'a>> {
        match (self.to_container.is_empty(), input) {
            (true, Some(_)) => self.stdin.as_ref().map(|file| PollFd::new(file, PollFlags::IN)),
            (false, Some(input)) => Some(PollFd::new(input, PollFlags::OUT)),
            (_, None) => None,
        }
    }

    /// Passes on what the client has written.
    pub(super) fn pass_on(&mut self, input: Option<&mut File>) {
        let (Some(stdin), Some(input)) = (&mut self.stdin, input) else { return };
        if !pass(stdin, input, &mut self.to_container) {
            (self.stdin, self.hold) = (None, None);
            self.to_container.clear();
        }
    }

    /// Output of the container. False: the client has gone.
    pub(super) fn hear(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        let file = match (stream, &mut self.stderr) {
            (Stream::Stderr, Some(stderr)) => stderr,
            (Stream::Stdout | Stream::Stderr, _) => match &mut self.stdout {
                Some(stdout) => stdout,
                None => return true,
            },
        };
        match file.write_all(bytes) {
            Ok(()) => true,
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }
}
