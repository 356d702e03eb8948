//! NTP messages (RFC 5905, section 7.3), and what one exchange of them says. Pure.
//!
//! A request tells nothing but that it is one: its transmit timestamp is random, and only an answer that repeats it is
//! an answer. Who cannot see our packets cannot make one up.

use std::time::Duration;

use sys::clock::Leap;

/// The header; what may come behind it is of no interest.
const LENGTH: usize = 48;

/// Seconds from 1900, where NTP begins to count, to 1970 (RFC 5905, figure 4).
const UNIX_EPOCH: u32 = 2_208_988_800;

const SECOND: i128 = 1_000_000_000;
const LOW: u64 = u32::MAX as u64;

/// How fast the error of a clock may grow: 15 parts of a million (RFC 5905, PHI), as nanoseconds a millisecond.
const DRIFT: u32 = 15;

/// The most that a server may be away from its source to be of use (RFC 5905, MAXDISP).
const MOST_ERROR: Duration = Duration::from_secs(16);

/// A server's message, read and found to be the answer to our request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The time.
    Time(Time),
    /// "Kiss of death" (RFC 5905, section 7.4): no time, but a wish.
    Kiss(Kiss),
}

/// What a server wants of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kiss {
    /// Never to be asked again.
    Deny,
    /// To be asked less often.
    Rate,
    /// Something that is of no consequence for a client.
    Other,
}

/// What a server says of the time and of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) leap: Leap,
    pub(super) stratum: u8,
    /// Binary logarithm of the seconds that its clock can tell apart.
    precision: i8,
    /// There and back between it and the source of its time.
    root_delay: Duration,
    /// How much its own time may be wrong, beside that.
    root_dispersion: Duration,
    /// When it received the request, and when it answered, in NTP's 64 bits.
    received: u64,
    sent: u64,
}

/// Why a message is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("{0} bytes are no NTP message")]
    Short(usize),
    #[error("the message is not a server's answer")]
    NotAnAnswer,
    #[error("the answer is not to our request")]
    NotOurs,
    #[error("the server does not know the time")]
    Unsynchronised,
    #[error("the server's times contradict each other")]
    Contradiction,
}

/// One comparison of our clock with a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Nanoseconds that our clock is behind; negative when it is ahead.
    pub(super) offset: i64,
    /// There and back, without the time that the server took.
    pub(super) delay: Duration,
    /// How much the offset may be wrong at most.
    pub(super) error: Duration,
}

/// A request, recognised in its answer by `nonce`.
pub(super) fn request(nonce: [u8; 8]) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    // No leap second, version 4, mode 3: a client.
    message[0] = 0x23;
    message[40..].copy_from_slice(&nonce);
    message
}

/// Reads the answer to the request with this `nonce`.
pub(super) fn read(message: &[u8], nonce: [u8; 8]) -> Result<Answer, Unusable> {
    let Some(message) = message.first_chunk::<LENGTH>() else { return Err(Unusable::Short(message.len())) };
    let [flags, stratum, _, precision, ..] = *message;
    let (version, mode) = (flags >> 3 & 7, flags & 7);
    // A server may answer in the version before, which has the same header (RFC 1305).
    if !matches!(version, 3 | 4) || mode != 4 {
        return Err(Unusable::NotAnAnswer);
    }
    if field(message, 24) != nonce {
        return Err(Unusable::NotOurs);
    }
    let leap = match flags >> 6 {
        0 => Some(Leap::None),
        1 => Some(Leap::Insert),
        2 => Some(Leap::Delete),
        _ => None,
    };
    let (leap, stratum) = match (stratum, leap) {
        (0, _) => {
            return Ok(Answer::Kiss(match &field::<4>(message, 12) {
                b"DENY" | b"RSTR" => Kiss::Deny,
                b"RATE" => Kiss::Rate,
                _ => Kiss::Other,
            }));
        }
        (1..16, Some(leap)) => (leap, stratum),
        _ => return Err(Unusable::Unsynchronised),
    };
    let [received, sent] = [32, 40].map(|at| u64::from_be_bytes(field(message, at)));
    let [root_delay, root_dispersion] = [4, 8].map(|at| short(field(message, at)));
    if root_delay / 2 + root_dispersion >= MOST_ERROR {
        return Err(Unusable::Unsynchronised);
    }
    if received == 0 || sent == 0 || sent.wrapping_sub(received) >> 32 >= MOST_ERROR.as_secs() {
        return Err(Unusable::Contradiction);
    }
    let precision = i8::from_be_bytes([precision]);
    Ok(Answer::Time(Time { leap, stratum, precision, root_delay, root_dispersion, received, sent }))
}

impl Time {
    /// Compares the server's clock with ours, which said `asked` (nanoseconds since 1970) when the request was sent and
    /// which ran for `took` until the answer came. NTP counts seconds in 32 bits, all of which are used up every 136
    /// years: of the moments that are meant, it is the one that is closest to `near` (in seconds).
    pub(super) fn compare(&self, asked: i64, took: Duration, near: u64) -> Sample {
        let [received, sent] = [self.received, self.sent].map(|time| unfold(time, near));
        let (asked, took) = (i128::from(asked), took.min(Duration::from_secs(3600)));
        let answered = asked + nanoseconds(took);
        let offset = ((received - asked) + (sent - answered)) / 2;
        // A server that claims to have taken longer than we have waited is as near as can be.
        let delay = nanoseconds(took) - (sent - received);
        let delay = u64::try_from(delay).map_or(Duration::ZERO, Duration::from_nanos);
        let precision = Duration::from_secs_f64(f64::from(self.precision.clamp(-30, 4)).exp2());
        let error = (self.root_delay + delay) / 2 + self.root_dispersion + precision + drift(took);
        let offset = i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX });
        Sample { offset, delay, error }
    }
}

/// How much a clock may go wrong in this time.
pub(super) fn drift(time: Duration) -> Duration {
    time / 1_000_000 * DRIFT
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

/// Nanoseconds since 1970 of an NTP timestamp, the one that is closest to `near`.
fn unfold(time: u64, near: u64) -> i128 {
    let [seconds, near_low] =
        [time >> 32, near].map(|seconds| u32::try_from(seconds & LOW).unwrap_or_default());
    let away = seconds.wrapping_sub(near_low.wrapping_add(UNIX_EPOCH)).cast_signed();
    (i128::from(near) + i128::from(away)) * SECOND + ((i128::from(time & LOW) * SECOND) >> 32)
}

/// NTP's short format: seconds in units of 2^-16.
fn short(bytes: [u8; 4]) -> Duration {
    Duration::from_nanos((u64::from(u32::from_be_bytes(bytes)) * 1_000_000_000) >> 16)
}

fn field<const N: usize>(message: &[u8; LENGTH], at: usize) -> [u8; N] {
    message.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONCE: [u8; 8] = *b"a random";
    /// 2026-01-01, as seconds since 1970.
    const BUILT: u64 = 1_767_225_600;

    /// NTP's 64 bits of nanoseconds since 1970.
    fn stamp(nanoseconds: i128) -> u64 {
        let seconds = nanoseconds.div_euclid(SECOND) + i128::from(UNIX_EPOCH);
        let fraction = (nanoseconds.rem_euclid(SECOND) << 32) / SECOND;
        u64::try_from(seconds.rem_euclid(1 << 32)).unwrap() << 32 | u64::try_from(fraction).unwrap()
    }

    /// A server's answer with its times in nanoseconds since 1970.
    fn answer(received: i128, sent: i128) -> [u8; LENGTH] {
        let mut message = [0; LENGTH];
        message[..4].copy_from_slice(&[0x24, 2, 6, (-20_i8).to_be_bytes()[0]]);
        message[24..32].copy_from_slice(&NONCE);
        message[32..40].copy_from_slice(&stamp(received).to_be_bytes());
        message[40..].copy_from_slice(&stamp(sent).to_be_bytes());
        message
    }

    fn with(changes: &[(usize, u8)]) -> Result<Answer, Unusable> {
        let now = i128::from(BUILT) * SECOND;
        let mut message = answer(now, now + 1000);
        changes.iter().for_each(|(at, byte)| message[*at] = *byte);
        read(&message, NONCE)
    }

    #[test]
    fn a_request_tells_nothing() {
        let request = request(NONCE);
        assert_eq!(request[0], 0b00_100_011);
        assert!(request[1..40].iter().all(|byte| *byte == 0));
        assert_eq!(request[40..], NONCE);
    }

    #[test]
    fn only_answers_to_our_request_from_servers_that_know_the_time_are_used() {
        assert!(matches!(with(&[]), Ok(Answer::Time(Time { stratum: 2, leap: Leap::None, .. }))));
        assert!(matches!(with(&[(0, 0x5c)]), Ok(Answer::Time(Time { leap: Leap::Insert, .. }))));
        for (changes, why) in [
            (vec![(0, 0x23)], Unusable::NotAnAnswer),
            (vec![(0, 0x25)], Unusable::NotAnAnswer),
            (vec![(0, 0x14)], Unusable::NotAnAnswer),
            (vec![(24, b'b')], Unusable::NotOurs),
            (vec![(0, 0xe4)], Unusable::Unsynchronised),
            (vec![(1, 16)], Unusable::Unsynchronised),
            (vec![(9, 16)], Unusable::Unsynchronised),
            (vec![(40, 0)], Unusable::Contradiction),
        ] {
            assert_eq!(with(&changes), Err(why), "{changes:?}");
        }
        assert_eq!(read(&[0; 47], NONCE), Err(Unusable::Short(47)));
    }

    #[test]
    fn a_kiss_counts_only_when_it_is_for_us() {
        let kiss = |code: &[u8; 4], nonce| {
            let mut message = answer(0, 0);
            message[1] = 0;
            message[12..16].copy_from_slice(code);
            read(&message, nonce)
        };
        for (code, meaning) in
            [(b"DENY", Kiss::Deny), (b"RSTR", Kiss::Deny), (b"RATE", Kiss::Rate), (b"STEP", Kiss::Other)]
        {
            assert_eq!(kiss(code, NONCE), Ok(Answer::Kiss(meaning)));
        }
        assert_eq!(kiss(b"DENY", *b"another1"), Err(Unusable::NotOurs));
    }

    #[test]
    fn the_era_is_the_one_around_the_build() {
        // 2036-02-07 06:28:16 is where the 32 bits of seconds begin again.
        let turn = i128::from((1_u64 << 32) - u64::from(UNIX_EPOCH));
        let built = i128::from(BUILT);
        // A server whose clock lies before the build is seen to do so.
        for seconds in
            [0, built - 1, built, turn - 1, turn, turn + 1, built - (1 << 31), built + (1 << 31) - 1]
        {
            assert_eq!(unfold(stamp(seconds * SECOND), BUILT), seconds * SECOND);
        }
        assert_eq!(unfold(stamp(0), 0), 0);
    }

    #[test]
    fn a_clock_in_1970_is_compared_with_one_in_our_time() {
        let now = i128::from(BUILT) * SECOND;
        let Ok(Answer::Time(time)) = read(&answer(now, now), NONCE) else { panic!("not read") };
        let sample = time.compare(0, Duration::from_millis(20), BUILT);
        assert_eq!(i128::from(sample.offset), now - 10_000_000);
        assert_eq!(sample.delay, Duration::from_millis(20));
        assert!(sample.error >= Duration::from_millis(10));
    }

    proptest! {
        #[test]
        fn no_message_makes_it_fail(
            mut message in prop::collection::vec(any::<u8>(), 0..100),
            ours: bool,
            asked: i64,
            took: Duration,
            near in 0..u64::MAX >> 8,
        ) {
            if ours && message.len() >= LENGTH {
                message[0] = message[0] & 0xc0 | 0x24;
                message[24..32].copy_from_slice(&NONCE);
            }
            if let Ok(Answer::Time(time)) = read(&message, NONCE) {
                time.compare(asked, took, near);
            }
        }

        #[test]
        fn the_true_offset_lies_within_the_error(
            clock in 0..1_i64 << 61,
            offset in -1_000_000_000_000_i64..1_000_000_000_000,
            [out, back, served] in [0..1_000_000_000_u64, 0..1_000_000_000, 0..1_000_000_000],
        ) {
            let truth = i128::from(clock) + i128::from(offset);
            let received = truth + i128::from(out);
            let near = u64::try_from(truth / SECOND).unwrap_or_default();
            let message = answer(received, received + i128::from(served));
            let Ok(Answer::Time(time)) = read(&message, NONCE) else { panic!("not read") };
            let sample = time.compare(clock, Duration::from_nanos(out + served + back), near);
            prop_assert!(sample.offset.abs_diff(offset) <= u64::try_from(sample.error.as_nanos()).unwrap());
        }
    }
}
