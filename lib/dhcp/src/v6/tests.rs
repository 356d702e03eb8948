//! A client and a server in virtual time.

use std::net::Ipv6Addr;
use std::time::Duration;

use dhcproto::v6::{DhcpOption, IAAddr, IANA, Message, MessageType, OptionCode, Status, StatusCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use proptest::prelude::*;

use super::{Action, Event, Machine, Mode};
use crate::Random;

const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x50);
const NAME_SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// What a server does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Generous,
    Silent,
    Refusing,
}

struct World {
    machine: Machine,
    mood: Mood,
    server: u8,
    now: Duration,
    address: Option<Ipv6Addr>,
    seen: Vec<(u64, MessageType)>,
}

impl World {
    fn new(mode: Mode) -> Self {
        Self {
            machine: Machine::new(HARDWARE, mode, Random::new(1)),
            mood: Mood::Generous,
            server: 1,
            now: Duration::from_secs(10),
            address: None,
            seen: Vec::new(),
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let asked = Message::decode(&mut Decoder::new(bytes)).unwrap();
        self.seen.push((self.now.as_secs(), asked.msg_type()));
        let named = match asked.opts().get(OptionCode::ServerId) {
            Some(DhcpOption::ServerId(server)) => Some(server.clone()),
            _ => None,
        };
        if self.mood == Mood::Silent || named.is_some_and(|named| named != [self.server]) {
            return None;
        }
        let kind = match asked.msg_type() {
            MessageType::Solicit => MessageType::Advertise,
            _ => MessageType::Reply,
        };
        let mut answer = Message::new_with_id(kind, asked.xid());
        answer.opts_mut().insert(asked.opts().get(OptionCode::ClientId).unwrap().clone());
        answer.opts_mut().insert(DhcpOption::ServerId(vec![self.server]));
        answer.opts_mut().insert(DhcpOption::DomainNameServers(vec![NAME_SERVER]));
        if asked.opts().get(OptionCode::IANA).is_some() {
            let inner = if self.mood == Mood::Refusing {
                DhcpOption::StatusCode(StatusCode { status: Status::NoAddrsAvail, msg: String::new() })
            } else {
                DhcpOption::IAAddr(IAAddr {
                    addr: ADDRESS,
                    preferred_life: 1800,
                    valid_life: 3600,
                    opts: [].into_iter().collect(),
                })
            };
            let opts = [inner].into_iter().collect();
            answer.opts_mut().insert(DhcpOption::IANA(IANA { id: 1, t1: 0, t2: 0, opts }));
        }
        let mut bytes = Vec::new();
        answer.encode(&mut Encoder::new(&mut bytes)).unwrap();
        Some(bytes)
    }

    fn happen(&mut self, event: Event<'_>) {
        let mut todo = self.machine.step(event, self.now);
        while !todo.is_empty() {
            for action in std::mem::take(&mut todo) {
                match action {
                    Action::Send(message) => {
                        if let Some(answer) = self.answer(&message) {
                            todo.extend(self.machine.step(Event::Received(&answer), self.now));
                        }
                    }
                    Action::Given(held) => self.address = held.lease.address,
                    Action::Lost(lease) => assert_eq!(self.address.take(), lease.address),
                }
            }
        }
    }

    fn until(&mut self, seconds: u64) {
        let end = Duration::from_secs(seconds);
        while let Some(next) = self.machine.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.happen(Event::Time);
        }
        self.now = end;
    }

    fn kinds(&self) -> Vec<MessageType> {
        self.seen.iter().map(|(_, kind)| *kind).collect()
    }
}

use MessageType::{InformationRequest, Rebind, Renew, Request, Solicit};

#[test]
fn an_address_is_found_and_renewed_at_half_its_preferred_time() {
    let mut world = World::new(Mode::Address);
    world.happen(Event::LinkUp);
    assert_eq!(world.kinds(), [Solicit, Request]);
    assert_eq!(world.machine.held().unwrap().lease.name_servers, [NAME_SERVER]);
    world.until(2000);
    assert_eq!(world.seen[2..], [(910, Renew), (1810, Renew)]);
    assert_eq!(world.address, Some(ADDRESS));
}

#[test]
fn any_server_is_asked_before_the_lease_ends_and_then_it_ends() {
    let mut world = World::new(Mode::Address);
    world.happen(Event::LinkUp);
    world.server = 2;
    world.until(1460);
    assert_eq!((world.address, world.kinds().last()), (Some(ADDRESS), Some(&Rebind)));
    assert_eq!(world.machine.held().unwrap().lease.server, [2]);
    world.mood = Mood::Silent;
    world.until(1450 + 3599);
    assert_eq!(world.address, Some(ADDRESS));
    world.until(1460 + 3601);
    assert_eq!((world.address, world.kinds().last()), (None, Some(&Solicit)));
}

#[test]
fn a_refusal_takes_the_address_away_and_is_not_answered_with_a_storm() {
    let mut world = World::new(Mode::Address);
    world.happen(Event::LinkUp);
    world.mood = Mood::Refusing;
    world.until(1000);
    assert_eq!(world.address, None);
    assert!(world.seen.len() < 15, "{:?}", world.seen);
}

#[test]
fn a_link_that_comes_back_has_its_lease_confirmed() {
    let mut world = World::new(Mode::Address);
    world.happen(Event::LinkUp);
    world.happen(Event::LinkDown);
    world.until(100);
    assert_eq!(world.address, Some(ADDRESS));
    world.happen(Event::LinkUp);
    assert_eq!(world.kinds(), [Solicit, Request, Rebind]);
}

#[test]
fn information_is_asked_for_without_an_address_and_refreshed() {
    let mut world = World::new(Mode::Information);
    world.happen(Event::LinkUp);
    assert_eq!(world.kinds(), [InformationRequest]);
    let lease = &world.machine.held().unwrap().lease;
    assert_eq!((lease.address, lease.name_servers.as_slice()), (None, [NAME_SERVER].as_slice()));
    world.until(90_000);
    assert_eq!(world.kinds(), [InformationRequest, InformationRequest]);
}

proptest! {
    /// Whatever happens: an address is never used after its lease has ended, and in the end there is one.
    #[test]
    fn a_client_keeps_the_protocol(steps in prop::collection::vec((0_u8..6, 0_u64..3000), 1..40)) {
        let mut world = World::new(Mode::Address);
        world.happen(Event::LinkUp);
        for (what, number) in steps {
            match what {
                0 => world.happen(Event::LinkUp),
                1 => world.happen(Event::LinkDown),
                2 => world.mood = Mood::Silent,
                3 => world.mood = if number % 2 == 0 { Mood::Generous } else { Mood::Refusing },
                4 => world.server = u8::try_from(number % 3).unwrap(),
                _ => {
                    let before = world.seen.len();
                    world.until(world.now.as_secs() + number);
                    let asked = u64::try_from(world.seen.len() - before).unwrap();
                    prop_assert!(asked <= 20 + number / 5, "{asked} in {number} s");
                }
            }
            prop_assert!(world.machine.held().is_none_or(|held| world.now <= held.ends()));
        }
        world.mood = Mood::Generous;
        world.happen(Event::LinkUp);
        world.until(world.now.as_secs() + 8000);
        prop_assert_eq!(world.address, Some(ADDRESS));
    }
}
