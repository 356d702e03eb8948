//! A log on disk: one line of output a line, in the form that Kubernetes' runtimes write and its tools read (the CRI's:
//! time, stream, `F` for the end of a line or `P` for a part before it, text), in files of bounded size and number.
//!
//! A disk that is full or broken costs lines, not the service: what cannot be written is left out and counted, and so is
//! what exceeds the rate. The counts are written before the next line that finds room, or at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::budget::{Budget, Rate};

/// The longest part of a line: the length that container runtimes have in common.
const PART: usize = 16 << 10;
/// What one service may write: in a day no more than disks take every day for years.
const RATE: Rate = Rate { steady: 256 << 10, burst: 4 << 20 };

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The log of one service.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    /// Absent when it could not be opened again.
    file: Option<File>,
    size: u64,
    max_size: u64,
    max_files: u32,
    /// The lines that have begun and not ended, by stream.
    begun: [Vec<u8>; 2],
    budget: Budget,
    lost: u64,
}

impl LogFile {
    /// Opens the log at `path` to go on with it. Before it exceeds `max_size` bytes it becomes `path.1`, an older one
    /// `path.2` and so on, `max_files` in all.
    pub(crate) fn open(path: &Path, max_size: u64, max_files: u32) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut log = Self {
            path: path.to_owned(),
            file: None,
            size: 0,
            max_size,
            max_files,
            begun: [Vec::new(), Vec::new()],
            budget: Budget::new(RATE, Instant::now()),
            lost: 0,
        };
        // A disk that does not let it be opened now may do so later.
        log.append().unwrap_or(());
        Ok(log)
    }

    /// Takes output of the container.
    pub(crate) fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let mut begun = std::mem::take(&mut self.begun[stream as usize]);
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let ends = piece.last() == Some(&b'\n');
            let mut text = &piece[..piece.len() - usize::from(ends)];
            while begun.len() + text.len() > PART {
                let (part, rest) = text.split_at(PART - begun.len());
                begun.extend_from_slice(part);
                self.line(stream, 'P', &begun);
                begun.clear();
                text = rest;
            }
            begun.extend_from_slice(text);
            if ends {
                // What a terminal, or a program from elsewhere, puts before the end of a line.
                begun.pop_if(|last| *last == b'\r');
                self.line(stream, 'F', &begun);
                begun.clear();
            }
        }
        self.begun[stream as usize] = begun;
    }

    /// Writes what was begun, and what is still to be said.
    pub(crate) fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = std::mem::take(&mut self.begun[stream as usize]);
            if !begun.is_empty() {
                self.line(stream, 'F', &begun);
            }
        }
        self.say_lost().unwrap_or(());
    }

    fn line(&mut self, stream: Stream, tag: char, text: &[u8]) {
        if !self.budget.take(text.len() as u64, Instant::now()) {
            return;
        }
        let written = self.say_lost().and_then(|()| self.write(&line(stream, tag, text)));
        if written.is_err() {
            self.lost += 1;
        }
    }

    /// Says what was left out, if anything.
    fn say_lost(&mut self) -> io::Result<()> {
        if self.lost > 0 {
            let text = format!("[{} lines could not be written]", self.lost);
            self.write(&line(Stream::Stderr, 'F', text.as_bytes()))?;
            self.lost = 0;
        }
        if let Some(dropped) = self.budget.report() {
            self.write(&line(Stream::Stderr, 'F', dropped.as_bytes()))?;
        }
        Ok(())
    }

    /// Writes one line whole or not at all.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.max_size {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.append()?;
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        if let Err(error) = file.write_all(line) {
            // A part of it may have found room.
            file.set_len(self.size)?;
            return Err(error);
        }
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for number in (1..self.max_files.saturating_sub(1)).rev() {
            ignore_missing(fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)))?;
        }
        if self.max_files > 1 {
            ignore_missing(fs::rename(&self.path, numbered(&self.path, 1)))?;
        } else {
            ignore_missing(fs::remove_file(&self.path))?;
        }
        self.size = 0;
        Ok(())
    }

    fn append(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        let mut last = [b'\n'];
        if self.size > 0 {
            file.read_exact_at(&mut last, self.size - 1)?;
        }
        let file = self.file.insert(file);
        if last != *b"\n" {
            // A line that was cut off, with the power maybe, does not take the next one with it.
            file.write_all(b"\n")?;
            self.size += 1;
        }
        Ok(())
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn line(stream: Stream, tag: char, text: &[u8]) -> Vec<u8> {
    let now = clock_gettime(ClockId::Realtime);
    let time = timestamp(now.tv_sec, now.tv_nsec);
    let mut line = format!("{time} {} {tag} ", stream.name()).into_bytes();
    line.reserve_exact(text.len() + 1);
    line.extend_from_slice(text);
    line.push(b'\n');
    line
}

/// RFC 3339 with nanoseconds, in UTC; the days by the algorithm of Howard Hinnant's `civil_from_days`.
fn timestamp(seconds: i64, nanoseconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000000007Z"),
            (951_868_799, "2000-02-29T23:59:59.000000007Z"),
            (1_795_600_000, "2026-11-25T09:46:40.000000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000007Z"),
        ] {
            assert_eq!(timestamp(seconds, 7), text);
        }
    }

    /// The lines of the file without their times.
    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn lines_keep_their_stream_and_long_ones_are_parted() {
        let directory = directory();
        let path = directory.path().join("logs/web.log");
        let mut log = LogFile::open(&path, 1 << 20, 3).unwrap();
        log.take(Stream::Stdout, b"one\ntw");
        log.take(Stream::Stderr, b"oh\n");
        log.take(Stream::Stdout, b"o\r\n\n");
        log.take(Stream::Stdout, &[b'x'; 2 * PART + 5]);
        log.take(Stream::Stdout, b"\n");
        log.finish();
        let part = format!("stdout P {}", "x".repeat(PART));
        let expected =
            ["stdout F one", "stderr F oh", "stdout F two", "stdout F ", &part, &part, "stdout F xxxxx"];
        assert_eq!(lines(&path), expected);
        log.take(Stream::Stdout, b"end");
        log.finish();
        assert_eq!(lines(&path).last().unwrap(), "stdout F end");
    }

    #[test]
    fn files_are_bounded_in_size_and_number() {
        let directory = directory();
        let path = directory.path().join("web.log");
        for (files, kept) in [(3, vec!["web.log", "web.log.1", "web.log.2"]), (1, vec!["web.log"])] {
            let mut log = LogFile::open(&path, 200, files).unwrap();
            for number in 0..50 {
                log.take(Stream::Stdout, format!("line {number}\n").as_bytes());
            }
            let mut names: Vec<String> = fs::read_dir(directory.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(names, kept);
            let size = |name: &String| fs::metadata(directory.path().join(name)).unwrap().len();
            assert!(names.iter().all(|name| size(name) <= 200));
            assert_eq!(lines(&path).last().unwrap(), "stdout F line 49");
            names.iter().for_each(|name| fs::remove_file(directory.path().join(name)).unwrap());
        }
    }

    #[test]
    fn it_goes_on_where_it_was_cut_off() {
        let directory = directory();
        let path = directory.path().join("web.log");
        fs::write(&path, "2026 stdout F whole\n2026 stdout F ha").unwrap();
        let mut log = LogFile::open(&path, 1 << 20, 3).unwrap();
        log.take(Stream::Stdout, b"next\n");
        assert_eq!(lines(&path), ["stdout F whole", "stdout F ha", "stdout F next"]);
    }

    #[test]
    fn a_full_disk_costs_lines_that_are_counted() {
        let directory = directory();
        let path = directory.path().join("web.log");
        let mut log = LogFile::open(&path, 1 << 20, 3).unwrap();
        log.file = Some(File::open("/dev/null").unwrap());
        log.take(Stream::Stdout, b"lost\nlost\n");
        log.file = None;
        log.take(Stream::Stdout, b"back\n");
        assert_eq!(lines(&path), ["stderr F [2 lines could not be written]", "stdout F back"]);
    }

    #[test]
    fn a_flood_costs_lines_that_are_counted() {
        let directory = directory();
        let path = directory.path().join("web.log");
        let mut log = LogFile::open(&path, 64 << 20, 1).unwrap();
        log.budget = Budget::new(Rate { steady: 0, burst: 10 }, Instant::now());
        log.take(Stream::Stdout, b"0123456789\nover\nover\n");
        log.finish();
        let dropped = "stderr F [2 lines dropped: over 0 bytes a second]";
        assert_eq!(lines(&path), ["stdout F 0123456789", dropped]);
    }
}
