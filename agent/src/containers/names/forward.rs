//! Asks other name servers, one after the other, and gives back what they say as it is.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use dns::{Code, MAX_UDP, Query};

use super::{MAX_TCP, PORT};

/// How long a server may take. A resolver in a container asks again after 5 seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many servers are asked, and how often each over UDP, where a packet may be lost.
const MOST: usize = 3;
const ROUNDS: usize = 2;

/// The answer to a question that came over UDP.
pub(super) fn udp(query: &Query, message: &[u8], servers: &[IpAddr]) -> Vec<u8> {
    ask(query, servers, ROUNDS, MAX_UDP, |server| ask_udp(query, message, server))
}

/// The answer to one that came over TCP.
pub(super) fn tcp(query: &Query, message: &[u8], servers: &[IpAddr]) -> Vec<u8> {
    ask(query, servers, 1, MAX_TCP, |server| ask_tcp(query, message, server))
}

fn ask(
    query: &Query,
    servers: &[IpAddr],
    rounds: usize,
    limit: usize,
    one: impl Fn(SocketAddr) -> io::Result<Vec<u8>>,
) -> Vec<u8> {
    let servers: Vec<SocketAddr> =
        servers.iter().take(MOST).map(|server| SocketAddr::new(*server, PORT)).collect();
    let mut all = servers.iter().cycle().take(servers.len() * rounds);
    all.find_map(|server| one(*server).ok()).unwrap_or_else(|| query.answer(Code::Failed, &[], limit))
}

/// By a socket of its own, so that each question comes from a port that nobody can guess.
fn ask_udp(query: &Query, message: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(message)?;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0; MAX_TCP];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        if query.is_answered_by(&buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

fn ask_tcp(query: &Query, message: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[length.to_be_bytes().as_slice(), message].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    if query.is_answered_by(&answer) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_to_ask_is_a_failure_that_is_said() {
        let message = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 1, b'b', 0, 0, 1, 0, 1];
        let query = Query::read(&message).unwrap();
        assert_eq!(udp(&query, &message, &[])[3] & 15, 2);
        // Nobody listens at that address.
        assert_eq!(tcp(&query, &message, &["127.0.0.253".parse().unwrap()])[3] & 15, 2);
    }
}
