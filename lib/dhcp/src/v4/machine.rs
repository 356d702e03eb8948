//! The client's state machine (RFC 2131, figure 5).
//!
//! | state | waits for | then |
//! |---|---|---|
//! | stopped | the link | rebooting when it holds or remembers an address, else selecting |
//! | waiting | the end of a pause after a refusal | selecting |
//! | selecting | an offer | requesting |
//! | requesting | an acknowledgement | bound; refused or silent: waiting or selecting |
//! | rebooting | an acknowledgement of the old address | bound; refused: waiting; silent: bound when the lease holds, else selecting |
//! | bound | T1 | renewing |
//! | renewing | an acknowledgement by the server | bound; refused: waiting; T2: rebinding |
//! | rebinding | an acknowledgement by any server | bound; refused or expired: selecting |

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::{Lease, Question, Reply, message, reply};
use crate::Random;
use crate::retry::{Exchange, Pace};

/// For an address: RFC 2131, section 4.1, begins with 4 s; a virtual network answers in milliseconds, and the first
/// frames after a link comes up are often lost.
const DISCOVER: Pace = Pace { first: Duration::from_secs(1), longest: Duration::from_secs(64), times: None };

/// For the address that was offered.
const REQUEST: Pace = Pace { times: Some(4), ..DISCOVER };

/// For the address of before: a server that does not know it may be silent (RFC 2131, section 4.3.2), and the boot waits.
const REBOOT: Pace = Pace { times: Some(2), ..DISCOVER };

/// Renewals are not tried more often than this (RFC 2131, section 4.4.5).
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// The first pause when refusals follow each other; each is twice as long as the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// A lease and when it was asked for, from which its times count (RFC 2131, section 4.4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    /// When it was asked for.
    pub since: Duration,
}

impl Held {
    /// When to renew, when to ask any server, when it ends.
    fn deadlines(&self) -> [Duration; 3] {
        self.lease.times.map(|time| self.since.saturating_add(time))
    }

    /// When it ends.
    pub fn ends(&self) -> Duration {
        self.deadlines()[2]
    }
}

/// What happens to a client.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The link can carry frames.
    LinkUp,
    /// It cannot. The lease stays.
    LinkDown,
    /// A message for the client's port has come.
    Received(&'a [u8]),
    /// Time has passed; to be said at [`Machine::deadline`].
    Time,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A message is to be sent.
    Send {
        /// Its bytes.
        message: Vec<u8>,
        /// The address to send it from; 0.0.0.0 when there is none.
        from: Ipv4Addr,
        /// To this server, else to every station.
        to: Option<Ipv4Addr>,
    },
    /// The lease is there, or goes on with what it says now.
    Given(Held),
    /// The lease has ended.
    Lost(Lease),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Stopped,
    Waiting { until: Duration },
    Selecting(Exchange),
    Requesting(Exchange, Box<Lease>),
    Rebooting(Exchange, Ipv4Addr),
    Bound,
    Renewing(Exchange),
    Rebinding(Exchange),
}

/// The client of one link.
#[derive(Clone, Debug)]
pub struct Machine {
    hardware: [u8; 6],
    host_name: Option<String>,
    random: Random,
    state: State,
    /// The lease, in every state: it goes on while its renewal is asked for and while the link is down.
    held: Option<Held>,
    /// The address to ask for first.
    remembered: Option<Ipv4Addr>,
    /// How often in a row a server has refused.
    refused: u32,
}

impl Machine {
    /// A client that is stopped. It asks for the address `remembered` first.
    pub fn new(hardware: [u8; 6], remembered: Option<Ipv4Addr>, random: Random) -> Self {
        Self { hardware, host_name: None, random, state: State::Stopped, held: None, remembered, refused: 0 }
    }

    /// A client that goes on with a lease as if it had never been interrupted.
    pub fn adopt(hardware: [u8; 6], held: Held, random: Random) -> Self {
        let machine = Self::new(hardware, Some(held.lease.address), random);
        Self { state: State::Bound, held: Some(held), ..machine }
    }

    /// The name to tell servers from now on.
    pub fn set_host_name(&mut self, name: Option<String>) {
        self.host_name = name;
    }

    /// The station that it is the client of.
    pub fn hardware(&self) -> [u8; 6] {
        self.hardware
    }

    /// The lease, while there is one.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Whether it waits for a message.
    pub fn listens(&self) -> bool {
        self.exchange().is_some()
    }

    fn exchange(&self) -> Option<&Exchange> {
        match &self.state {
            State::Selecting(exchange)
            | State::Requesting(exchange, _)
            | State::Rebooting(exchange, _)
            | State::Renewing(exchange)
            | State::Rebinding(exchange) => Some(exchange),
            State::Stopped | State::Waiting { .. } | State::Bound => None,
        }
    }

    /// When the time is to be said next.
    pub fn deadline(&self) -> Option<Duration> {
        let [renew, rebind, end] = self.held.as_ref().map(Held::deadlines).map_or([None; 3], |d| d.map(Some));
        let own = match &self.state {
            State::Stopped => None,
            State::Waiting { until } => Some(*until),
            State::Bound => renew,
            State::Renewing(exchange) => rebind.map(|rebind| rebind.min(exchange.next)),
            State::Selecting(exchange)
            | State::Requesting(exchange, _)
            | State::Rebooting(exchange, _)
            | State::Rebinding(exchange) => Some(exchange.next),
        };
        [own, end].into_iter().flatten().min()
    }

    /// Takes an event.
    #[must_use]
    pub fn step(&mut self, event: Event<'_>, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.held.as_ref().is_some_and(|held| now >= held.ends()) {
            self.lose(&mut actions);
            if self.state != State::Stopped {
                self.state = self.selecting(now);
            }
        }
        match event {
            Event::LinkUp if self.state == State::Stopped => {
                let exchange = Exchange::new(now, &mut self.random);
                self.state = match self.remembered {
                    Some(address) => State::Rebooting(exchange, address),
                    None => State::Selecting(exchange),
                };
            }
            Event::LinkDown => self.state = State::Stopped,
            Event::Received(bytes) => self.receive(bytes, now, &mut actions),
            Event::LinkUp | Event::Time => {}
        }
        self.advance(now, &mut actions);
        actions
    }

    fn receive(&mut self, bytes: &[u8], now: Duration, actions: &mut Vec<Action>) {
        let Some(exchange) = self.exchange().cloned() else { return };
        let Some(reply) = reply(bytes, self.hardware, exchange.id) else { return };
        match (&self.state, reply) {
            (State::Selecting(_), Reply::Offer(offer)) => {
                // With the id of the offer (RFC 2131, table 5).
                let request = Exchange { id: exchange.id, ..Exchange::new(now, &mut self.random) };
                self.state = State::Requesting(request, offer);
            }
            (State::Selecting(_), _) | (_, Reply::Offer(_)) => {}
            (_, Reply::Ack(lease)) => {
                // Another address takes the place of the one that was held.
                if self.held.as_ref().is_some_and(|held| held.lease.address != lease.address) {
                    self.lose(actions);
                }
                let held = Held { lease: *lease, since: exchange.sent };
                self.remembered = Some(held.lease.address);
                self.held = Some(held.clone());
                self.refused = 0;
                self.state = State::Bound;
                actions.push(Action::Given(held));
            }
            (_, Reply::Nak { server }) => {
                let asked = match &self.state {
                    State::Requesting(_, offer) => Some(offer.server),
                    State::Renewing(_) => self.held.as_ref().map(|held| held.lease.server),
                    _ => None,
                };
                if server.is_some() && asked.is_some() && server != asked {
                    return;
                }
                self.lose(actions);
                self.remembered = None;
                let pause = match self.refused {
                    0 => Duration::ZERO,
                    more => FIRST_PAUSE.saturating_mul(1_u32.checked_shl(more - 1).unwrap_or(u32::MAX)),
                };
                self.refused += 1;
                self.state = State::Waiting { until: now + pause.min(LONGEST_PAUSE) };
            }
        }
    }

    /// Does what the time asks for.
    fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let [renew, rebind, end] = self.held.as_ref().map_or([Duration::MAX; 3], Held::deadlines);
        match &self.state {
            State::Waiting { until } if now >= *until => self.state = self.selecting(now),
            State::Bound if now >= rebind => {
                self.state = State::Rebinding(Exchange::new(now, &mut self.random));
            }
            State::Bound if now >= renew => {
                self.state = State::Renewing(Exchange::new(now, &mut self.random));
            }
            State::Renewing(_) if now >= rebind => {
                self.state = State::Rebinding(Exchange::new(now, &mut self.random));
            }
            _ => {}
        }
        let Some(exchange) = self.exchange().filter(|exchange| now >= exchange.next) else { return };
        let mut exchange = exchange.clone();
        let leased = self.held.as_ref().map(|held| (held.lease.address, held.lease.server));
        let (question, from, to) = match (&self.state, leased) {
            (State::Requesting(_, offer), _) => {
                if !exchange.ask(REQUEST, now, &mut self.random) {
                    self.state = self.selecting(now);
                    return self.advance(now, actions);
                }
                let question = Question::Request { address: offer.address, server: offer.server };
                (question, Ipv4Addr::UNSPECIFIED, None)
            }
            (State::Rebooting(_, address), _) => {
                let address = *address;
                if !exchange.ask(REBOOT, now, &mut self.random) {
                    // RFC 2131, section 3.2, step 3: a lease that has not ended may be used on.
                    let held = self.held.is_some();
                    self.state = if held { State::Bound } else { self.selecting(now) };
                    return self.advance(now, actions);
                }
                (Question::Reboot { address }, Ipv4Addr::UNSPECIFIED, None)
            }
            (State::Renewing(_), Some((address, server))) => {
                exchange.ask(half(rebind, now), now, &mut self.random);
                (Question::Renew { address }, address, Some(server))
            }
            (State::Rebinding(_), Some((address, _))) => {
                exchange.ask(half(end, now), now, &mut self.random);
                (Question::Renew { address }, address, None)
            }
            _ => {
                exchange.ask(DISCOVER, now, &mut self.random);
                (Question::Discover, Ipv4Addr::UNSPECIFIED, None)
            }
        };
        let bytes = message(question, self.hardware, exchange.id, self.host_name.as_deref());
        match &mut self.state {
            State::Selecting(own)
            | State::Requesting(own, _)
            | State::Rebooting(own, _)
            | State::Renewing(own)
            | State::Rebinding(own) => *own = exchange,
            State::Stopped | State::Waiting { .. } | State::Bound => {}
        }
        actions.push(Action::Send { message: bytes, from, to });
    }

    fn selecting(&mut self, now: Duration) -> State {
        State::Selecting(Exchange::new(now, &mut self.random))
    }

    fn lose(&mut self, actions: &mut Vec<Action>) {
        if let Some(held) = self.held.take() {
            actions.push(Action::Lost(held.lease));
        }
    }
}

/// Half of what is left until the next step of the protocol (RFC 2131, section 4.4.5).
fn half(step: Duration, now: Duration) -> Pace {
    let wait = (step.saturating_sub(now) / 2).max(RENEWAL_PAUSE);
    Pace { first: wait, longest: wait, times: None }
}
