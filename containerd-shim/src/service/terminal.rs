//! A terminal between a process and its client: what one writes, the other reads. A client that does not read makes the
//! process wait, and nobody else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags};
use rustix::termios::{Winsize, tcsetwinsize};

/// The files on both sides, none of which waits; a FIFO that is not there is nobody's.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) master: File,
    pub(super) stdin: Option<File>,
    /// The other end of `stdin`, until the client closes its input.
    pub(super) hold: Option<File>,
    pub(super) stdout: Option<File>,
}

#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) exec: String,
    ends: Ends,
    to_process: Vec<u8>,
    to_client: Vec<u8>,
}

impl Terminal {
    pub(super) fn new(exec: String, ends: Ends) -> Self {
        Self { exec, ends, to_process: Vec::new(), to_client: Vec::new() }
    }

    pub(super) fn resize(&self, width: u32, height: u32) -> io::Result<()> {
        resize(&self.ends.master, width, height)
    }

    pub(super) fn close_input(&mut self) {
        self.ends.hold = None;
    }

    pub(super) fn wanted(&self) -> Vec<PollFd<'_>> {
        let Ends { master, stdin, stdout, .. } = &self.ends;
        let mut wanted = Vec::new();
        let mut from_master = PollFlags::empty();
        if self.to_process.is_empty() {
            wanted.extend(stdin.as_ref().map(|file| PollFd::new(file, PollFlags::IN)));
        } else {
            from_master |= PollFlags::OUT;
        }
        if self.to_client.is_empty() {
            from_master |= PollFlags::IN;
        } else {
            wanted.extend(stdout.as_ref().map(|file| PollFd::new(file, PollFlags::OUT)));
        }
        if !from_master.is_empty() {
            wanted.push(PollFd::from_borrowed_fd(master.as_fd(), from_master));
        }
        wanted
    }

    /// Passes on what can be; false when the process or its client has closed it.
    pub(super) fn pass_on(&mut self) -> bool {
        let Ends { master, stdin, hold, stdout } = &mut self.ends;
        if let Some(file) = stdin
            && !pass(file, master, &mut self.to_process)
        {
            (*stdin, *hold) = (None, None);
            self.to_process.clear();
        }
        match stdout {
            Some(file) => pass(master, file, &mut self.to_client),
            // Nobody hears it: it must not wait for that.
            None => pass(master, &mut io::sink(), &mut self.to_client),
        }
    }
}

/// Tells the terminal of `master` its size.
pub(super) fn resize(master: &File, width: u32, height: u32) -> io::Result<()> {
    let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let size = Winsize { ws_row: short(height), ws_col: short(width), ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(master, size)?)
}

/// How many times in a row it is read, so that a flood does not keep others waiting.
const READS: usize = 16;

/// Moves bytes, by way of what is `kept` in between; false when there will be none any more.
pub(super) fn pass(from: &mut impl Read, to: &mut impl Write, kept: &mut Vec<u8>) -> bool {
    for _ in 0..READS {
        while !kept.is_empty() {
            match to.write(kept) {
                Ok(written) => drop(kept.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        let mut bytes = [0; 4096];
        match from.read(&mut bytes) {
            Ok(0) => return false,
            Ok(length) => kept.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            // What a terminal says when the last process has closed it.
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_client_that_does_not_read_keeps_nothing_but_its_process_waiting() {
        let (mut process, master) = UnixStream::pair().unwrap();
        let (stdout, mut client) = UnixStream::pair().unwrap();
        for stream in [&process, &master, &stdout] {
            stream.set_nonblocking(true).unwrap();
        }
        let (mut master, mut stdout) = (master, stdout);
        let mut kept = Vec::new();
        // It writes until it would have to wait, and every turn in between ends.
        let mut written = 0;
        for _ in 0..1000 {
            written += process.write(&[7; 4096]).unwrap_or(0);
            assert!(pass(&mut master, &mut stdout, &mut kept));
        }
        assert!(kept.len() <= 4096 && written < 1000 * 4096, "{} {written}", kept.len());
        drop(process);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).map(|_| all.len())
        });
        while pass(&mut master, &mut stdout, &mut kept) {
            std::thread::yield_now();
        }
        drop(stdout);
        assert_eq!(reader.join().unwrap().unwrap(), written);
    }
}
