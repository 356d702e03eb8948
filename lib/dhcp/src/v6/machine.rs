//! The client's state machine (RFC 8415, section 18.2).
//!
//! | state | waits for | then |
//! |---|---|---|
//! | stopped | the link | rebinding when it holds an address, else soliciting or informing |
//! | soliciting | an advertisement: the first one that has an address | requesting |
//! | requesting | a reply | bound; refused or silent: soliciting |
//! | informing | a reply | bound, without an address |
//! | bound | T1, or the time to refresh | renewing or informing |
//! | renewing | a reply by the server | bound; refused: soliciting; T2: rebinding |
//! | rebinding | a reply by any server | bound; refused or expired: soliciting |
//!
//! An address that was held before the link went down is confirmed by rebinding, which also tells whether the lease
//! has changed; *Confirm* messages are therefore not needed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::{Lease, Mode, Question, Reply, message, reply};
use crate::Random;
use crate::retry::{Exchange, Pace};

/// RFC 8415, section 7.6.
const fn pace(first: u64, longest: u64, times: Option<u32>) -> Pace {
    Pace { first: Duration::from_secs(first), longest: Duration::from_secs(longest), times }
}
const SOLICIT: Pace = pace(1, 3600, None);
const REQUEST: Pace = pace(1, 30, Some(10));
const RENEW: Pace = pace(10, 600, None);
const INFORMATION: Pace = pace(1, 3600, None);

/// How long nothing is asked after a refusal.
const PAUSE: Duration = Duration::from_secs(10);

/// A lease and when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    /// When it was asked for.
    pub since: Duration,
}

impl Held {
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
    /// The link can carry packets, and has a link-local address.
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
    /// This is to be sent to all servers on the link.
    Send(Vec<u8>),
    /// The lease is there, or goes on with what it says now.
    Given(Held),
    /// The lease has ended.
    Lost(Lease),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Stopped,
    Waiting { until: Duration },
    Soliciting(Exchange),
    Requesting(Exchange, Box<Lease>),
    Informing(Exchange),
    Bound,
    Renewing(Exchange),
    Rebinding(Exchange),
}

/// The client of one link.
#[derive(Clone, Debug)]
pub struct Machine {
    hardware: [u8; 6],
    mode: Mode,
    random: Random,
    state: State,
    /// The lease, in every state.
    held: Option<Held>,
}

impl Machine {
    /// A client that is stopped.
    pub fn new(hardware: [u8; 6], mode: Mode, random: Random) -> Self {
        Self { hardware, mode, random, state: State::Stopped, held: None }
    }

    /// A client that goes on with a lease as if it had never been interrupted.
    pub fn adopt(hardware: [u8; 6], held: Held, random: Random) -> Self {
        let mode = if held.lease.address.is_some() { Mode::Address } else { Mode::Information };
        Self { state: State::Bound, held: Some(held), ..Self::new(hardware, mode, random) }
    }

    /// The station that it is the client of.
    pub fn hardware(&self) -> [u8; 6] {
        self.hardware
    }

    /// What it asks for.
    pub fn mode(&self) -> Mode {
        self.mode
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
            State::Soliciting(exchange)
            | State::Requesting(exchange, _)
            | State::Informing(exchange)
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
            State::Soliciting(exchange)
            | State::Requesting(exchange, _)
            | State::Informing(exchange)
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
                self.state = self.asking(now);
            }
        }
        match event {
            Event::LinkUp if self.state == State::Stopped => self.state = self.asking(now),
            Event::LinkDown => self.state = State::Stopped,
            Event::Received(bytes) => self.receive(bytes, now, &mut actions),
            Event::LinkUp | Event::Time => {}
        }
        self.advance(now, &mut actions);
        actions
    }

    /// The state in which servers are asked, with or without an address that is held.
    fn asking(&mut self, now: Duration) -> State {
        let exchange = Exchange::new(now, &mut self.random);
        match (self.mode, &self.held) {
            (Mode::Information, _) => State::Informing(exchange),
            (Mode::Address, Some(_)) => State::Rebinding(exchange),
            (Mode::Address, None) => State::Soliciting(exchange),
        }
    }

    fn receive(&mut self, bytes: &[u8], now: Duration, actions: &mut Vec<Action>) {
        let Some(exchange) = self.exchange().cloned() else { return };
        let Some(reply) = reply(bytes, self.hardware, exchange.id, self.mode) else { return };
        match (&self.state, reply) {
            (State::Soliciting(_), Reply::Advertise(offer)) => {
                self.state = State::Requesting(Exchange::new(now, &mut self.random), offer);
            }
            (State::Soliciting(_), _) | (_, Reply::Advertise(_)) => {}
            (_, Reply::Given(lease)) => {
                if self.held.as_ref().is_some_and(|held| held.lease.address != lease.address) {
                    self.lose(actions);
                }
                let held = Held { lease: *lease, since: exchange.sent };
                self.held = Some(held.clone());
                self.state = State::Bound;
                actions.push(Action::Given(held));
            }
            (State::Informing(_), Reply::Refused) => {}
            (_, Reply::Refused) => {
                self.lose(actions);
                self.state = State::Waiting { until: now + PAUSE };
            }
        }
    }

    /// Does what the time asks for.
    fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let [renew, rebind, _] = self.held.as_ref().map_or([Duration::MAX; 3], Held::deadlines);
        match &self.state {
            State::Waiting { until } if now >= *until => self.state = self.asking(now),
            State::Bound if now >= renew && self.mode == Mode::Information => self.state = self.asking(now),
            State::Bound | State::Renewing(_) if now >= rebind => {
                self.state = State::Rebinding(Exchange::new(now, &mut self.random));
            }
            State::Bound if now >= renew => {
                self.state = State::Renewing(Exchange::new(now, &mut self.random));
            }
            _ => {}
        }
        let Some(exchange) = self.exchange().filter(|exchange| now >= exchange.next) else { return };
        let mut exchange = exchange.clone();
        let leased =
            self.held.as_ref().and_then(|held| Some((held.lease.address?, held.lease.server.clone())));
        let (question, pace) = match (&self.state, leased) {
            (State::Requesting(_, offer), _) => match offer.address {
                Some(address) => (Question::Request(address, offer.server.clone()), REQUEST),
                None => (Question::Solicit, SOLICIT),
            },
            (State::Renewing(_), Some((address, server))) => (Question::Renew(address, server), RENEW),
            (State::Rebinding(_), Some((address, _))) => (Question::Rebind(address), RENEW),
            (State::Informing(_), _) => (Question::Information, INFORMATION),
            _ => (Question::Solicit, SOLICIT),
        };
        if !exchange.ask(pace, now, &mut self.random) {
            self.state = State::Waiting { until: now + PAUSE };
            return;
        }
        let elapsed = now.saturating_sub(exchange.begun);
        actions.push(Action::Send(message(&question, self.hardware, exchange.id, elapsed)));
        match &mut self.state {
            State::Soliciting(own)
            | State::Requesting(own, _)
            | State::Informing(own)
            | State::Renewing(own)
            | State::Rebinding(own) => *own = exchange,
            State::Stopped | State::Waiting { .. } | State::Bound => {}
        }
    }

    fn lose(&mut self, actions: &mut Vec<Action>) {
        if let Some(held) = self.held.take() {
            actions.push(Action::Lost(held.lease));
        }
    }
}
