//! The container's output on its way to the log: a file, the console, or nowhere.
//!
//! The container writes to a pipe in every case, never to the file itself: a program that opens /dev/stdout anew
//! would cut the file off. On the console each line stands behind the service's name. A container can write faster
//! than any console prints: what exceeds the rate is dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use plan::{Log, ShimConfig};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use sys::kmsg::{self, Level};

/// What a service may print in the long run, in bytes a second: most of what a serial line of 115,200 baud carries.
const RATE: u64 = 8 * 1024;
/// What it may print at once.
const BURST: u64 = 64 * 1024;
/// What a line costs beside its text: the prefixes, and the kernel's work.
const LINE_COST: u64 = 64;
/// The longest text of one record: what the kernel takes, less the longest name of a service and an escape.
const TEXT: usize = 880;
/// The most reads in a row, so that a flood does not keep signals waiting.
const READS: usize = 16;

/// The reading end of a container's output.
#[derive(Debug)]
pub(crate) struct Output {
    /// Absent when nobody reads it, or the container has closed its end.
    pipe: Option<File>,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    File(File),
    Console { name: String, lines: Lines, budget: Budget },
    None,
}

impl Output {
    /// Opens the log of `config`: the shim's end of it, and the file that the container writes to.
    pub(crate) fn open(config: &ShimConfig) -> io::Result<(Self, File)> {
        let sink = match &config.log {
            Log::None => {
                let null = OpenOptions::new().write(true).open("/dev/null")?;
                return Ok((Self { pipe: None, sink: Sink::None }, null));
            }
            Log::File { path } => {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                Sink::File(OpenOptions::new().append(true).create(true).mode(0o640).open(path)?)
            }
            Log::Console => Sink::Console {
                name: config.name.to_string(),
                lines: Lines::default(),
                budget: Budget { bytes: BURST, since: Instant::now(), dropped: 0 },
            },
        };
        let (pipe, output) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        Ok((Self { pipe: Some(pipe.into()), sink }, output.into()))
    }

    /// What to poll for reading.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Passes on what has come.
    pub(crate) fn pump(&mut self) {
        for _ in 0..READS {
            if !self.read() {
                break;
            }
        }
    }

    /// Passes on the rest when the container has ended.
    pub(crate) fn finish(&mut self) {
        while self.read() {}
        if let Sink::Console { name, lines, budget } = &mut self.sink {
            if let Some(line) = lines.finish() {
                print(name, budget, &line);
            }
            budget.report(name);
        }
    }

    /// Reads once; false when there is nothing to read now, or ever.
    fn read(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        let mut bytes = [0; 4096];
        match pipe.read(&mut bytes) {
            Ok(0) => self.pipe = None,
            Ok(length) => {
                self.sink.take(&bytes[..length]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
        false
    }
}

impl Sink {
    fn take(&mut self, bytes: &[u8]) {
        match self {
            // A disk that is full or broken must not stop the container.
            Self::File(file) => file.write_all(bytes).unwrap_or(()),
            Self::Console { name, lines, budget } => lines.feed(bytes, |line| print(name, budget, line)),
            Self::None => {}
        }
    }
}

fn print(name: &str, budget: &mut Budget, line: &str) {
    if budget.take(line.len() as u64 + LINE_COST, Instant::now()) {
        budget.report(name);
        kmsg::write(Level::Notice, &format!("{name}: {line}"));
    }
}

/// A token bucket.
#[derive(Debug)]
struct Budget {
    bytes: u64,
    since: Instant,
    dropped: u64,
}

impl Budget {
    /// Takes `cost` from what is left at `now`; false, and counted, when that is not enough.
    fn take(&mut self, cost: u64, now: Instant) -> bool {
        let millis = u64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        let earned = millis.saturating_mul(RATE) / 1000;
        if earned > 0 {
            self.bytes = self.bytes.saturating_add(earned).min(BURST);
            self.since += Duration::from_millis(millis);
        }
        // Having dropped, it goes on only with a second's worth in hand: whole passages, not a line here and there.
        let reserve = if self.dropped > 0 { RATE } else { 0 };
        let left = self.bytes.checked_sub(cost).filter(|_| self.bytes >= reserve);
        match left {
            Some(left) => self.bytes = left,
            None => self.dropped += 1,
        }
        left.is_some()
    }

    /// Says how much was dropped.
    fn report(&mut self, name: &str) {
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            kmsg::write(
                Level::Warning,
                &format!("{name}: [{dropped} lines dropped: over {RATE} bytes a second]"),
            );
        }
    }
}

/// Bytes to lines that are safe to print: control characters and what is not UTF-8 are escaped, so that a container
/// cannot steer the terminal or begin a line that is not its own.
#[derive(Debug, Default)]
struct Lines {
    line: String,
    /// The beginning of a character whose end has not come yet.
    pending: Vec<u8>,
}

impl Lines {
    /// Takes `bytes` and gives `print` each line that is complete or as long as a line may be.
    fn feed(&mut self, bytes: &[u8], mut print: impl FnMut(&str)) {
        let mut input = std::mem::take(&mut self.pending);
        input.extend_from_slice(bytes);
        let mut chunks = input.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            for c in chunk.valid().chars() {
                match c {
                    '\n' => {
                        print(self.line.strip_suffix("\\r").unwrap_or(&self.line));
                        self.line.clear();
                        continue;
                    }
                    '\t' => self.line.push(c),
                    c if c.is_control() => self.line.extend(c.escape_default()),
                    c => self.line.push(c),
                }
                self.cut(&mut print);
            }
            let cut_off = std::str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none());
            if cut_off && chunks.peek().is_none() {
                self.pending = chunk.invalid().to_vec();
            } else {
                self.line.extend(chunk.invalid().escape_ascii().map(char::from));
                self.cut(&mut print);
            }
        }
    }

    fn cut(&mut self, print: &mut impl FnMut(&str)) {
        if self.line.len() >= TEXT {
            print(&self.line);
            self.line.clear();
        }
    }

    /// The line that was begun and not ended.
    fn finish(&mut self) -> Option<String> {
        self.line.extend(std::mem::take(&mut self.pending).escape_ascii().map(char::from));
        (!self.line.is_empty()).then(|| std::mem::take(&mut self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut printed) = (Lines::default(), Vec::new());
        for part in parts {
            lines.feed(part, |line| printed.push(line.to_owned()));
        }
        printed.extend(lines.finish());
        printed
    }

    #[test]
    fn output_becomes_lines_that_are_safe_to_print() {
        let cases: [(&[&[u8]], &[&str]); 7] = [
            (&[b"one\ntwo\n"], &["one", "two"]),
            (&[b"on", b"e\n\ntw", b"o"], &["one", "", "two"]),
            (&[b"windows\r\n"], &["windows"]),
            (&[b"\x1b[2Jcleared\x07\n"], &["\\u{1b}[2Jcleared\\u{7}"]),
            (&[b"caf\xc3", b"\xa9\n"], &["café"]),
            (&[b"\xff\xc3(\n"], &["\\xff\\xc3("]),
            (&[b"half \xc3"], &["half \\xc3"]),
        ];
        for (parts, expected) in cases {
            assert_eq!(lines(parts), expected, "{parts:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_so_that_every_piece_fits_a_record_with_its_name() {
        let mut long = vec![b'x'; 3 * TEXT];
        long.extend([0; TEXT]);
        let cut = lines(&[&long]);
        assert!(cut.iter().all(|line| line.len() < TEXT + 16), "{cut:?}");
        assert_eq!(cut.concat().replace("\\u{0}", "0").len(), 4 * TEXT);
    }

    #[test]
    fn a_flood_is_dropped_and_counted_and_the_budget_comes_back() {
        let start = Instant::now();
        let mut budget = Budget { bytes: BURST, since: start, dropped: 0 };
        assert!((0..BURST / 1024).all(|_| budget.take(1024, start)));
        assert!(!budget.take(1024, start));
        assert!(!budget.take(1024, start + Duration::from_millis(1)));
        assert_eq!(budget.dropped, 2);
        assert!(!budget.take(1024, start + Duration::from_millis(500)), "only with a second's worth in hand");
        assert!(budget.take(1024, start + Duration::from_millis(1100)));
    }
}
