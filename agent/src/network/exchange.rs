//! Questions to DHCP servers, and their answers in time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::rand::{GetRandomFlags, getrandom};

use super::dhcp::{Lease, Question, Reply, message, reply};
use super::frame;
use super::link::Link;

/// What became of a lease that was to be renewed.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// It goes on, or another one takes its place.
    Lease(Box<Lease>),
    /// It has ended.
    Refused,
    /// Nobody answered.
    Silence,
}

/// A client for one exchange.
#[derive(Debug)]
pub(super) struct Client {
    hardware: [u8; 6],
    channel: Channel,
}

/// How messages travel.
#[derive(Debug)]
enum Channel {
    /// As frames to every station, from this address.
    Frames(File, Ipv4Addr),
    /// To the server that gave the lease.
    Server(UdpSocket),
}

impl Client {
    /// Asks every server on the link. The socket hears all IPv4 traffic of the link, so it lives for one exchange.
    pub(super) fn broadcast(link: &Link) -> io::Result<Self> {
        let socket = File::from(sys::packet::open(link.index)?);
        Ok(Self { hardware: link.address, channel: Channel::Frames(socket, Ipv4Addr::UNSPECIFIED) })
    }

    /// Asks the server that gave the lease.
    pub(super) fn unicast(lease: &Lease, hardware: [u8; 6]) -> io::Result<Self> {
        let socket = UdpSocket::bind((lease.address, 68))?;
        socket.connect((lease.server, 67))?;
        Ok(Self { hardware, channel: Channel::Server(socket) })
    }

    /// Asks for a lease; `None` when nobody gives one in time.
    pub(super) fn acquire(&mut self, wait: Duration) -> io::Result<Option<Lease>> {
        let id = transaction()?;
        let offer = match self.ask(Question::Discover, id, wait, |reply| matches!(reply, Reply::Offer(_)))? {
            Some(Reply::Offer(offer)) => offer,
            _ => return Ok(None),
        };
        let question = Question::Request { address: offer.address, server: offer.server };
        match self.ask(question, id, wait, |reply| !matches!(reply, Reply::Offer(_)))? {
            Some(Reply::Ack(lease)) => Ok(Some(*lease)),
            _ => Ok(None),
        }
    }

    /// Asks to keep a lease.
    pub(super) fn renew(&mut self, lease: &Lease, wait: Duration) -> io::Result<Answer> {
        if let Channel::Frames(_, from) = &mut self.channel {
            *from = lease.address;
        }
        let question = Question::Renew { address: lease.address };
        Ok(match self.ask(question, transaction()?, wait, |reply| !matches!(reply, Reply::Offer(_)))? {
            Some(Reply::Ack(lease)) => Answer::Lease(lease),
            Some(Reply::Nak) => Answer::Refused,
            _ => Answer::Silence,
        })
    }

    /// Sends a question and waits for an answer that is wanted.
    fn ask(
        &mut self,
        question: Question,
        id: u32,
        wait: Duration,
        wanted: impl Fn(&Reply) -> bool,
    ) -> io::Result<Option<Reply>> {
        let bytes = message(question, self.hardware, id);
        match &mut self.channel {
            Channel::Frames(socket, from) => {
                socket.write_all(&frame::to_server(self.hardware, *from, &bytes))?;
            }
            Channel::Server(socket) => drop(socket.send(&bytes)?),
        }
        let end = Instant::now() + wait;
        // Larger than any frame: jumbo frames included, offloads put no datagrams together.
        let mut buffer = vec![0; 1 << 16];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let received = match &mut self.channel {
                Channel::Frames(socket, _) => {
                    set_socket_timeout(&*socket, Timeout::Recv, Some(left))?;
                    socket.read(&mut buffer).map(|length| frame::from_server(&buffer[..length]))
                }
                Channel::Server(socket) => {
                    socket.set_read_timeout(Some(left))?;
                    socket.recv(&mut buffer).map(|length| buffer.get(..length))
                }
            };
            let payload = match received {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                result => result?,
            };
            if let Some(reply) = payload.and_then(|bytes| reply(bytes, self.hardware, id)).filter(&wanted) {
                return Ok(Some(reply));
            }
        }
    }
}

fn transaction() -> io::Result<u32> {
    let mut id = [0; 4];
    getrandom(&mut id, GetRandomFlags::empty())?;
    Ok(u32::from_ne_bytes(id))
}
