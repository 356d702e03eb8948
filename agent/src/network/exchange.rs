//! Questions to DHCP servers, and their answers in time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
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
    Server(UdpSocket, SocketAddr),
}

impl Client {
    /// Asks every server on the link. The socket hears all IPv4 traffic of the link, so it lives for one exchange.
    pub(super) fn broadcast(link: &Link) -> io::Result<Self> {
        let socket = File::from(sys::packet::open(link.index)?);
        Ok(Self { hardware: link.address, channel: Channel::Frames(socket, Ipv4Addr::UNSPECIFIED) })
    }

    /// Asks the server that gave the lease. Some servers answer this by broadcast, which a socket that is bound to the
    /// address, or connected, does not hear; so it takes what comes from anywhere, and the transaction id tells.
    pub(super) fn unicast(lease: &Lease, hardware: [u8; 6]) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68))?;
        Ok(Self { hardware, channel: Channel::Server(socket, (lease.server, 67).into()) })
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
            Channel::Server(socket, server) => drop(socket.send_to(&bytes, *server)?),
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
                Channel::Server(socket, _) => {
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

#[cfg(test)]
mod tests {
    use std::thread;

    use dhcproto::v4::{DhcpOption, Message, MessageType};
    use dhcproto::{Decodable, Decoder, Encodable, Encoder};

    use super::*;

    const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn lease() -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            server: Ipv4Addr::new(10, 0, 2, 2),
            routes: Vec::new(),
            name_servers: Vec::new(),
            search: Vec::new(),
            mtu: None,
            times: [Duration::from_secs(60); 3],
        }
    }

    /// Renews with a server that sends these answers, each by another socket than the one that was asked.
    fn renew_with(answers: &'static [(MessageType, u32)]) -> Answer {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let channel = Channel::Server(socket, server.local_addr().unwrap());
        let serving = thread::spawn(move || {
            let mut buffer = [0; 1500];
            let (length, mut client) = server.recv_from(&mut buffer).unwrap();
            client.set_ip(Ipv4Addr::LOCALHOST.into());
            let asked = Message::decode(&mut Decoder::new(&buffer[..length])).unwrap();
            for (kind, add_to_id) in answers {
                let mut answer = Message::default();
                answer
                    .set_xid(asked.xid().wrapping_add(*add_to_id))
                    .set_chaddr(&HARDWARE)
                    .set_yiaddr(asked.ciaddr());
                answer.opts_mut().insert(DhcpOption::MessageType(*kind));
                answer.opts_mut().insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 2, 2)));
                let mut bytes = Vec::new();
                answer.encode(&mut Encoder::new(&mut bytes)).unwrap();
                UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&bytes, client).unwrap();
            }
        });
        let answer =
            Client { hardware: HARDWARE, channel }.renew(&lease(), Duration::from_millis(500)).unwrap();
        serving.join().unwrap();
        answer
    }

    #[test]
    fn an_ack_goes_on_with_the_lease() {
        let answer = renew_with(&[(MessageType::Ack, 0)]);
        assert!(
            matches!(&answer, Answer::Lease(renewed) if renewed.address == lease().address),
            "{answer:?}"
        );
    }

    #[test]
    fn a_nak_ends_it() {
        assert!(matches!(renew_with(&[(MessageType::Nak, 0)]), Answer::Refused));
    }

    #[test]
    fn answers_to_others_and_offers_are_silence() {
        assert!(matches!(renew_with(&[(MessageType::Nak, 1), (MessageType::Offer, 0)]), Answer::Silence));
        assert!(matches!(renew_with(&[(MessageType::Nak, 1), (MessageType::Ack, 0)]), Answer::Lease(_)));
    }
}
