//! A client and a server in virtual time.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use proptest::prelude::*;

use super::{Action, Event, Held, Machine};
use crate::Random;

const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

/// What a server does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Generous,
    Silent,
    Refusing,
}

/// A server that has one address to give, for 3600 s.
#[derive(Debug)]
struct Server {
    own: Ipv4Addr,
    address: Ipv4Addr,
    mood: Mood,
    /// The kinds of the questions that it has seen, and when.
    seen: Vec<(u64, &'static str)>,
    /// The transactions that they belong to.
    transactions: Vec<u32>,
}

impl Server {
    fn new() -> Self {
        Self {
            own: SERVER,
            address: ADDRESS,
            mood: Mood::Generous,
            seen: Vec::new(),
            transactions: Vec::new(),
        }
    }

    fn answer(&mut self, bytes: &[u8], to: Option<Ipv4Addr>, now: Duration) -> Option<Vec<u8>> {
        let asked = Message::decode(&mut Decoder::new(bytes)).unwrap();
        let named = asked.opts().get(OptionCode::ServerIdentifier).is_some();
        let wanted = asked.opts().get(OptionCode::RequestedIpAddress).is_some();
        let discover = asked.opts().msg_type() == Some(MessageType::Discover);
        let kind = match (discover, named, wanted, to) {
            (true, ..) => "discover",
            (_, true, ..) => "request",
            (_, _, true, _) => "reboot",
            (.., Some(_)) => "renew",
            (.., None) => "rebind",
        };
        self.seen.push((now.as_secs(), kind));
        self.transactions.push(asked.xid());
        if to.is_some_and(|to| to != self.own) {
            return None;
        }
        let kind = match self.mood {
            Mood::Silent => return None,
            Mood::Refusing if !discover => MessageType::Nak,
            _ if discover => MessageType::Offer,
            _ => MessageType::Ack,
        };
        let mut answer = Message::default();
        answer.set_xid(asked.xid()).set_chaddr(&HARDWARE).set_yiaddr(self.address);
        for option in [
            DhcpOption::MessageType(kind),
            DhcpOption::ServerIdentifier(self.own),
            DhcpOption::AddressLeaseTime(3600),
        ] {
            answer.opts_mut().insert(option);
        }
        let mut bytes = Vec::new();
        answer.encode(&mut Encoder::new(&mut bytes)).unwrap();
        Some(bytes)
    }
}

/// A client with its server on one link.
struct World {
    machine: Machine,
    server: Server,
    now: Duration,
    /// The address that the client has.
    address: Option<Ipv4Addr>,
}

impl World {
    fn new(remembered: Option<Ipv4Addr>) -> Self {
        let machine = Machine::new(HARDWARE, remembered, Random::new(1));
        Self { machine, server: Server::new(), now: Duration::from_secs(10), address: None }
    }

    /// A client that has got its lease at 10 s.
    fn bound() -> Self {
        let mut world = Self::new(None);
        world.happen(Event::LinkUp);
        assert_eq!(world.address, Some(ADDRESS));
        world.server.seen.clear();
        world
    }

    fn happen(&mut self, event: Event<'_>) {
        let mut todo = self.machine.step(event, self.now);
        while !todo.is_empty() {
            for action in std::mem::take(&mut todo) {
                match action {
                    Action::Send { message, to, .. } => {
                        if let Some(answer) = self.server.answer(&message, to, self.now) {
                            todo.extend(self.machine.step(Event::Received(&answer), self.now));
                        }
                    }
                    Action::Given(held) => self.address = Some(held.lease.address),
                    Action::Lost(lease) => {
                        assert_eq!(self.address.take(), Some(lease.address));
                    }
                }
            }
        }
        assert_eq!(self.machine.held().map(|held| held.lease.address), self.address);
    }

    /// Lets time pass until `seconds`.
    fn until(&mut self, seconds: u64) {
        let end = Duration::from_secs(seconds);
        while let Some(next) = self.machine.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.happen(Event::Time);
        }
        self.now = end;
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.server.seen.iter().map(|(_, kind)| *kind).collect()
    }
}

#[test]
fn a_lease_is_found_and_renewed_at_half_its_time() {
    let mut world = World::new(None);
    world.happen(Event::LinkUp);
    assert_eq!(world.kinds(), ["discover", "request"]);
    assert_eq!(world.server.transactions[0], world.server.transactions[1], "RFC 2131, table 5");
    world.until(10 * 3600);
    let renewals: Vec<_> = world.server.seen.iter().skip(2).take(3).copied().collect();
    assert_eq!(renewals, [(1810, "renew"), (3610, "renew"), (5410, "renew")]);
    assert_eq!(world.address, Some(ADDRESS));
}

#[test]
fn a_server_that_is_gone_is_asked_less_and_less_often() {
    let mut world = World::new(None);
    world.server.mood = Mood::Silent;
    world.happen(Event::LinkUp);
    world.until(1010);
    let times: Vec<u64> = world.server.seen.iter().map(|(at, _)| *at).collect();
    assert!((18..=24).contains(&times.len()), "{times:?}");
    world.server.mood = Mood::Generous;
    world.until(1100);
    assert_eq!(world.address, Some(ADDRESS));
}

#[test]
fn the_address_of_before_is_asked_for_first() {
    let mut world = World::new(Some(ADDRESS));
    world.happen(Event::LinkUp);
    assert_eq!(world.kinds(), ["reboot"]);
    assert_eq!(world.address, Some(ADDRESS));
}

#[test]
fn an_address_of_before_that_is_refused_or_ignored_is_forgotten() {
    let mut refused = World::new(Some(OTHER_SERVER));
    refused.server.mood = Mood::Refusing;
    refused.happen(Event::LinkUp);
    refused.server.mood = Mood::Generous;
    refused.until(11);
    assert_eq!(refused.kinds(), ["reboot", "discover", "request"]);

    let mut ignored = World::new(Some(OTHER_SERVER));
    ignored.server.mood = Mood::Silent;
    ignored.happen(Event::LinkUp);
    ignored.until(12);
    ignored.server.mood = Mood::Generous;
    ignored.until(14);
    assert_eq!(ignored.kinds(), ["reboot", "reboot", "discover", "request"]);
}

#[test]
fn when_the_server_has_moved_any_server_is_asked_before_the_lease_ends() {
    let mut world = World::bound();
    world.server.own = OTHER_SERVER;
    world.until(10 + 3599);
    assert_eq!(world.address, Some(ADDRESS), "no moment without it");
    assert_eq!(world.kinds().last(), Some(&"rebind"));
    assert_eq!(world.machine.held().unwrap().lease.server, OTHER_SERVER);
    assert!(world.server.seen.iter().all(|(at, kind)| *kind != "rebind" || *at >= 10 + 3150));
}

#[test]
fn a_refused_renewal_ends_the_lease_and_begins_anew() {
    let mut world = World::bound();
    world.server.address = Ipv4Addr::new(10, 0, 0, 99);
    world.server.mood = Mood::Refusing;
    world.until(1809);
    assert_eq!(world.address, Some(ADDRESS));
    world.until(1811);
    assert_eq!(world.address, None);
    world.server.mood = Mood::Generous;
    world.until(1900);
    assert_eq!(world.address, Some(Ipv4Addr::new(10, 0, 0, 99)));
}

#[test]
fn a_refusal_by_another_server_than_the_one_that_was_asked_is_none() {
    let mut world = World::bound();
    world.server.mood = Mood::Silent;
    world.until(1810);
    let [Action::Send { message, .. }] = &world.machine.step(Event::Time, Duration::from_secs(2500))[..]
    else {
        panic!("it asks again")
    };
    let mut other = Server { own: OTHER_SERVER, mood: Mood::Refusing, ..Server::new() };
    let answer = other.answer(message, None, world.now).unwrap();
    assert!(world.machine.step(Event::Received(&answer), world.now).is_empty());
}

#[test]
fn without_an_answer_the_lease_ends_on_time() {
    let mut world = World::bound();
    world.server.mood = Mood::Silent;
    world.until(10 + 3599);
    assert_eq!(world.address, Some(ADDRESS));
    world.until(10 + 3601);
    assert_eq!(world.address, None);
    assert!(world.kinds().contains(&"renew") && world.kinds().contains(&"rebind"));
    assert_eq!(world.kinds().last(), Some(&"discover"));
}

#[test]
fn endless_refusals_are_not_answered_with_a_storm() {
    let mut world = World::new(None);
    world.server.mood = Mood::Refusing;
    world.happen(Event::LinkUp);
    world.until(610);
    assert!(world.server.seen.len() < 50, "{:?}", world.server.seen);
}

#[test]
fn a_link_that_comes_back_keeps_its_lease_and_has_it_confirmed() {
    let mut world = World::bound();
    world.until(100);
    world.happen(Event::LinkDown);
    assert_eq!(world.address, Some(ADDRESS));
    world.until(200);
    assert!(world.server.seen.is_empty());
    world.happen(Event::LinkUp);
    assert_eq!(world.kinds(), ["reboot"]);

    world.happen(Event::LinkDown);
    world.server.mood = Mood::Silent;
    world.until(300);
    world.happen(Event::LinkUp);
    world.until(310);
    assert_eq!(world.address, Some(ADDRESS), "silence is no refusal");
    world.happen(Event::LinkDown);
    world.until(200 + 3601);
    assert_eq!(world.address, None, "it ends without a link, too");
}

#[test]
fn a_client_that_was_restarted_goes_on() {
    let held = World::bound().machine.held().unwrap().clone();
    let machine = Machine::adopt(HARDWARE, held, Random::new(2));
    let mut world = World { machine, address: Some(ADDRESS), ..World::new(None) };
    world.until(2000);
    assert_eq!(world.server.seen, [(1810, "renew")]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Link(bool),
    Wait(u32),
    Mood(Mood),
    Move(bool),
    Garbage(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mood = prop_oneof![Just(Mood::Generous), Just(Mood::Silent), Just(Mood::Refusing)];
    let step = prop_oneof![
        any::<bool>().prop_map(Step::Link),
        (0_u32..5000).prop_map(Step::Wait),
        mood.prop_map(Step::Mood),
        any::<bool>().prop_map(Step::Move),
        any::<u8>().prop_map(Step::Garbage),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    /// Whatever happens: an address is never used after its lease has ended, questions stay rare, and with a server
    /// that gives there is an address in the end.
    #[test]
    fn a_client_keeps_the_protocol(steps in steps()) {
        let mut world = World::new(None);
        world.happen(Event::LinkUp);
        for step in steps {
            match step {
                Step::Link(true) => world.happen(Event::LinkUp),
                Step::Link(false) => world.happen(Event::LinkDown),
                Step::Wait(seconds) => {
                    let before = world.server.seen.len();
                    world.until(world.now.as_secs() + u64::from(seconds));
                    let asked = world.server.seen.len() - before;
                    prop_assert!(asked <= 16 + usize::try_from(seconds).unwrap() / 10, "{asked} in {seconds} s");
                }
                Step::Mood(mood) => world.server.mood = mood,
                Step::Move(back) => world.server.own = if back { SERVER } else { OTHER_SERVER },
                Step::Garbage(byte) => world.happen(Event::Received(&[byte; 300])),
            }
            prop_assert!(world.machine.held().is_none_or(|held: &Held| world.now <= held.ends()));
        }
        world.server.mood = Mood::Generous;
        world.happen(Event::LinkUp);
        world.until(world.now.as_secs() + 4000);
        prop_assert_eq!(world.address, Some(ADDRESS));
    }
}
