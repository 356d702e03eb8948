//! Connections to receivers of logs.
//!
//! Syslog has no answers, so a connection that has gone swallows what was written to it. A batch counts as sent when the
//! connection is still there some moments later; else it is sent again.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use config::Receiver;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::clock;
use crate::console;
use crate::http::{Client, HttpError, Limits, ROOTS};

/// What connecting and writing may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after a batch the connection must still be there: the way there and back, on most networks.
const SETTLED: Duration = Duration::from_millis(200);
/// What an answer may hold: nobody reads it.
const ANSWER: usize = 64 << 10;

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("cannot connect to {to}")]
    Connect { to: String, source: io::Error },
    #[error("cannot send to {to}")]
    Write { to: String, source: io::Error },
    #[error("{to} has closed the connection")]
    Closed { to: String },
    #[error("cannot speak TLS with {to}")]
    Tls { to: String, source: rustls::Error },
    #[error("{to} is no name that a certificate could have")]
    Name { to: String },
    #[error("cannot read the certificate authorities {path}")]
    Roots { path: PathBuf, source: io::Error },
    #[error("the logs are not taken")]
    Http(#[from] HttpError),
}

/// The way to one receiver; it connects when there is something to send.
#[derive(Debug)]
pub(crate) struct Connection {
    receiver: Receiver,
    /// Who vouches for it: a file of certificates.
    roots: PathBuf,
    stream: Option<Box<dyn Stream>>,
}

impl Connection {
    pub(crate) fn new(receiver: &Receiver) -> Self {
        Self::trusting(receiver, Path::new(ROOTS))
    }

    /// With other authorities than the node's.
    pub(crate) fn trusting(receiver: &Receiver, roots: &Path) -> Self {
        Self { receiver: receiver.clone(), roots: roots.to_owned(), stream: None }
    }

    /// Sends a batch. It may have been sent, in whole or in part, when this fails.
    pub(crate) fn send(&mut self, batch: &[u8]) -> Result<(), SendError> {
        match &self.receiver {
            Receiver::Http { url, headers } => post(url, headers, batch),
            Receiver::Syslog { host, port, tls } => {
                let to = self.receiver.to_string();
                // What the other end has closed meanwhile is opened again.
                let open = self
                    .stream
                    .take()
                    .and_then(|mut stream| stream.is_open().unwrap_or(false).then_some(stream));
                let mut stream = match open {
                    Some(stream) => stream,
                    None => connect(&to, host, *port, tls.then_some(&self.roots))?,
                };
                let written = stream.write_all(batch).and_then(|()| stream.flush());
                written.map_err(|source| SendError::Write { to: to.clone(), source })?;
                thread::sleep(SETTLED);
                if !stream.is_open().map_err(|source| SendError::Write { to: to.clone(), source })? {
                    return Err(SendError::Closed { to });
                }
                self.stream = Some(stream);
                Ok(())
            }
        }
    }

    /// Begins anew with the next batch.
    pub(crate) fn close(&mut self) {
        self.stream = None;
    }
}

fn post(url: &str, headers: &[(String, String)], batch: &[u8]) -> Result<(), SendError> {
    let limits = Limits { connect: PATIENCE, whole: 3 * PATIENCE, body: ANSWER, redirects: 0 };
    let mut all = vec![("Content-Type", "application/x-ndjson")];
    all.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    match Client::new(limits).post(url, &all, batch) {
        Ok(_) | Err(HttpError::TooLarge { .. }) => Ok(()),
        // It would be the same the next time, and the lines behind it would wait for ever.
        Err(error @ HttpError::Status { status: 400 | 413 | 422, .. }) => {
            console::warning(format_args!("logs: {}; these lines are left out", console::chain(&error)));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// A connection, with or without TLS.
trait Stream: Write + Send + std::fmt::Debug {
    /// Whether the other end has not closed it. What it says meanwhile is of no interest.
    fn is_open(&mut self) -> io::Result<bool>;
}

impl Stream for TcpStream {
    fn is_open(&mut self) -> io::Result<bool> {
        self.set_nonblocking(true)?;
        let open = drained(self);
        self.set_nonblocking(false)?;
        open
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn is_open(&mut self) -> io::Result<bool> {
        self.sock.set_nonblocking(true)?;
        let open = drained(self);
        self.sock.set_nonblocking(false)?;
        open
    }
}

/// Reads all that is there; false when that is the end.
fn drained(stream: &mut impl Read) -> io::Result<bool> {
    let mut bytes = [0; 512];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Connects, with TLS when there are `roots` for it.
fn connect(to: &str, host: &str, port: u16, roots: Option<&PathBuf>) -> Result<Box<dyn Stream>, SendError> {
    let failed = |source| SendError::Connect { to: to.to_owned(), source };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs().map_err(failed)? {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => {
                return match roots {
                    Some(roots) => secure(to, host, stream, roots),
                    None => Ok(Box::new(stream)),
                };
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// TLS with whom the authorities in `roots` vouch for.
fn secure(to: &str, host: &str, stream: TcpStream, roots: &Path) -> Result<Box<dyn Stream>, SendError> {
    clock::before_certificates();
    let failed = |source| SendError::Tls { to: to.to_owned(), source };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| SendError::Name { to: to.to_owned() })?;
    let text = std::fs::read(roots).map_err(|source| SendError::Roots { path: roots.to_owned(), source })?;
    let mut store = RootCertStore::empty();
    // One that is none vouches for nobody.
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(store)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), name).map_err(failed)?;
    Ok(Box::new(StreamOwned::new(client, stream)))
}
