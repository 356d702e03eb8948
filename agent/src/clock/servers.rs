//! The servers that are asked: from names to addresses, and what each has said.

use std::collections::HashSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use super::discipline::{LEAST_POLL, MOST_POLL};
use super::exchange::{self, AskError, Reply};
use super::filter::Filter;
use super::packet::{Kiss, Time};
use super::settings::Names;

/// NTP's port.
const PORT: u16 = 123;

/// Servers that are asked at most, and how many are taken of pools: with four of them one may be false and another one
/// silent.
const MOST: usize = 8;
const POOLED: usize = 4;

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) filter: Filter,
    /// What it last said of itself.
    pub(super) time: Option<Time>,
    /// Why it did not answer the last time.
    pub(super) failure: Option<String>,
    /// It wants to be asked no more often than this: seconds as a power of two.
    least_poll: u8,
    /// Not to be asked before.
    due: Option<Instant>,
}

/// The servers that are asked.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) list: Vec<Server>,
    /// Those that want never to be asked again.
    denied: HashSet<SocketAddr>,
}

impl Servers {
    /// Looks the names up, again. A server that is among them already keeps what is known of it.
    pub(super) fn resolve(&mut self, names: &Names) {
        let single = names.servers.iter().take(MOST);
        let single = single.filter_map(|name| Some((name, addresses(name).into_iter().next()?)));
        let pooled = take_turns(names.pools.iter().map(|name| (name, addresses(name))).collect());
        let mut list: Vec<Server> = Vec::new();
        for (name, address) in single.chain(pooled.into_iter().take(POOLED)).take(MOST) {
            if self.denied.contains(&address) || list.iter().any(|server| server.address == address) {
                continue;
            }
            let known = self.list.iter().find(|server| server.address == address);
            list.push(known.cloned().unwrap_or_else(|| Server::new(name.clone(), address)));
        }
        self.list = list;
    }

    /// Asks all that may be asked, at the same time.
    pub(super) fn ask(&mut self, near: u64) {
        let begun = Instant::now();
        thread::scope(|scope| {
            let due = self.list.iter_mut().filter(|server| server.due.is_none_or(|due| due <= begun));
            let asked: Vec<_> = due
                .map(|server| {
                    let address = server.address;
                    let builder = thread::Builder::new().name("clock".to_owned()).stack_size(128 << 10);
                    (server, builder.spawn_scoped(scope, move || exchange::ask(address, near)))
                })
                .collect();
            for (server, thread) in asked {
                let reply = match thread.map(|thread| thread.join()) {
                    Ok(Ok(reply)) => reply,
                    Ok(Err(_)) => Err(AskError::Silence),
                    Err(error) => Err(error.into()),
                };
                if server.heard(reply, Instant::now()) {
                    self.denied.insert(server.address);
                }
            }
        });
        self.list.retain(|server| !self.denied.contains(&server.address));
    }

    /// How many have answered lately.
    pub(super) fn reachable(&self) -> usize {
        self.list.iter().filter(|server| server.filter.is_reachable()).count()
    }
}

impl Server {
    fn new(name: String, address: SocketAddr) -> Self {
        let filter = Filter::default();
        Self { name, address, filter, time: None, failure: None, least_poll: LEAST_POLL, due: None }
    }

    /// Takes what came of a question. Returns whether it must not be asked again.
    fn heard(&mut self, reply: Result<Reply, AskError>, now: Instant) -> bool {
        self.failure = None;
        let sample = match reply {
            Ok(Reply::Time(time, sample)) => {
                self.time = Some(time);
                Some(sample)
            }
            Ok(Reply::Kiss(Kiss::Deny)) => return true,
            Ok(Reply::Kiss(Kiss::Rate)) => {
                self.least_poll = (self.least_poll + 1).min(MOST_POLL);
                // A moment less, so that it is not missed by that.
                self.due = Some(now + Duration::from_secs(1 << self.least_poll) - Duration::from_secs(4));
                self.failure = Some("it wants to be asked less often".to_owned());
                None
            }
            Ok(Reply::Kiss(Kiss::Other)) => None,
            Err(error) => {
                self.failure = Some(error.to_string());
                None
            }
        };
        self.filter.add(now, sample);
        if sample.is_some() && self.least_poll > LEAST_POLL {
            self.due = Some(now + Duration::from_secs(1 << self.least_poll) - Duration::from_secs(4));
        }
        false
    }
}

/// The addresses of a name; none when it cannot be looked up now.
fn addresses(name: &str) -> Vec<SocketAddr> {
    (name, PORT).to_socket_addrs().into_iter().flatten().collect()
}

/// One of each, then a second one of each, and so on.
fn take_turns<N: Copy, T>(lists: Vec<(N, Vec<T>)>) -> Vec<(N, T)> {
    let numbered =
        lists.into_iter().flat_map(|(name, list)| list.into_iter().map(move |item| (name, item)).enumerate());
    let mut all: Vec<_> = numbered.collect();
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::packet::Unusable;

    fn names(servers: &[&str], pools: &[&str]) -> Names {
        let [servers, pools] =
            [servers, pools].map(|list| list.iter().map(|name| (*name).to_owned()).collect());
        Names { servers, pools }
    }

    fn asked(servers: &Servers) -> Vec<String> {
        servers.list.iter().map(|server| server.address.ip().to_string()).collect()
    }

    #[test]
    fn no_server_is_asked_twice_and_none_that_does_not_want_it() {
        let mut servers = Servers::default();
        servers.resolve(&names(&["192.0.2.1", "2001:db8::1", "192.0.2.1"], &["192.0.2.1", "192.0.2.9"]));
        assert_eq!(asked(&servers), ["192.0.2.1", "2001:db8::1", "192.0.2.9"]);
        servers.denied.insert(servers.list[0].address);
        servers.resolve(&names(&["192.0.2.1", "192.0.2.2"], &[]));
        assert_eq!(asked(&servers), ["192.0.2.2"]);
    }

    #[test]
    fn there_are_limits() {
        let many: Vec<String> = (1..20).map(|n| format!("192.0.2.{n}")).collect();
        let mut servers = Servers::default();
        servers.resolve(&Names { servers: many.clone(), pools: Vec::new() });
        assert_eq!(servers.list.len(), MOST);
        servers.resolve(&Names { servers: Vec::new(), pools: many });
        assert_eq!(servers.list.len(), POOLED);
    }

    #[test]
    fn pools_take_turns() {
        let lists = vec![("a", vec![1, 2, 3]), ("b", vec![]), ("c", vec![4, 5])];
        assert_eq!(take_turns(lists), [("a", 1), ("c", 4), ("a", 2), ("c", 5), ("a", 3)]);
    }

    #[test]
    fn a_wish_to_be_asked_less_often_is_kept() {
        let now = Instant::now();
        let mut server = Server::new("a".to_owned(), ([192, 0, 2, 1], PORT).into());
        assert!(!server.heard(Err(Unusable::Unsynchronised.into()), now));
        assert_eq!(server.due, None);
        for seconds in [128, 256, 512, 1024, 1024] {
            assert!(!server.heard(Ok(Reply::Kiss(Kiss::Rate)), now));
            assert_eq!(server.due, Some(now + Duration::from_secs(seconds - 4)));
        }
        assert!(server.heard(Ok(Reply::Kiss(Kiss::Deny)), now));
    }
}
