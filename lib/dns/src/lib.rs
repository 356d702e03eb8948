//! As much of DNS's messages (RFC 1035, section 4) as a name server for a handful of names needs: it reads a question and
//! writes answers with addresses and names. What is passed on to other servers is not taken apart.
//!
//! Reading is pure, takes any bytes and never panics. A question that holds a compressed name or more than one question is
//! none: no resolver sends such.

use std::net::Ipv4Addr;

/// The length of a message's head.
const HEAD: usize = 12;
/// The longest answer over UDP (RFC 1035, section 2.3.4).
pub const MAX_UDP: usize = 512;
/// Longest label and longest name.
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 255;

// Bits of the second 16 of a head.
const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 0xf << 11;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;
const RECURSION_AVAILABLE: u16 = 1 << 7;

const INTERNET: u16 = 1;

/// Seconds for which an answer may be remembered: addresses change with generations.
const TTL: u32 = 5;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses of IPv4.
    A,
    /// Names of an address.
    Ptr,
    /// Everything.
    Any,
    /// Something else.
    Other,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    id: u16,
    recursion: bool,
    /// The name in lower case, without the dot at its end. A character that no name here has stands for odd bytes.
    pub name: String,
    /// What is asked of it.
    pub kind: Kind,
    /// The question as it came.
    question: Vec<u8>,
}

/// Why bytes are no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not even a head, or an answer: nothing is to be said to it.
    #[error("no question")]
    NoQuestion,
    /// A question with this id that cannot be understood.
    #[error("a question that is not understood")]
    Question(u16),
}

/// How it went (`RCODE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Answered, if only with nothing.
    Ok = 0,
    /// The question was not understood.
    Malformed = 1,
    /// Nobody could be asked.
    Failed = 2,
    /// There is no such name.
    NoName = 3,
    /// It is not answered.
    Refused = 5,
}

/// Something that is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An address.
    A(Ipv4Addr),
    /// A name.
    Ptr(String),
}

impl Query {
    /// Reads a question.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let (id, flags) = u16_at(bytes, 0).zip(u16_at(bytes, 2)).ok_or(Malformed::NoQuestion)?;
        if flags & RESPONSE != 0 || bytes.len() < HEAD {
            return Err(Malformed::NoQuestion);
        }
        let malformed = Malformed::Question(id);
        if flags & OPCODE != 0 || u16_at(bytes, 4) != Some(1) {
            return Err(malformed);
        }
        let (name, end) = name(bytes, HEAD).ok_or(malformed)?;
        let (kind, class) = u16_at(bytes, end).zip(u16_at(bytes, end + 2)).ok_or(malformed)?;
        let kind = match (class, kind) {
            (INTERNET, 1) => Kind::A,
            (INTERNET, 12) => Kind::Ptr,
            (INTERNET, 255) => Kind::Any,
            _ => Kind::Other,
        };
        let question = bytes.get(HEAD..end + 4).ok_or(malformed)?.to_vec();
        Ok(Self { id, recursion: flags & RECURSION_DESIRED != 0, name, kind, question })
    }

    /// An answer of at most `limit` bytes: what does not fit is left out, and that is said in it.
    pub fn answer(&self, code: Code, records: &[Record], limit: usize) -> Vec<u8> {
        let mut body = self.question.clone();
        let (mut count, mut truncated) = (0_u16, false);
        for record in records {
            let record = written(record);
            truncated = HEAD + body.len() + record.len() > limit || count == u16::MAX;
            if truncated {
                break;
            }
            body.extend(record);
            count += 1;
        }
        let mut bytes = head(self.id, self.recursion, truncated, code, 1, count);
        bytes.extend(body);
        bytes
    }

    /// Whether `bytes` answer this question.
    pub fn is_answered_by(&self, bytes: &[u8]) -> bool {
        let response = u16_at(bytes, 2).is_some_and(|flags| flags & RESPONSE != 0);
        let same = bytes.get(HEAD..HEAD + self.question.len());
        u16_at(bytes, 0) == Some(self.id)
            && response
            && same.is_some_and(|question| question.eq_ignore_ascii_case(&self.question))
    }
}

/// The answer to a question that is not understood.
pub fn malformed(id: u16) -> Vec<u8> {
    head(id, false, false, Code::Malformed, 0, 0)
}

/// The address that a name below `in-addr.arpa` stands for (RFC 1035, section 3.5).
pub fn reverse(name: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut labels = name.strip_suffix(".in-addr.arpa")?.split('.');
    for octet in octets.iter_mut().rev() {
        *octet = labels.next()?.parse().ok()?;
    }
    labels.next().is_none().then_some(octets.into())
}

fn head(id: u16, recursion: bool, truncated: bool, code: Code, questions: u16, answers: u16) -> Vec<u8> {
    let mut flags = RESPONSE | RECURSION_AVAILABLE | code as u16;
    for (bit, set) in [(RECURSION_DESIRED, recursion), (TRUNCATED, truncated)] {
        flags |= if set { bit } else { 0 };
    }
    [id, flags, questions, answers, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

/// A record for the name in the question, which is named by its place.
fn written(record: &Record) -> Vec<u8> {
    let (kind, data): (u16, Vec<u8>) = match record {
        Record::A(address) => (1, address.octets().to_vec()),
        Record::Ptr(name) => (12, labels(name)),
    };
    let mut bytes = vec![0xc0, 12];
    bytes.extend(kind.to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    bytes.extend(TTL.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// A name as its labels. Too long a label is cut.
fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(MAX_LABEL)];
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

/// The name at `at`, and where it ends.
fn name(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let begin = at;
    let mut name = String::new();
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > MAX_LABEL || at + length - begin >= MAX_NAME {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in bytes.get(at..at + length)? {
            let plain = byte.is_ascii_graphic() && *byte != b'.';
            name.push(if plain {
                char::from(byte.to_ascii_lowercase())
            } else {
                char::REPLACEMENT_CHARACTER
            });
        }
        at += length;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(labels(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        bytes
    }

    #[test]
    fn a_question_is_read_whatever_the_case() {
        let query = Query::read(&question("Db.Example", 1)).unwrap();
        assert_eq!((query.name.as_str(), query.kind), ("db.example", Kind::A));
        assert_eq!(Query::read(&question("db", 28)).unwrap().kind, Kind::Other);
        assert_eq!(Query::read(&question("", 255)).unwrap().name, "");
        let mut with_options = question("db", 1);
        with_options.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Query::read(&with_options).unwrap().name, "db");
    }

    #[test]
    fn what_is_no_question_is_not_taken_for_one() {
        let good = question("db.example", 1);
        for length in 0..good.len() {
            assert!(Query::read(&good[..length]).is_err(), "{length}");
        }
        let with = |place: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[place] = byte;
            Query::read(&bytes)
        };
        assert_eq!(with(2, 0x81), Err(Malformed::NoQuestion), "an answer is not answered");
        assert_eq!(with(2, 0x28), Err(Malformed::Question(0xabcd)), "an update");
        assert_eq!(with(5, 2), Err(Malformed::Question(0xabcd)), "two questions");
        assert_eq!(with(12, 0xc0), Err(Malformed::Question(0xabcd)), "a compressed name");
        assert!(Query::read(&question(&["a"; 200].join("."), 1)).is_err(), "a name that is too long");
        let dotted = with(13, b'.').unwrap();
        assert_eq!(dotted.name, "\u{fffd}b.example", "a dot within a label divides nothing");
    }

    #[test]
    fn an_answer_repeats_the_question_and_fits() {
        let query = Query::read(&question("db", 1)).unwrap();
        let one = query.answer(Code::Ok, &[Record::A(Ipv4Addr::new(172, 18, 0, 2))], MAX_UDP);
        assert_eq!(one[..12], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(one[one.len() - 16..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 172, 18, 0, 2]);
        assert!(query.is_answered_by(&one) && !query.is_answered_by(&question("db", 1)));
        let many = vec![Record::A(Ipv4Addr::LOCALHOST); 100];
        let cut = query.answer(Code::Ok, &many, MAX_UDP);
        assert!(cut.len() <= MAX_UDP && cut[2] & 2 != 0, "{} bytes", cut.len());
        assert_eq!(query.answer(Code::Ok, &many, 65_535)[2] & 2, 0);
        assert_eq!(query.answer(Code::NoName, &[], MAX_UDP)[3] & 15, 3);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let query = Query::read(&question("db", 1)).unwrap();
        let answer = query.answer(Code::Ok, &[], MAX_UDP);
        for place in [0, 1, 13] {
            let mut other = answer.clone();
            other[place] ^= 1;
            assert!(!query.is_answered_by(&other), "{place}");
        }
    }

    #[test]
    fn addresses_are_read_backwards() {
        assert_eq!(reverse("2.0.18.172.in-addr.arpa"), Some(Ipv4Addr::new(172, 18, 0, 2)));
        for name in ["18.172.in-addr.arpa", "x.0.18.172.in-addr.arpa", "1.2.0.18.172.in-addr.arpa", "db"] {
            assert_eq!(reverse(name), None, "{name}");
        }
    }
}
