//! A name server on every bridge.
//!
//! It listens at the bridge's address only, and knows a container by the address that it asks from: each sees the names of
//! the networks that it is in, and no others. What is not such a name is asked of the node's name servers, as it came.
//! Nothing is remembered: the resolvers of programs and those servers do that.

mod forward;
mod view;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use sys::console;

use super::{Networks, running};
use view::{Decision, View};

const PORT: u16 = 53;

/// What one network may ask of other servers at the same time: a container that floods takes nothing from other networks.
const AT_ONCE: usize = 32;

/// How long a client of TCP may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// How long until an address that cannot be had is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// A thread that answers needs little.
const STACK: usize = 128 << 10;

/// The largest message over TCP.
const MAX_TCP: usize = 65_535;

/// The servers that run, by the address that they listen at. One ends when its end of the pipe is closed.
#[derive(Debug, Default)]
pub(super) struct Servers {
    running: BTreeMap<Ipv4Addr, OwnedFd>,
    view: Arc<Mutex<Arc<View>>>,
}

impl Servers {
    /// Serves these networks from now on.
    pub(super) fn serve(&mut self, networks: &Networks) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(View::of(networks));
        let wanted: Vec<Ipv4Addr> =
            networks.networks.values().map(|network| network.bridge.gateway).collect();
        self.running.retain(|address, _| wanted.contains(address));
        for address in wanted {
            if self.running.contains_key(&address) {
                continue;
            }
            match start(address, Arc::clone(&self.view)) {
                Ok(end) => drop(self.running.insert(address, end)),
                Err(error) => {
                    console::error(format_args!("cannot start the name server at {address}: {error}"))
                }
            }
        }
    }
}

fn start(address: Ipv4Addr, view: Arc<Mutex<Arc<View>>>) -> io::Result<OwnedFd> {
    let (stop, end) = pipe_with(PipeFlags::CLOEXEC)?;
    let server = Server { address, view, stop, busy: Arc::default() };
    thread::Builder::new().name("names".to_owned()).stack_size(STACK).spawn(move || server.run())?;
    Ok(end)
}

/// One server.
#[derive(Debug)]
struct Server {
    address: Ipv4Addr,
    view: Arc<Mutex<Arc<View>>>,
    stop: OwnedFd,
    /// Questions that are being passed on, and clients of TCP.
    busy: Arc<AtomicUsize>,
}

/// A place among those that are busy.
struct Turn(Arc<AtomicUsize>);

impl Turn {
    fn take(busy: &Arc<AtomicUsize>) -> Option<Self> {
        if busy.fetch_add(1, Ordering::Relaxed) < AT_ONCE {
            return Some(Self(Arc::clone(busy)));
        }
        busy.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// Answers until it is stopped. Whatever fails is tried again: a program may have the address for a while.
    fn run(self) {
        let mut said = String::new();
        while let Err(error) = self.listen() {
            let error = error.to_string();
            if said != error {
                console::error(format_args!("name server at {}: {error}", self.address));
                said = error;
            }
            if self.is_stopped(PAUSE) {
                return;
            }
        }
    }

    fn is_stopped(&self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).ok();
        poll(&mut [PollFd::new(&self.stop, PollFlags::IN)], limit.as_ref()).is_ok_and(|ready| ready > 0)
    }

    fn listen(&self) -> io::Result<()> {
        let udp = Arc::new(UdpSocket::bind((self.address, PORT))?);
        let tcp = TcpListener::bind((self.address, PORT))?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        loop {
            let mut wanted = [
                PollFd::new(&self.stop, PollFlags::IN),
                PollFd::new(&*udp, PollFlags::IN),
                PollFd::new(&tcp, PollFlags::IN),
            ];
            match poll(&mut wanted, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [stop, datagram, connection] = wanted.map(|fd| !fd.revents().is_empty());
            if stop {
                return Ok(());
            }
            if datagram {
                self.datagram(&udp);
            }
            if connection && let Ok((stream, client)) = tcp.accept() {
                self.connection(stream, client);
            }
        }
    }

    fn decide(&self, client: SocketAddr, message: &[u8], limit: usize) -> Decision {
        let view = Arc::clone(&self.view.lock().unwrap_or_else(PoisonError::into_inner));
        view.decide(client.ip(), message, limit, running)
    }

    /// Answers one datagram; one that has to be passed on by a thread of its own.
    fn datagram(&self, socket: &Arc<UdpSocket>) {
        let mut buffer = [0; 4096];
        // Nothing there, or a complaint about an answer that nobody took: the next one is waited for.
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { return };
        let message = buffer[..length].to_vec();
        let answer = match self.decide(client, &message, dns::MAX_UDP) {
            Decision::Silence => return,
            Decision::Answer(answer) => answer,
            Decision::Ask { query, servers } => {
                let Some(turn) = Turn::take(&self.busy) else { return };
                let socket = Arc::clone(socket);
                let ask = move || {
                    let _turn = turn;
                    let servers = servers.unwrap_or_else(node_servers);
                    let answer = forward::udp(&query, &message, &servers);
                    // Who asked may be gone.
                    socket.send_to(&answer, client).ok();
                };
                spawn(ask);
                return;
            }
        };
        socket.send_to(&answer, client).ok();
    }

    /// Answers what comes by one connection.
    fn connection(&self, stream: TcpStream, client: SocketAddr) {
        let Some(turn) = Turn::take(&self.busy) else { return };
        let view = Arc::clone(&self.view);
        spawn(move || {
            let _turn = turn;
            // A client that goes away or talks nonsense has lost its connection, and that is all.
            converse(stream, client, &view).ok();
        });
    }
}

fn converse(mut stream: TcpStream, client: SocketAddr, view: &Mutex<Arc<View>>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        let view = Arc::clone(&view.lock().unwrap_or_else(PoisonError::into_inner));
        let answer = match view.decide(client.ip(), &message, MAX_TCP, running) {
            Decision::Silence => return Ok(()),
            Decision::Answer(answer) => answer,
            Decision::Ask { query, servers } => {
                forward::tcp(&query, &message, &servers.unwrap_or_else(node_servers))
            }
        };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        stream.write_all(&[length.to_be_bytes().as_slice(), &answer].concat())?;
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name("names".to_owned()).stack_size(STACK).spawn(work) {
        console::warning(format_args!("a question for a name is not answered: {error}"));
    }
}

/// The node's own name servers: what `/etc/resolv.conf` says at this moment, whoever wrote it.
fn node_servers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let words = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        words.next().filter(|word| word == "nameserver").and(words.next())
    };
    text.lines().filter_map(words).filter_map(|server| server.parse().ok()).collect()
}
