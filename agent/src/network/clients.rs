//! DHCP clients on their links: the machines of `dhcp` with sockets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use dhcp::{Random, v4, v6};
use rustix::rand::{GetRandomFlags, getrandom};
use sys::console;

use super::frame;
use super::given::Given;
use super::store::{Remembered, Running, mac_text};

const SERVER: u16 = 67;
const CLIENT: u16 = 68;
const SERVER_SIX: u16 = 547;
const CLIENT_SIX: u16 = 546;
/// All_DHCP_Relay_Agents_and_Servers (RFC 8415, section 7.1).
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Larger than any frame: jumbo frames included, offloads put no datagrams together.
const LONGEST: usize = 1 << 16;

/// What a link needs of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) name: String,
    pub(super) hardware: [u8; 6],
    /// It can carry packets.
    pub(super) carrier: bool,
    /// DHCPv4, with the name to tell servers.
    pub(super) four: Option<Option<String>>,
    /// DHCPv6.
    pub(super) six: Option<v6::Mode>,
    /// Its link-local address, when it can be used.
    pub(super) link_local: Option<Ipv6Addr>,
}

/// The clients of all links, by number.
#[derive(Debug, Default)]
pub(super) struct Clients {
    four: BTreeMap<u32, Client4>,
    six: BTreeMap<u32, Client6>,
}

#[derive(Debug)]
struct Client4 {
    name: String,
    machine: v4::Machine,
    carrier: bool,
    socket: Option<File>,
    /// Holds the port while a server answers to the address itself.
    port: Option<UdpSocket>,
    said: Said,
}

#[derive(Debug)]
struct Client6 {
    name: String,
    machine: v6::Machine,
    from: Option<Ipv6Addr>,
    socket: Option<UdpSocket>,
    said: Said,
}

/// What kept a client from asking, so that it is said once.
#[derive(Debug, Default)]
struct Said(Option<io::ErrorKind>);

impl Said {
    fn note(&mut self, name: &str, result: io::Result<()>) {
        let kind = result.as_ref().err().map(io::Error::kind);
        if let Err(error) = result
            && self.0 != kind
        {
            console::warning(format_args!("network {name}: cannot ask by DHCP: {error}"));
        }
        self.0 = kind;
    }
}

impl Clients {
    /// Goes on with the leases of an agent before this one.
    pub(super) fn adopt(running: &Running, now: Duration) -> Self {
        let mut clients = Self::default();
        for (index, (hardware, held)) in &running.four {
            if held.ends() > now {
                let machine = v4::Machine::adopt(*hardware, held.clone(), random());
                clients.four.insert(*index, Client4 { carrier: true, ..Client4::new(machine) });
            }
        }
        for (index, (hardware, held)) in &running.six {
            if held.ends() > now {
                let machine = v6::Machine::adopt(*hardware, held.clone(), random());
                clients.six.insert(*index, Client6::new(machine));
            }
        }
        clients
    }

    /// The first link that has a lease.
    pub(super) fn first(&self) -> Option<u32> {
        self.four.keys().next().copied()
    }

    /// Has the clients that are needed, and no others. True when that has changed what is given.
    pub(super) fn set(
        &mut self,
        needs: &BTreeMap<u32, Needs>,
        remembered: &Remembered,
        now: Duration,
    ) -> bool {
        let before = (self.four.len(), self.six.len());
        self.four.retain(|index, client| {
            let needed = needs.get(index).filter(|needs| needs.four.is_some());
            needed.is_some_and(|needs| needs.hardware == client.machine.hardware())
        });
        self.six.retain(|index, client| {
            let needed = needs.get(index).filter(|needs| needs.six == Some(client.machine.mode()));
            needed.is_some_and(|needs| needs.hardware == client.machine.hardware())
        });
        let mut changed = before != (self.four.len(), self.six.len());
        for (index, needs) in needs {
            if let Some(host_name) = &needs.four {
                let client = self.four.entry(*index).or_insert_with(|| {
                    let address = remembered.get(&mac_text(needs.hardware)).copied();
                    Client4::new(v4::Machine::new(needs.hardware, address, random()))
                });
                client.name.clone_from(&needs.name);
                client.machine.set_host_name(host_name.clone());
                if client.carrier != needs.carrier {
                    client.carrier = needs.carrier;
                    let event = if needs.carrier { v4::Event::LinkUp } else { v4::Event::LinkDown };
                    changed |= client.step(*index, event, now);
                }
            }
            if let Some(mode) = needs.six {
                let client = self
                    .six
                    .entry(*index)
                    .or_insert_with(|| Client6::new(v6::Machine::new(needs.hardware, mode, random())));
                client.name.clone_from(&needs.name);
                let from = needs.link_local.filter(|_| needs.carrier);
                if client.from != from {
                    client.from = from;
                    client.socket = None;
                    let event = if from.is_some() { v6::Event::LinkUp } else { v6::Event::LinkDown };
                    changed |= client.step(*index, event, now);
                }
            }
        }
        changed
    }

    /// What is to be watched for reading.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let four = self.four.values().filter_map(|client| client.socket.as_ref().map(AsFd::as_fd));
        four.chain(self.six.values().filter_map(|client| client.socket.as_ref().map(AsFd::as_fd)))
    }

    /// When to [`turn`](Self::turn) although nothing can be read.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let four = self.four.values().filter_map(|client| client.machine.deadline());
        four.chain(self.six.values().filter_map(|client| client.machine.deadline())).min()
    }

    /// Reads what has come and does what the time asks for. True when that has changed what is given.
    pub(super) fn turn(&mut self, now: Duration) -> bool {
        let mut changed = false;
        for (index, client) in &mut self.four {
            for message in client.received() {
                changed |= client.step(*index, v4::Event::Received(&message), now);
            }
            if client.machine.deadline().is_some_and(|deadline| now >= deadline) {
                changed |= client.step(*index, v4::Event::Time, now);
            }
        }
        for (index, client) in &mut self.six {
            for message in client.received() {
                changed |= client.step(*index, v6::Event::Received(&message), now);
            }
            if client.machine.deadline().is_some_and(|deadline| now >= deadline) {
                changed |= client.step(*index, v6::Event::Time, now);
            }
        }
        changed
    }

    /// Puts what is given now into `given`.
    pub(super) fn collect(&self, given: &mut Given) {
        let four = self.four.iter();
        given.four = four.filter_map(|(index, c)| Some((*index, c.machine.held()?.clone()))).collect();
        let six = self.six.iter();
        given.six = six.filter_map(|(index, c)| Some((*index, c.machine.held()?.clone()))).collect();
    }

    /// What an agent after this one goes on with, as far as clients know it.
    pub(super) fn running(&self) -> Running {
        let four = self.four.iter();
        let six = self.six.iter();
        Running {
            four: four
                .filter_map(|(index, c)| Some((*index, (c.machine.hardware(), c.machine.held()?.clone()))))
                .collect(),
            six: six
                .filter_map(|(index, c)| Some((*index, (c.machine.hardware(), c.machine.held()?.clone()))))
                .collect(),
            ..Running::default()
        }
    }
}

impl Client4 {
    fn new(machine: v4::Machine) -> Self {
        let said = Said::default();
        Self { name: String::new(), machine, carrier: false, socket: None, port: None, said }
    }

    fn step(&mut self, index: u32, event: v4::Event<'_>, now: Duration) -> bool {
        let mut changed = false;
        for action in self.machine.step(event, now) {
            match action {
                v4::Action::Send { message, from, to } => {
                    let sent = self.send(index, &message, from, to);
                    self.said.note(&self.name, sent);
                }
                v4::Action::Given(_) => changed = true,
                v4::Action::Lost(lease) => {
                    let name = &self.name;
                    console::warning(format_args!(
                        "network {name}: the lease of {} has ended",
                        lease.address
                    ));
                    changed = true;
                }
            }
        }
        if !self.machine.listens() {
            self.socket = None;
            self.port = None;
        }
        changed
    }

    fn send(&mut self, index: u32, message: &[u8], from: Ipv4Addr, to: Option<Ipv4Addr>) -> io::Result<()> {
        // It hears every answer, whomever it is addressed to: some servers answer a renewal by broadcast.
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(File::from(sys::packet::open(index, CLIENT)?)),
        };
        match to {
            None => socket.write_all(&frame::to_server(self.machine.hardware(), from, message)),
            Some(server) => {
                self.port = None;
                let port = UdpSocket::bind((from, CLIENT))?;
                port.send_to(message, (server, SERVER))?;
                self.port = Some(port);
                Ok(())
            }
        }
    }

    fn received(&mut self) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut buffer = vec![0; LONGEST];
        while let Some(socket) = &mut self.socket {
            match socket.read(&mut buffer) {
                Ok(length) => {
                    messages.extend(buffer.get(..length).and_then(frame::from_server).map(<[u8]>::to_vec));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A link that is off says so once; what is asked next opens the socket anew.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.socket = None,
                Err(_) => break,
            }
        }
        messages
    }
}

impl Client6 {
    fn new(machine: v6::Machine) -> Self {
        Self { name: String::new(), machine, from: None, socket: None, said: Said::default() }
    }

    fn step(&mut self, index: u32, event: v6::Event<'_>, now: Duration) -> bool {
        let mut changed = false;
        for action in self.machine.step(event, now) {
            match action {
                v6::Action::Send(message) => {
                    let sent = self.send(index, &message);
                    self.said.note(&self.name, sent);
                }
                v6::Action::Given(_) => changed = true,
                v6::Action::Lost(lease) => {
                    if let Some(address) = lease.address {
                        let name = &self.name;
                        console::warning(format_args!("network {name}: the lease of {address} has ended"));
                    }
                    changed = true;
                }
            }
        }
        if !self.machine.listens() {
            self.socket = None;
        }
        changed
    }

    fn send(&mut self, index: u32, message: &[u8]) -> io::Result<()> {
        let from = self.from.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => {
                let socket = UdpSocket::bind(SocketAddrV6::new(from, CLIENT_SIX, 0, index))?;
                socket.set_nonblocking(true)?;
                none.insert(socket)
            }
        };
        socket.send_to(message, SocketAddrV6::new(ALL_SERVERS, SERVER_SIX, 0, index)).map(drop)
    }

    fn received(&mut self) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut buffer = vec![0; LONGEST];
        while let Some(socket) = &self.socket {
            match socket.recv(&mut buffer) {
                Ok(length) => messages.extend(buffer.get(..length).map(<[u8]>::to_vec)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.socket = None,
                Err(_) => break,
            }
        }
        messages
    }
}

/// Numbers that differ between machines. The kernel has had randomness since long before there was a link.
fn random() -> Random {
    let mut seed = [0; 8];
    if let Err(error) = getrandom(&mut seed, GetRandomFlags::empty()) {
        console::warning(format_args!("network: cannot get random numbers: {error}"));
    }
    Random::new(u64::from_ne_bytes(seed))
}
