//! An NTP server that is as wrong as a test wants it to be.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// From 1900, where NTP begins to count, to 1970 (RFC 5905, figure 4).
const NTP_EPOCH: Duration = Duration::from_secs(2_208_988_800);

/// How often it looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

/// An NTP server. It ends with this value.
#[derive(Debug)]
pub struct TimeServer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    asked: AtomicUsize,
}

impl TimeServer {
    /// Answers at `address` with a time that is `ahead` of the right one.
    #[track_caller]
    pub(crate) fn start(address: &str, ahead: Duration) -> Self {
        let socket = UdpSocket::bind(address).unwrap_or_else(|error| panic!("cannot use {address}: {error}"));
        socket.set_read_timeout(Some(POLL)).expect("a socket can have a time-out");
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !of_thread.ended.load(Ordering::Relaxed) {
                let mut request = [0; 48];
                match socket.recv_from(&mut request) {
                    Ok((_, client)) => {
                        of_thread.asked.fetch_add(1, Ordering::Relaxed);
                        // A client that has gone does not get it.
                        socket.send_to(&answer(&request, ahead), client).ok();
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => panic!("the time server cannot receive: {error}"),
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// How many times it has been asked so far.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The answer of a server at stratum 2 that claims to be right within a millisecond.
fn answer(request: &[u8; 48], ahead: Duration) -> [u8; 48] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("this machine's clock is after 1970");
    let time = now + NTP_EPOCH + ahead;
    let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
    let stamp = (time.as_secs() << 32 | fraction).to_be_bytes();
    let mut answer = [0; 48];
    answer[..4].copy_from_slice(&[0x24, 2, 6, 0xec]);
    // Root dispersion in 2^-16 s, then the client's timestamp, then ours for receiving and sending.
    answer[8..12].copy_from_slice(&65_u32.to_be_bytes());
    answer[24..32].copy_from_slice(&request[40..]);
    answer[32..40].copy_from_slice(&stamp);
    answer[40..].copy_from_slice(&stamp);
    answer
}
