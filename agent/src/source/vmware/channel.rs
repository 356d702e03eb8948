//! A remote procedure call to a VMware hypervisor: a text there, a text back, four bytes at a time.
//!
//! The protocol is that of VMware's open-vm-tools (`lib/message/message.c`).

use config::MAX_SIZE;
use sys::backdoor::{Answer, Step};

/// The kinds of steps.
const OPEN: u16 = 0;
const SEND_SIZE: u16 = 1;
const SEND: u16 = 2;
const RECEIVE_SIZE: u16 = 3;
const RECEIVE: u16 = 4;
const RECEIVED: u16 = 5;
const CLOSE: u16 = 6;

/// Opens a channel for calls ("RPCI"), protected by cookies.
const CALLS: u32 = 0x4943_5052 | 0x8000_0000;

/// Bits of the status.
const DONE: u16 = 1;
const HAS_ANSWER: u16 = 2;

/// What comes next, as the hypervisor says it: a size, or a part of the answer.
const A_SIZE: u16 = 1;
const A_PART: u16 = 2;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    #[error("the hypervisor opens no channel for calls")]
    Closed,
    #[error("the hypervisor has ended the call")]
    Ended,
    #[error("the hypervisor's answer has {size} bytes, more than {MAX_SIZE}")]
    TooLarge { size: u32 },
}

/// Calls with a text and gives the answer, through whatever does the steps.
pub(super) fn call(text: &[u8], mut backdoor: impl FnMut(Step) -> Answer) -> Result<Vec<u8>, CallError> {
    let opened = backdoor(Step { kind: OPEN, channel: 0, value: CALLS, cookies: (0, 0) });
    if opened.status & DONE == 0 {
        return Err(CallError::Closed);
    }
    let (channel, cookies) = (opened.next, opened.cookies);
    let mut step = |kind, value| backdoor(Step { kind, channel, value, cookies });
    let answer = converse(text, &mut step);
    step(CLOSE, 0);
    answer
}

fn converse(text: &[u8], step: &mut impl FnMut(u16, u32) -> Answer) -> Result<Vec<u8>, CallError> {
    let done = |answer: Answer| if answer.status & DONE == 0 { Err(CallError::Ended) } else { Ok(answer) };
    let length = u32::try_from(text.len()).map_err(|_| CallError::Ended)?;
    done(step(SEND_SIZE, length))?;
    for part in text.chunks(4) {
        let mut bytes = [0; 4];
        bytes.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        done(step(SEND, u32::from_le_bytes(bytes)))?;
    }
    let size = done(step(RECEIVE_SIZE, 0))?;
    if size.status & HAS_ANSWER == 0 || size.next != A_SIZE {
        return Err(CallError::Ended);
    }
    let wanted = usize::try_from(size.value).unwrap_or(usize::MAX);
    if wanted > MAX_SIZE {
        return Err(CallError::TooLarge { size: size.value });
    }
    let mut answer = Vec::with_capacity(wanted);
    while answer.len() < wanted {
        let part = done(step(RECEIVE, DONE.into()))?;
        if part.next != A_PART {
            return Err(CallError::Ended);
        }
        answer.extend(part.value.to_le_bytes().into_iter().take(wanted - answer.len()));
    }
    done(step(RECEIVED, DONE.into()))?;
    Ok(answer)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const CHANNEL: u16 = 7;
    const COOKIES: (u32, u32) = (0x1234, 0x5678);

    /// A hypervisor that answers texts, and what it has been told so far.
    pub(in super::super) struct Hypervisor<F> {
        answer: F,
        asked: Vec<u8>,
        left: usize,
        said: Vec<u8>,
        open: bool,
    }

    impl<F: Fn(&str) -> Vec<u8>> Hypervisor<F> {
        pub(in super::super) fn new(answer: F) -> Self {
            Self { answer, asked: Vec::new(), left: 0, said: Vec::new(), open: false }
        }

        pub(in super::super) fn step(&mut self, step: Step) -> Answer {
            let ours = step.channel == CHANNEL && step.cookies == COOKIES && self.open;
            let good = Answer { status: DONE, cookies: step.cookies, ..Answer::default() };
            match step.kind {
                OPEN if step.value == CALLS && !self.open => {
                    self.open = true;
                    Answer { next: CHANNEL, cookies: COOKIES, ..good }
                }
                SEND_SIZE if ours => {
                    self.left = step.value as usize;
                    good
                }
                SEND if ours && self.left > 0 => {
                    let part = step.value.to_le_bytes();
                    self.asked.extend(&part[..self.left.min(4)]);
                    self.left = self.left.saturating_sub(4);
                    good
                }
                RECEIVE_SIZE if ours && self.left == 0 => {
                    self.said = (self.answer)(std::str::from_utf8(&self.asked).expect("text"));
                    let value = u32::try_from(self.said.len()).expect("a short answer");
                    Answer { status: DONE | HAS_ANSWER, next: A_SIZE, value, ..good }
                }
                RECEIVE if ours && !self.said.is_empty() => {
                    let mut bytes = [0xff; 4];
                    let length = self.said.len().min(4);
                    bytes[..length].copy_from_slice(&self.said.drain(..length).collect::<Vec<_>>());
                    Answer { next: A_PART, value: u32::from_le_bytes(bytes), ..good }
                }
                RECEIVED | CLOSE if ours => {
                    self.open = step.kind == RECEIVED;
                    good
                }
                _ => Answer::default(),
            }
        }
    }

    #[test]
    fn texts_of_any_length_go_there_and_back() {
        for length in 0..20 {
            let text = "abcdefghijklmnopqrst".get(..length).expect("long enough");
            let mut hypervisor = Hypervisor::new(|asked| asked.as_bytes().to_vec());
            assert_eq!(call(text.as_bytes(), |step| hypervisor.step(step)).as_deref(), Ok(text.as_bytes()));
            assert!(!hypervisor.open, "the channel is closed");
        }
    }

    #[test]
    fn whoever_breaks_off_or_lies_gives_no_answer() {
        assert_eq!(call(b"x", |_| Answer::default()), Err(CallError::Closed));
        for broken in SEND_SIZE..=RECEIVED {
            let mut hypervisor = Hypervisor::new(|_| b"answer".to_vec());
            let mut steps = |step: Step| {
                if step.kind == broken { Answer::default() } else { hypervisor.step(step) }
            };
            assert_eq!(call(b"x", &mut steps), Err(CallError::Ended), "{broken}");
            assert!(!hypervisor.open, "the channel is closed after {broken}");
        }
        let endless = Answer { status: DONE | HAS_ANSWER, next: A_SIZE, value: u32::MAX, cookies: (0, 0) };
        assert_eq!(call(b"x", |_| endless), Err(CallError::TooLarge { size: u32::MAX }));
    }
}
