//! The recorder partition: the slots' state, and a ring of decisions and last log lines.
//!
//! All numbers little endian. Two 4 KiB records of [`Slots`] come first and are written alternately, each with a
//! sequence number and a CRC-32, so that a torn write leaves the older one. The rest is a ring of 512-byte entries
//! (one sector: written whole or not at all), entry number `n` at place `n` modulo their count. A record or entry
//! whose checksum is wrong does not exist. The number of the next entry is stored with the state at each boot and
//! looked for from there, so opening reads a few sectors whatever the partition's size.
//!
//! Writes go to the page cache; who needs them on disk calls `sync_data` on the device.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::{RootHash, Slot, SlotRecord, Slots};

const MAGIC: &[u8; 8] = b"HFSLOTS1";
/// Size of a state record: what a disk of either sector size writes at once.
const RECORD: usize = 4096;
const ENTRY_MAGIC: &[u8; 4] = b"HFE1";
/// Size of an entry: one sector.
const ENTRY: usize = 512;
/// Bytes of an entry before its text: magic, CRC-32, number, time, boot, length.
const HEADER: usize = 4 + 4 + 8 + 8 + 8 + 2;
/// The longest text of one entry, in bytes.
const TEXT: usize = ENTRY - HEADER;
/// Where the ring begins.
const RING: u64 = 2 * RECORD as u64;

/// The recorder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed.
    #[error("cannot {operation} the recorder")]
    Io {
        /// What was tried: `read` or `write`.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot hold the records and one entry.
    #[error("the recorder has {size} bytes; it needs at least {}", RING + ENTRY as u64)]
    TooSmall {
        /// Its size in bytes.
        size: u64,
    },
}

/// One line of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The boot that wrote it, as [`Slots::boots`] counts.
    pub boot: u64,
    /// Time since that boot, in nanoseconds.
    pub since_boot_ns: u64,
    /// The line, or a part of it that fits.
    pub text: String,
}

/// An open recorder.
#[derive(Debug)]
pub struct Recorder<D> {
    device: D,
    slots: Slots,
    /// Number of the newest state record; 0 when there is none.
    sequence: u64,
    /// Number of the next entry.
    next: u64,
    /// How many entries the ring holds.
    capacity: u64,
}

impl<D: Read + Write + Seek> Recorder<D> {
    /// Reads what `device` remembers; garbage is an empty recorder.
    pub fn open(mut device: D) -> Result<Self, Error> {
        let size = device.seek(SeekFrom::End(0)).map_err(|source| Error::Io { operation: "read", source })?;
        let capacity = size.saturating_sub(RING) / ENTRY as u64;
        if capacity == 0 {
            return Err(Error::TooSmall { size });
        }
        let State { slots, sequence, next } = load_state(&mut device)?;
        let mut recorder = Self { device, slots, sequence, next, capacity };
        recorder.find_next()?;
        Ok(recorder)
    }

    /// Reads the slots' state again: another process may have changed it.
    pub fn reload(&mut self) -> Result<(), Error> {
        let State { slots, sequence, .. } = load_state(&mut self.device)?;
        (self.slots, self.sequence) = (slots, sequence);
        Ok(())
    }

    /// What is known of the slots.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The device, for `sync_data`.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Changes the slots' state and stores it.
    pub fn update<T>(&mut self, change: impl FnOnce(&mut Slots) -> T) -> Result<T, Error> {
        let result = change(&mut self.slots);
        self.sequence = self.sequence.wrapping_add(1);
        let record = encode_state(&State { slots: self.slots, sequence: self.sequence, next: self.next });
        write_at(&mut self.device, (self.sequence % 2) * RECORD as u64, &record)?;
        Ok(result)
    }

    /// Adds a line; a long one takes several entries.
    pub fn append(&mut self, since_boot_ns: u64, text: &str) -> Result<(), Error> {
        let mut rest = text;
        loop {
            let (part, more) = rest.split_at(rest.floor_char_boundary(TEXT));
            let entry = encode_entry(self.next, self.slots.boots, since_boot_ns, part.as_bytes());
            let place = self.place(self.next);
            write_at(&mut self.device, place, &entry)?;
            self.next = self.next.wrapping_add(1);
            if more.is_empty() {
                return Ok(());
            }
            rest = more;
        }
    }

    /// The newest `count` entries at most, oldest first.
    pub fn tail(&mut self, count: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut number = self.next;
        while entries.len() < count && number > 0 && self.next - number < self.capacity {
            number -= 1;
            let Some((found, entry)) = self.read_entry(number)? else { break };
            if found != number {
                break;
            }
            entries.push(entry);
        }
        entries.reverse();
        Ok(entries)
    }

    /// Moves `next` behind the newest entry. Without a state record the entry in place 0 says where to begin.
    fn find_next(&mut self) -> Result<(), Error> {
        if self.sequence == 0
            && let Some((number, _)) = self.read_entry(0)?
        {
            self.next = number;
        }
        for _ in 0..self.capacity {
            match self.read_entry(self.next)? {
                Some((number, _)) if number == self.next => self.next = self.next.wrapping_add(1),
                _ => break,
            }
        }
        Ok(())
    }

    /// The entry that is where number `number` belongs, with its own number.
    fn read_entry(&mut self, number: u64) -> Result<Option<(u64, Entry)>, Error> {
        let mut entry = [0; ENTRY];
        let place = self.place(number);
        read_at(&mut self.device, place, &mut entry)?;
        Ok(decode_entry(&entry).filter(|(found, _)| found % self.capacity == number % self.capacity))
    }

    fn place(&self, number: u64) -> u64 {
        RING + number % self.capacity * ENTRY as u64
    }
}

/// Content of a state record.
#[derive(Debug, Default, PartialEq, Eq)]
struct State {
    slots: Slots,
    sequence: u64,
    next: u64,
}

/// The newest state record, or the empty one.
fn load_state(device: &mut (impl Read + Seek)) -> Result<State, Error> {
    let mut newest = State::default();
    for place in [0, 1] {
        let mut record = [0; RECORD];
        read_at(device, place * RECORD as u64, &mut record)?;
        let state = decode_state(&record).filter(|state| state.sequence % 2 == place);
        if let Some(state) = state.filter(|state| newest.sequence < state.sequence) {
            newest = state;
        }
    }
    Ok(newest)
}

/// Magic, sequence, next entry, boots, slot being tried, the two slots; zeros; CRC-32 of all that.
fn encode_state(state: &State) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD);
    bytes.extend_from_slice(MAGIC);
    for number in [state.sequence, state.next, state.slots.boots] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.push(match state.slots.trying {
        None => 0,
        Some(Slot::A) => 1,
        Some(Slot::B) => 2,
    });
    for slot in [state.slots.a, state.slots.b] {
        bytes.push(u8::from(slot.root_hash.is_some()));
        bytes.extend_from_slice(&slot.root_hash.unwrap_or(RootHash([0; 32])).0);
        bytes.push(u8::from(slot.proven));
        bytes.extend_from_slice(&slot.failures.to_le_bytes());
    }
    bytes.resize(RECORD - 4, 0);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode_state(record: &[u8; RECORD]) -> Option<State> {
    let (content, sum) = record.split_last_chunk::<4>()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut fields = Fields(content.strip_prefix(MAGIC)?);
    let sequence = fields.u64()?;
    let next = fields.u64()?;
    let boots = fields.u64()?;
    let trying = match fields.byte()? {
        0 => None,
        1 => Some(Slot::A),
        2 => Some(Slot::B),
        _ => return None,
    };
    let mut slot = || {
        let known = fields.byte()? == 1;
        let root_hash = RootHash(fields.take()?);
        let proven = fields.byte()? == 1;
        let failures = u32::from_le_bytes(fields.take()?);
        Some(SlotRecord { root_hash: known.then_some(root_hash), proven, failures })
    };
    let (a, b) = (slot()?, slot()?);
    Some(State { slots: Slots { a, b, trying, boots }, sequence, next })
}

/// `text` is at most [`TEXT`] bytes long.
fn encode_entry(number: u64, boot: u64, since_boot_ns: u64, text: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(ENTRY);
    for value in [number, since_boot_ns, boot] {
        content.extend_from_slice(&value.to_le_bytes());
    }
    content.extend_from_slice(&u16::try_from(text.len()).unwrap_or_default().to_le_bytes());
    content.extend_from_slice(text);
    content.resize(ENTRY - 8, 0);
    let sum = crc32fast::hash(&content);
    [ENTRY_MAGIC.as_slice(), &sum.to_le_bytes(), &content].concat()
}

fn decode_entry(entry: &[u8; ENTRY]) -> Option<(u64, Entry)> {
    let (sum, content) = entry.strip_prefix(ENTRY_MAGIC)?.split_first_chunk::<4>()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut fields = Fields(content);
    let number = fields.u64()?;
    let since_boot_ns = fields.u64()?;
    let boot = fields.u64()?;
    let length = u16::from_le_bytes(fields.take()?);
    let text = String::from_utf8_lossy(fields.0.get(..usize::from(length))?).into_owned();
    Some((number, Entry { boot, since_boot_ns, text }))
}

/// What of a record is still to be read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

fn read_at(device: &mut (impl Read + Seek), place: u64, bytes: &mut [u8]) -> Result<(), Error> {
    let read = device.seek(SeekFrom::Start(place)).and_then(|_| device.read_exact(bytes));
    read.map_err(|source| Error::Io { operation: "read", source })
}

fn write_at(device: &mut (impl Write + Seek), place: u64, bytes: &[u8]) -> Result<(), Error> {
    let written = device.seek(SeekFrom::Start(place)).and_then(|_| device.write_all(bytes));
    written.and_then(|()| device.flush()).map_err(|source| Error::Io { operation: "write", source })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 2 * RECORD + 8 * ENTRY;

    fn open(bytes: &[u8]) -> Recorder<Cursor<Vec<u8>>> {
        Recorder::open(Cursor::new(bytes.to_vec())).unwrap()
    }

    fn texts(recorder: &mut Recorder<Cursor<Vec<u8>>>, count: usize) -> Vec<String> {
        recorder.tail(count).unwrap().into_iter().map(|e| e.text).collect()
    }

    #[test]
    fn state_and_lines_outlive_the_power() {
        let mut recorder = open(&[0; SIZE]);
        recorder.update(|slots| slots.begin_boot(Slot::B, RootHash([7; 32]), false)).unwrap();
        recorder.append(42, "first").unwrap();
        recorder.append(43, "second").unwrap();
        let mut again = open(recorder.device.get_ref());
        assert_eq!(again.slots(), recorder.slots());
        let last = again.tail(1).unwrap();
        assert_eq!(last, [Entry { boot: 1, since_boot_ns: 43, text: "second".to_owned() }]);
        again.append(1, "third").unwrap();
        assert_eq!(texts(&mut again, 9), ["first", "second", "third"]);
    }

    #[test]
    fn two_processes_see_each_others_state() {
        let mut first = open(&[0; SIZE]);
        first.update(|slots| slots.begin_boot(Slot::A, RootHash([1; 32]), false)).unwrap();
        let mut second = open(first.device.get_ref());
        second.update(|slots| slots.reached_gate(Slot::A)).unwrap();
        first.device = second.device;
        first.reload().unwrap();
        first.update(Slots::forgive).unwrap();
        assert!(open(first.device.get_ref()).slots().get(Slot::A).proven);
    }

    #[test]
    fn the_ring_keeps_the_newest_lines() {
        let mut recorder = open(&[0; SIZE]);
        for n in 0..30 {
            recorder.append(n, &n.to_string()).unwrap();
            let mut again = open(recorder.device.get_ref());
            assert_eq!(again.next, recorder.next, "after line {n}");
            assert_eq!(texts(&mut again, 1), [n.to_string()]);
        }
        assert_eq!(texts(&mut recorder, 99), (22..30).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut recorder = open(&[0; SIZE]);
        let line = "\u{20ac}".repeat(400);
        recorder.append(0, &line).unwrap();
        assert_eq!(texts(&mut recorder, 9).concat(), line);
    }

    #[test]
    fn too_small_a_device_is_refused() {
        let error = Recorder::open(Cursor::new(vec![0; 2 * RECORD])).unwrap_err();
        assert!(matches!(error, Error::TooSmall { size: 8192 }));
    }

    proptest! {
        #[test]
        fn a_torn_write_leaves_the_older_state(updates in 1..5u8, torn in 0..RECORD) {
            let mut recorder = open(&[0; SIZE]);
            for n in 0..updates {
                recorder.update(|slots| slots.begin_boot(Slot::A, RootHash([n; 32]), false)).unwrap();
            }
            let before = recorder.device.get_ref().clone();
            let old = *recorder.slots();
            recorder.update(|slots| slots.reached_gate(Slot::A)).unwrap();
            let after = recorder.device.get_ref().clone();
            let place = if before[..RECORD] == after[..RECORD] { RECORD } else { 0 };
            let mut bytes = before;
            bytes[place..place + torn].copy_from_slice(&after[place..place + torn]);
            let found = *open(&bytes).slots();
            prop_assert!(found == old || found == *recorder.slots());
        }

        #[test]
        fn garbage_is_an_empty_recorder(seed in prop::collection::vec(any::<u8>(), 64), spare in 0..ENTRY) {
            let bytes: Vec<u8> = seed.iter().copied().cycle().take(SIZE + spare).collect();
            let mut recorder = open(&bytes);
            prop_assert_eq!(*recorder.slots(), Slots::default());
            prop_assert_eq!(recorder.tail(9).unwrap(), []);
            recorder.append(0, "line").unwrap();
            recorder.update(|slots| slots.begin_boot(Slot::A, RootHash([1; 32]), false)).unwrap();
            let mut again = open(recorder.device.get_ref());
            prop_assert_eq!(texts(&mut again, 9), ["line"]);
            prop_assert_eq!(again.slots(), recorder.slots());
        }

        #[test]
        fn a_damaged_byte_loses_no_state(at in 0..SIZE, bit in 0..8u8) {
            let mut recorder = open(&[0; SIZE]);
            recorder.update(|slots| slots.begin_boot(Slot::A, RootHash([1; 32]), false)).unwrap();
            recorder.append(1, "one").unwrap();
            recorder.update(|slots| slots.reached_gate(Slot::A)).unwrap();
            recorder.append(2, "two").unwrap();
            let mut bytes = recorder.device.get_ref().clone();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(open(&bytes).slots().get(Slot::A).root_hash, Some(RootHash([1; 32])));
        }
    }
}
