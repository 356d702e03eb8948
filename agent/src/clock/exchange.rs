//! One question to one server, over UDP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};

use super::packet::{self, Answer, Kiss, Sample, Time, Unusable};

/// How long an answer is waited for: longer ones are too inexact to be used.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a server said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    Time(Time, Sample),
    Kiss(Kiss),
}

/// Why it said nothing that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("no answer")]
    Silence,
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Asks. Of the moments that may be meant, it is the closest one to `near`, in seconds since 1970.
pub(super) fn ask(server: SocketAddr, near: u64) -> Result<Reply, AskError> {
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A port that nobody can guess, and connected: the kernel passes on what comes from the server only, and says when
    // it cannot be reached.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(server)?;
    let mut nonce = [0; 8];
    getrandom(&mut nonce, GetRandomFlags::empty()).map_err(io::Error::from)?;
    let asked = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let asked = i64::try_from(asked.as_nanos()).map_err(io::Error::other)?;
    let begun = Instant::now();
    socket.send(&packet::request(nonce))?;
    let mut message = [0; 512];
    loop {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(AskError::Silence);
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut message) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                continue;
            }
            other => other?,
        };
        let took = begun.elapsed();
        match packet::read(message.get(..length).unwrap_or_default(), nonce) {
            Ok(Answer::Time(time)) => return Ok(Reply::Time(time, time.compare(asked, took, near))),
            Ok(Answer::Kiss(kiss)) => return Ok(Reply::Kiss(kiss)),
            // Not an answer to this question: it may still come.
            Err(Unusable::Short(_) | Unusable::NotAnAnswer | Unusable::NotOurs) => {}
            Err(unusable) => return Err(unusable.into()),
        }
    }
}
