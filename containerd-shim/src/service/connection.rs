//! One client: what it sends becomes requests, and answers become bytes, as far as it takes them.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use task::Refusal;
use task::frame::{Request, Response};

/// Answers that a client has not read, in bytes: many of the longest.
const UNREAD: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    open: bool,
}

impl Connection {
    pub(super) fn new(number: u64, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { number, stream, input: Vec::new(), output: Vec::new(), open: true })
    }

    pub(super) fn wanted(&self) -> PollFd<'_> {
        let flags = if self.output.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        PollFd::from_borrowed_fd(self.stream.as_fd(), flags)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// What has come since, in whole requests.
    pub(super) fn requests(&mut self) -> Vec<Request> {
        self.flush();
        let mut requests = Vec::new();
        let mut bytes = [0; 4096];
        // A frame at most is kept, as whole ones are taken out of it each time.
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.open = false,
                Ok(length) => self.input.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.open = false,
            }
            if !self.open {
                break;
            }
            self.open &= take(&mut self.input, &mut requests);
        }
        requests
    }

    pub(super) fn answer(&mut self, stream: u32, result: Result<Vec<u8>, Refusal>) {
        self.output.extend_from_slice(&Response::new(stream, result).write());
        self.flush();
        self.open &= self.output.len() <= UNREAD;
    }

    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.open = false;
                    return;
                }
            }
        }
    }
}

/// Moves whole requests from `input` to `requests`; false when what comes is none.
fn take(input: &mut Vec<u8>, requests: &mut Vec<Request>) -> bool {
    loop {
        match Request::read(input) {
            Ok(Some((request, length))) => {
                input.drain(..length);
                requests.push(request);
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
