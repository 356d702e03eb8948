//! The socket on which PID 1 hears of readiness, health and wishes: sd_notify(3) datagrams, the sender's process id
//! vouched for by the kernel.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType, bind, recvmsg, socket_with, sockopt,
};

use crate::shutdown::Kind;

/// The longest datagram that is read: sd_notify messages are a few lines.
const DATAGRAM: usize = 4096;

/// One assignment of a datagram that means something to PID 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// `READY=1`
    Ready,
    /// `WATCHDOG=1`
    Alive,
    /// `STATUS=`
    Status(String),
    /// `X_HOLDFAST_HEALTH=healthy|unhealthy`
    Health(bool),
    /// `X_HOLDFAST_APPLY=` a generation
    Apply(u64),
    /// `X_HOLDFAST_NETWORK=up|failed`
    Network,
    /// `X_HOLDFAST_SHUTDOWN=reboot|poweroff|halt`
    Shutdown(Kind),
}

/// What a datagram says; what means nothing to PID 1 is passed over, as sd_notify(3) asks for.
pub(super) fn parse(datagram: &[u8]) -> Vec<Message> {
    let text = String::from_utf8_lossy(datagram);
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter_map(|(key, value)| assignment(key, value))
        .collect()
}

fn assignment(key: &str, value: &str) -> Option<Message> {
    Some(match (key, value) {
        ("READY", "1") => Message::Ready,
        ("WATCHDOG", "1") => Message::Alive,
        ("STATUS", text) => Message::Status(text.to_owned()),
        ("X_HOLDFAST_HEALTH", "healthy") => Message::Health(true),
        ("X_HOLDFAST_HEALTH", "unhealthy") => Message::Health(false),
        ("X_HOLDFAST_APPLY", number) => Message::Apply(number.parse().ok()?),
        ("X_HOLDFAST_NETWORK", "up" | "failed") => Message::Network,
        ("X_HOLDFAST_SHUTDOWN", "reboot") => Message::Shutdown(Kind::Reboot),
        ("X_HOLDFAST_SHUTDOWN", "poweroff") => Message::Shutdown(Kind::PowerOff),
        ("X_HOLDFAST_SHUTDOWN", "halt") => Message::Shutdown(Kind::Halt),
        _ => return None,
    })
}

/// The socket; reading never blocks.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Makes it at `path`.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_passcred(&socket, true)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// The next datagram and its sender's process id; `None` when there is none.
    pub(super) fn receive(&self) -> Option<(i32, Vec<u8>)> {
        let mut bytes = [0; DATAGRAM];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&self.0, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let sender = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid.as_raw_nonzero().get()),
            _ => None,
        });
        Some((sender.unwrap_or(0), bytes.get(..received.bytes).unwrap_or_default().to_vec()))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_vouches_for_the_sender() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify.sock");
        let socket = Socket::bind(&path).unwrap();
        assert!(socket.receive().is_none());
        std::os::unix::net::UnixDatagram::unbound().unwrap().send_to(b"READY=1", path).unwrap();
        let (sender, datagram) = socket.receive().unwrap();
        assert_eq!((u32::try_from(sender).unwrap(), datagram), (std::process::id(), b"READY=1".to_vec()));
    }

    #[test]
    fn datagrams_are_lines_of_assignments() {
        for (datagram, expected) in [
            ("READY=1\nSTATUS=a=b\n", vec![Message::Ready, Message::Status("a=b".to_owned())]),
            ("X_HOLDFAST_APPLY=12", vec![Message::Apply(12)]),
            ("X_HOLDFAST_NETWORK=failed", vec![Message::Network]),
            ("X_HOLDFAST_SHUTDOWN=poweroff", vec![Message::Shutdown(Kind::PowerOff)]),
            ("X_HOLDFAST_HEALTH=unhealthy\nWATCHDOG=1", vec![Message::Health(false), Message::Alive]),
            ("READY=0\nX_HOLDFAST_APPLY=../1\nMAINPID=1\nnothing", vec![]),
        ] {
            assert_eq!(parse(datagram.as_bytes()), expected, "{datagram}");
        }
        assert_eq!(parse(b"\xff=\xfe\nREADY=1"), [Message::Ready]);
    }
}
