//! A small HTTP server whose answers a test decides, lies and silence included.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How long a client may take to say what it wants.
const SILENCE: Duration = Duration::from_secs(10);

/// The largest body that is read.
const BODY: usize = 1 << 20;

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// What came with it.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What a client gets.
#[derive(Clone, Debug)]
pub enum Response {
    /// An answer.
    Answer {
        /// Its status.
        status: u16,
        /// Headers beside the length.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Vec<u8>,
    },
    /// These bytes as they are, then the connection is closed.
    Raw(Vec<u8>),
    /// These bytes as they are, then nothing for so long.
    Stalled(Vec<u8>, Duration),
    /// The head of an answer, then a body that never ends.
    Endless,
    /// Nothing for so long, then nothing at all.
    Silence(Duration),
}

impl Response {
    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200, body)
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::status(404, "not found\n")
    }

    /// Any status with a body.
    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.into() }
    }

    fn write(&self, stream: &mut TcpStream, stop: &AtomicBool) -> io::Result<()> {
        match self {
            Self::Answer { status, headers, body } => {
                let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len());
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                head += "Connection: close\r\n\r\n";
                stream.write_all(head.as_bytes())?;
                stream.write_all(body)
            }
            Self::Raw(bytes) => stream.write_all(bytes),
            Self::Endless => {
                stream.write_all(b"HTTP/1.1 200 x\r\nConnection: close\r\n\r\n")?;
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(&[b'x'; 4096])?;
                }
                Ok(())
            }
            Self::Stalled(bytes, time) => {
                stream.write_all(bytes)?;
                thread::sleep(*time);
                Ok(())
            }
            Self::Silence(time) => {
                thread::sleep(*time);
                Ok(())
            }
        }
    }
}

/// A running server. It ends with this value.
#[derive(Debug)]
pub struct Server {
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    address: std::net::SocketAddr,
}

impl Server {
    /// Starts it in the network namespace of this thread.
    pub(crate) fn start(
        address: &str,
        answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address)
            .unwrap_or_else(|error| panic!("a server cannot have the address {address}: {error}"));
        let address = listener.local_addr().expect("a listener has an address");
        listener.set_nonblocking(true).expect("a listener can be asked without waiting");
        let (requests, stop) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::<AtomicBool>::default());
        let (heard, stopped, answer) = (Arc::clone(&requests), Arc::clone(&stop), Arc::new(answer));
        // A thread and what it starts are in the namespace of whoever starts it.
        thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let (heard, stopped, answer) =
                    (Arc::clone(&heard), Arc::clone(&stopped), Arc::clone(&answer));
                thread::spawn(move || {
                    // A client that goes away is no failure of the server: the test sees what it came for, or not.
                    let Ok(Some(request)) = read(&mut stream) else { return };
                    let response = answer(&request);
                    heard.lock().expect("nobody panics with this lock").push(request);
                    response.write(&mut stream, &stopped).ok();
                });
            }
        });
        Self { requests, stop, address }
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("nobody panics with this lock").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads one request; `None` when the client says nothing that is one.
fn read(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0).min(BODY);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, headers, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_what_the_test_says_and_tells_what_it_was_asked() {
        let server = Server::start("127.0.0.1:0", |request| Response::ok(request.path.to_uppercase()));
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"PUT /a HTTP/1.1\r\nX-Token: t\r\nContent-Length: 3\r\n\r\nabc").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\n/A"), "{answer}");
        let [request] = &server.requests()[..] else { panic!("one request") };
        assert_eq!((request.method.as_str(), request.header("x-token")), ("PUT", Some("t")));
        assert_eq!(request.body, b"abc");
    }
}
