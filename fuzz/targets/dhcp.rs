//! Servers' messages for the two DHCP clients: what a client makes of them, and that it never spins.
//!
//! The first byte chooses the client. The rest is messages, each behind its length in two bytes. They answer what the
//! client has asked: an id that is not the client's own is the easiest thing to refuse.
#![no_main]

use std::time::Duration;

use dhcp::{Random, v4, v6};
use fuzz::bounded;

const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Where RFC 2131 has the transaction id and the client's hardware address, and RFC 8415 the transaction id.
const V4_ID: std::ops::Range<usize> = 4..8;
const V4_HARDWARE: std::ops::Range<usize> = 28..34;
const V6_ID: std::ops::Range<usize> = 1..4;
/// A client that wants to be woken at the same moment so often does not wait at all.
const WAKES: usize = 16;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, mut rest)) = input.split_first() else { return };
    let mut messages = Vec::new();
    while let [high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (message, next) = more.split_at(length);
        messages.push(message.to_vec());
        rest = next;
    }
    bounded(|| match kind % 3 {
        0 => four(messages),
        1 => six(messages, v6::Mode::Address),
        _ => six(messages, v6::Mode::Information),
    });
});

fn four(messages: Vec<Vec<u8>>) {
    let mut client = v4::Machine::new(HARDWARE, None, Random::new(1));
    let mut asked = Vec::new();
    let mut now = Duration::ZERO;
    let keep = |actions: Vec<v4::Action>, asked: &mut Vec<u8>| {
        for action in actions {
            if let v4::Action::Send { message, .. } = action {
                *asked = message;
            }
        }
    };
    keep(client.step(v4::Event::LinkUp, now), &mut asked);
    for mut message in messages {
        copy(&mut message, &asked, V4_ID);
        copy(&mut message, &asked, V4_HARDWARE);
        keep(client.step(v4::Event::Received(&message), now), &mut asked);
        now = waits(client.deadline(), now, |now| {
            keep(client.step(v4::Event::Time, now), &mut asked);
            client.deadline()
        });
    }
}

fn six(messages: Vec<Vec<u8>>, mode: v6::Mode) {
    let mut client = v6::Machine::new(HARDWARE, mode, Random::new(1));
    let mut asked = Vec::new();
    let mut now = Duration::ZERO;
    let keep = |actions: Vec<v6::Action>, asked: &mut Vec<u8>| {
        for action in actions {
            if let v6::Action::Send(message) = action {
                *asked = message;
            }
        }
    };
    keep(client.step(v6::Event::LinkUp, now), &mut asked);
    for mut message in messages {
        copy(&mut message, &asked, V6_ID);
        keep(client.step(v6::Event::Received(&message), now), &mut asked);
        now = waits(client.deadline(), now, |now| {
            keep(client.step(v6::Event::Time, now), &mut asked);
            client.deadline()
        });
    }
}

fn copy(message: &mut [u8], from: &[u8], range: std::ops::Range<usize>) {
    if let (Some(to), Some(from)) = (message.get_mut(range.clone()), from.get(range)) {
        to.copy_from_slice(from);
    }
}

/// Wakes a client when it wants to be, until it waits for something later; then, when that was.
fn waits(
    mut deadline: Option<Duration>,
    mut now: Duration,
    mut wake: impl FnMut(Duration) -> Option<Duration>,
) -> Duration {
    for _ in 0..WAKES {
        match deadline {
            Some(at) => now = now.max(at),
            None => return now,
        }
        deadline = wake(now);
        if deadline.is_none_or(|next| next > now) {
            return now;
        }
    }
    panic!("the client wants to be woken at {deadline:?} again and again, and it is {now:?}");
}
