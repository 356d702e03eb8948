//! Connections from a port below 1024: some metadata services give secrets only to those, as only root can have one.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use rustix::net::sockopt::{Timeout, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// From the highest down: well-known services are at the low end, and may run on this node.
const PORTS: std::ops::RangeInclusive<u16> = 600..=1023;

#[derive(Clone, Copy, Debug)]
pub(super) struct LowPort;

impl<In: Transport> Connector<In> for LowPort {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<In>,
    ) -> Result<Option<Connection>, Error> {
        let mut failed = Error::ConnectionFailed;
        for address in &details.addrs {
            match connect_to(*address, details.timeout) {
                Ok(stream) => {
                    let config = details.config;
                    let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
                    return Ok(Some(Connection { stream, buffers }));
                }
                Err(error) => failed = Error::Io(error),
            }
        }
        Err(failed)
    }
}

/// A connection that nobody uses twice.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|limit| *limit))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| explain(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|limit| *limit))?;
        let amount =
            self.stream.read(self.buffers.input_append_buf()).map_err(|error| explain(error, timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        false
    }
}

/// A socket whose time is over says that it would have to wait.
fn explain(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

fn connect_to(address: SocketAddr, timeout: NextTimeout) -> io::Result<TcpStream> {
    let (family, any): (_, IpAddr) = match address {
        SocketAddr::V4(_) => (AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let mut failed = io::Error::from(io::ErrorKind::AddrInUse);
    for port in PORTS.rev() {
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_reuseaddr(&socket, true)?;
        // How long to send counts for connecting, too (socket(7)).
        set_socket_timeout(&socket, Timeout::Send, timeout.not_zero().map(|limit| *limit))?;
        let connected = bind(&socket, &SocketAddr::new(any, port)).and_then(|()| connect(&socket, &address));
        match connected {
            Ok(()) => return Ok(socket.into()),
            // The port, or the connection between both, is taken.
            Err(error @ (rustix::io::Errno::ADDRINUSE | rustix::io::Errno::ADDRNOTAVAIL)) => {
                failed = error.into()
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(failed)
}
