//! The container's output on its way to the log: a file, the console, or nowhere.
//!
//! The container writes to pipes in every case, never to the file itself: a program that opens /dev/stdout anew
//! would cut the file off. On the console each line stands behind the service's name. A container can write faster
//! than any console prints, and than any disk should be worn: what exceeds the rate is dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use plan::{Log, ShimConfig};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use sys::kmsg::{self, Level};

use crate::budget::{Budget, Rate};
use crate::log_file::{LogFile, Stream};

/// What a service may print on the console: in the long run most of what a serial line of 115,200 baud carries.
const CONSOLE_RATE: Rate = Rate { steady: 8 << 10, burst: 64 << 10 };
/// What a line costs beside its text: the prefixes, and the kernel's work.
const LINE_COST: u64 = 64;
/// The longest text of one record: what the kernel takes, less the longest name of a service and an escape.
const TEXT: usize = 880;
/// The most reads in a row, so that a flood does not keep signals waiting.
const READS: usize = 16;

/// The reading ends of a container's output.
#[derive(Debug)]
pub(crate) struct Output {
    pipes: Vec<(Stream, File)>,
    sink: Sink,
}

/// What the container writes to.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) stdout: File,
    pub(crate) stderr: File,
}

#[derive(Debug)]
enum Sink {
    File(Box<LogFile>),
    Console { name: String, lines: Lines, budget: Budget },
    None,
}

impl Output {
    /// Opens the log of `config`: the shim's ends of it, and those that the container writes to. A container with a
    /// terminal writes to that: [`Self::add`].
    pub(crate) fn open(config: &ShimConfig) -> io::Result<(Self, Ends)> {
        let sink = match &config.log {
            Log::None => Sink::None,
            Log::File { path, max_size, max_files } => {
                Sink::File(Box::new(LogFile::open(path, *max_size, *max_files)?))
            }
            Log::Console => {
                let budget = Budget::new(CONSOLE_RATE, Instant::now());
                Sink::Console { name: config.name.to_string(), lines: Lines::default(), budget }
            }
        };
        let mut pipes = Vec::new();
        let mut pipe = |stream| -> io::Result<File> {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            fcntl_setfl(&reader, OFlags::NONBLOCK)?;
            pipes.push((stream, reader.into()));
            Ok(writer.into())
        };
        let (stdout, stderr) = match (&sink, config.terminal) {
            (Sink::None, _) | (_, true) => {
                let null = OpenOptions::new().write(true).open("/dev/null")?;
                (null.try_clone()?, null)
            }
            (Sink::File(_), false) => (pipe(Stream::Stdout)?, pipe(Stream::Stderr)?),
            // One for both, so that what is printed keeps its order.
            (Sink::Console { .. }, false) => {
                let end = pipe(Stream::Stdout)?;
                (end.try_clone()?, end)
            }
        };
        Ok((Self { pipes, sink }, Ends { stdout, stderr }))
    }

    /// Reads from this file, too, which does not wait.
    pub(crate) fn add(&mut self, file: File) {
        self.pipes.push((Stream::Stdout, file));
    }

    /// What to poll for reading. A pipe is not among them when the container has closed its end.
    pub(crate) fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().map(|(_, pipe)| pipe.as_fd())
    }

    /// Passes on what has come, and has `hear` hear it.
    pub(crate) fn pump(&mut self, mut hear: impl FnMut(Stream, &[u8])) {
        let sink = &mut self.sink;
        self.pipes.retain_mut(|(stream, pipe)| {
            let mut reads = (0..READS).map(|_| read(*stream, pipe, sink, &mut hear));
            reads.find(|next| *next != Next::More) != Some(Next::End)
        });
    }

    /// Passes on the rest when the container has ended.
    pub(crate) fn finish(&mut self, mut hear: impl FnMut(Stream, &[u8])) {
        for (stream, pipe) in &mut self.pipes {
            while read(*stream, pipe, &mut self.sink, &mut hear) == Next::More {}
        }
        match &mut self.sink {
            Sink::File(file) => file.finish(),
            Sink::Console { name, lines, budget } => {
                if let Some(line) = lines.finish() {
                    print(name, budget, &line);
                }
                report(name, budget);
            }
            Sink::None => {}
        }
    }
}

/// What may follow a read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There may be more.
    More,
    /// Nothing now.
    Later,
    /// Nothing any more.
    End,
}

/// Reads once.
fn read(stream: Stream, pipe: &mut File, sink: &mut Sink, hear: &mut impl FnMut(Stream, &[u8])) -> Next {
    let mut bytes = [0; 4096];
    match pipe.read(&mut bytes) {
        Ok(0) => Next::End,
        Ok(length) => {
            sink.take(stream, &bytes[..length]);
            hear(stream, &bytes[..length]);
            Next::More
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Next::More,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Later,
        Err(_) => Next::End,
    }
}

impl Sink {
    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        match self {
            Self::File(file) => file.take(stream, bytes),
            Self::Console { name, lines, budget } => lines.feed(bytes, |line| print(name, budget, line)),
            Self::None => {}
        }
    }
}

fn print(name: &str, budget: &mut Budget, line: &str) {
    if budget.take(line.len() as u64 + LINE_COST, Instant::now()) {
        report(name, budget);
        kmsg::write(Level::Notice, &format!("{name}: {line}"));
    }
}

fn report(name: &str, budget: &mut Budget) {
    if let Some(dropped) = budget.report() {
        kmsg::write(Level::Warning, &format!("{name}: {dropped}"));
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
}
