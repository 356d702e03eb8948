//! ttrpc's frames: ten bytes of header (length, stream, type, flags; numbers big-endian), then a request or a response.

use crate::wire::{Malformed, Writer, fields};
use crate::{Code, Refusal};

/// Bytes of a header.
pub const HEADER: usize = 10;
/// The longest message: the specification says 4 MiB, and no call of this service comes near that.
pub const MESSAGE: usize = 256 << 10;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MESSAGE`].
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    /// Neither a request to a server nor a response to a client.
    #[error("a frame of type {0} is out of place")]
    Type(u8),
    /// Not a message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// A call on its way to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which answer belongs to it.
    pub stream: u32,
    /// `containerd.task.v2.Task`
    pub service: String,
    /// `State`
    pub method: String,
    /// The method's message.
    pub payload: Vec<u8>,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The request's.
    pub stream: u32,
    /// The method's message; else gRPC's code and a reason.
    pub result: Result<Vec<u8>, (u64, String)>,
}

impl Request {
    /// The first request in `bytes`, and how many bytes it takes; `None`: not all of it has come yet.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((stream, message)) = read(bytes, REQUEST)? else { return Ok(None) };
        let mut request = Self { stream, service: String::new(), method: String::new(), payload: Vec::new() };
        for field in fields(message) {
            match field? {
                (1, value) => request.service = value.text()?,
                (2, value) => request.method = value.text()?,
                (3, value) => request.payload = value.bytes()?.to_vec(),
                _ => {}
            }
        }
        Ok(Some((request, HEADER + message.len())))
    }

    /// The bytes of it.
    pub fn write(&self) -> Vec<u8> {
        let message =
            Writer::new().text(1, &self.service).text(2, &self.method).bytes(3, &self.payload).finish();
        write(self.stream, REQUEST, &message)
    }
}

impl Response {
    /// What a server answers.
    pub fn new(stream: u32, result: Result<Vec<u8>, Refusal>) -> Self {
        let result = result.map_err(|refusal: Refusal| (Code::number(refusal.code), refusal.message));
        Self { stream, result }
    }

    /// The first response in `bytes`, and how many bytes it takes; `None`: not all of it has come yet.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((stream, message)) = read(bytes, RESPONSE)? else { return Ok(None) };
        let (mut code, mut reason, mut payload) = (0, String::new(), Vec::new());
        for field in fields(message) {
            match field? {
                (1, status) => {
                    for field in fields(status.bytes()?) {
                        match field? {
                            (1, value) => code = value.number()?,
                            (2, value) => reason = value.text()?,
                            _ => {}
                        }
                    }
                }
                (2, value) => payload = value.bytes()?.to_vec(),
                _ => {}
            }
        }
        let result = if code == 0 { Ok(payload) } else { Err((code, reason)) };
        Ok(Some((Self { stream, result }, HEADER + message.len())))
    }

    /// The bytes of it.
    pub fn write(&self) -> Vec<u8> {
        let message = match &self.result {
            Ok(payload) => Writer::new().message(1, &Writer::new()).bytes(2, payload),
            Err((code, reason)) => Writer::new().message(1, &Writer::new().number(1, *code).text(2, reason)),
        };
        write(self.stream, RESPONSE, &message.finish())
    }
}

fn read(bytes: &[u8], wanted: u8) -> Result<Option<(u32, &[u8])>, FrameError> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else { return Ok(None) };
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let length = usize::try_from(number(0)).unwrap_or(usize::MAX);
    if length > MESSAGE {
        return Err(FrameError::TooLong(length));
    }
    if header[8] != wanted {
        return Err(FrameError::Type(header[8]));
    }
    Ok(rest.get(..length).map(|message| (number(4), message)))
}

fn write(stream: u32, kind: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + message.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind, 0]);
    bytes.extend_from_slice(message);
    bytes
}
