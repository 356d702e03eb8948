//! A client that makes one call after the other.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::frame::{FrameError, Request, Response};
use crate::wire::Malformed;
use crate::{Call, SERVICE};

/// Why there is no answer, or none that is of use.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection.
    #[error("cannot talk to the shim")]
    Io(#[from] io::Error),
    /// What came is no answer.
    #[error("cannot understand the shim")]
    Frame(#[from] FrameError),
    /// What came is no answer to this call.
    #[error("cannot understand the shim")]
    Malformed(#[from] Malformed),
    /// The shim says no.
    #[error("{reason}")]
    Refused {
        /// gRPC's code.
        code: u64,
        /// Why.
        reason: String,
    },
}

/// A connection to the shim of one container.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    id: String,
    next: u32,
}

impl Client {
    /// To the shim that listens on `socket` and holds the container `id`.
    pub fn connect(socket: &Path, id: &str) -> io::Result<Self> {
        // Streams of clients have odd numbers.
        Ok(Self { stream: UnixStream::connect(socket)?, id: id.to_owned(), next: 1 })
    }

    /// Makes a call and waits for the answer: the method's message.
    pub fn call(&mut self, call: &Call) -> Result<Vec<u8>, CallError> {
        let (method, payload) = call.write(&self.id);
        let stream = self.next;
        self.next = self.next.wrapping_add(2);
        let request = Request { stream, service: SERVICE.to_owned(), method: method.to_owned(), payload };
        self.stream.write_all(&request.write())?;
        let mut bytes = Vec::new();
        loop {
            if let Some((response, length)) = Response::read(&bytes)? {
                bytes.drain(..length);
                if response.stream == stream {
                    return response.result.map_err(|(code, reason)| CallError::Refused { code, reason });
                }
                continue;
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more)? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                length => bytes.extend_from_slice(&more[..length]),
            }
        }
    }
}
