//! What each container may know, and what becomes of its questions. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use dns::{Code, Kind, Malformed, Query, Record};
use plan::ServiceName;

use super::super::Networks;

/// The names of all networks, by who may see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    clients: BTreeMap<Ipv4Addr, Arc<Client>>,
}

/// What one service sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Client {
    names: BTreeMap<String, Vec<Ipv4Addr>>,
    /// The first name of each address.
    addresses: BTreeMap<Ipv4Addr, String>,
    /// The networks that it is in, by address and prefix.
    networks: Vec<(Ipv4Addr, u8)>,
    /// The name servers that it wants asked.
    servers: Vec<IpAddr>,
    /// It may reach what is outside.
    outside: bool,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    Silence,
    /// This is the answer.
    Answer(Vec<u8>),
    /// These servers are asked, or (`None`) the node's.
    Ask { query: Query, servers: Option<Vec<IpAddr>> },
}

impl View {
    /// The view that networks give.
    pub(super) fn of(networks: &Networks) -> Self {
        let mut clients: BTreeMap<&ServiceName, (Client, Vec<Ipv4Addr>)> = BTreeMap::new();
        for network in networks.networks.values() {
            for (service, own) in &network.services {
                let (client, addresses) = clients.entry(service).or_default();
                addresses.push(own.address);
                client.servers.clone_from(&own.dns);
                client.outside |= !network.internal;
                client.networks.push((network.network, network.bridge.prefix));
                for (other, endpoint) in &network.services {
                    for name in &endpoint.names {
                        client.names.entry(name.clone()).or_default().push(endpoint.address);
                    }
                    client.addresses.insert(endpoint.address, other.to_string());
                }
            }
        }
        let all = clients.into_values().flat_map(|(client, addresses)| {
            let client = Arc::new(client);
            addresses.into_iter().map(move |address| (address, Arc::clone(&client)))
        });
        Self { clients: all.collect() }
    }

    /// What becomes of a message from `client`. An answer is not longer than `limit`. Of several services that a name leads
    /// to those are told that are `running`, or all when none is.
    pub(super) fn decide(
        &self,
        client: IpAddr,
        message: &[u8],
        limit: usize,
        running: impl FnOnce() -> BTreeSet<ServiceName>,
    ) -> Decision {
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(Malformed::NoQuestion) => return Decision::Silence,
            Err(Malformed::Question(id)) => return Decision::Answer(dns::malformed(id)),
        };
        let known = match client {
            IpAddr::V4(address) => self.clients.get(&address),
            IpAddr::V6(_) => None,
        };
        let answer = |code, records: &[Record]| Decision::Answer(query.answer(code, records, limit));
        let Some(client) = known else { return answer(Code::Refused, &[]) };
        if let Some(addresses) = client.names.get(&query.name) {
            let records: Vec<Record> = match query.kind {
                Kind::A | Kind::Any => client.found(addresses, running).into_iter().map(Record::A).collect(),
                Kind::Ptr | Kind::Other => Vec::new(),
            };
            return answer(Code::Ok, &records);
        }
        if let Some(address) = dns::reverse(&query.name).filter(|address| client.is_near(*address)) {
            return match client.addresses.get(&address) {
                Some(name) if query.kind == Kind::Ptr => answer(Code::Ok, &[Record::Ptr(name.clone())]),
                Some(_) => answer(Code::Ok, &[]),
                None => answer(Code::NoName, &[]),
            };
        }
        // A name without a dot is one of a service, or of nobody.
        if !query.name.is_empty() && !query.name.contains('.') {
            return answer(Code::NoName, &[]);
        }
        if !client.outside {
            return answer(Code::Refused, &[]);
        }
        let servers = (!client.servers.is_empty()).then(|| client.servers.clone());
        Decision::Ask { query, servers }
    }
}

impl Client {
    /// Which of the addresses of a name are told.
    fn found(
        &self,
        addresses: &[Ipv4Addr],
        running: impl FnOnce() -> BTreeSet<ServiceName>,
    ) -> Vec<Ipv4Addr> {
        if let [_, _, ..] = addresses {
            let running = running();
            let runs = |address: &&Ipv4Addr| {
                let service = self.addresses.get(*address).and_then(|name| ServiceName::new(name).ok());
                service.is_some_and(|service| running.contains(&service))
            };
            let found: Vec<Ipv4Addr> = addresses.iter().filter(runs).copied().collect();
            if !found.is_empty() {
                return found;
            }
        }
        addresses.to_vec()
    }

    /// Whether an address is in one of its networks.
    fn is_near(&self, address: Ipv4Addr) -> bool {
        self.networks.iter().any(|(network, prefix)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
            address.to_bits() & mask == network.to_bits()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::{Networks, assign};

    fn view() -> View {
        let text = b"#cloud-config\nnetworks: {back: {internal: true}, front: {}}\nservices:\n  \
                     web: {image: i, networks: {front: {aliases: [www.Example]}}, dns: [192.0.2.53]}\n  \
                     app: {image: i, networks: [front, back]}\n  db: {image: i, networks: {back: {aliases: [sql]}}}\n";
        let desired = config::check("f", text).0.unwrap();
        View::of(&assign(&desired, &Networks::default(), &[], &[], "f").unwrap().networks)
    }

    /// Subnets go by name: back is 172.18.0.0/24 with app .2 and db .3, front 172.18.1.0/24 with app .2 and web .3.
    const APP: &str = "172.18.0.2";
    const DB: &str = "172.18.0.3";
    const WEB: &str = "172.18.1.3";

    fn asked(client: &str, name: &str, kind: u8) -> Decision {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, kind, 0, 1]);
        view().decide(client.parse().unwrap(), &message, dns::MAX_UDP, BTreeSet::new)
    }

    /// The code and the last four bytes of an answer, which are an address when there is one.
    fn answer(client: &str, name: &str, kind: u8) -> (u8, Option<String>) {
        let Decision::Answer(bytes) = asked(client, name, kind) else { panic!("{name} is not answered") };
        let [a, b, c, d] = bytes[bytes.len() - 4..] else { panic!("four bytes") };
        let address = (bytes[7] > 0).then(|| Ipv4Addr::new(a, b, c, d).to_string());
        (bytes[3] & 15, address)
    }

    #[test]
    fn a_container_finds_those_of_its_networks_by_all_their_names() {
        assert_eq!(answer(WEB, "app", 1), (0, Some("172.18.1.2".to_owned())));
        assert_eq!(answer(APP, "db", 1), (0, Some(DB.to_owned())));
        assert_eq!(answer(APP, "sql", 1), (0, Some(DB.to_owned())));
        assert_eq!(answer(APP, "WWW.example", 1), (0, Some(WEB.to_owned())));
        assert_eq!(answer("172.18.1.2", "db", 1), (0, Some(DB.to_owned())), "by whichever of its addresses");
    }

    #[test]
    fn a_name_of_several_leads_to_those_that_run() {
        let text = b"#cloud-config\nservices:\n  a: {image: i}\n  web: {image: i, scale: 3}\n";
        let desired = config::check("f", text).0.unwrap();
        let view = View::of(&assign(&desired, &Networks::default(), &[], &[], "f").unwrap().networks);
        let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3];
        question.extend(b"web\0\0\x01\0\x01");
        let told = |running: &[&str]| {
            let running = || running.iter().map(|name| ServiceName::new(*name).unwrap()).collect();
            match view.decide("172.18.0.2".parse().unwrap(), &question, dns::MAX_UDP, running) {
                Decision::Answer(bytes) => bytes[7],
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((told(&["a", "web", "web-3"]), told(&["web-2"]), told(&["a"]), told(&[])), (2, 1, 3, 3));
    }

    #[test]
    fn names_of_other_networks_are_not_there() {
        assert_eq!(answer(WEB, "db", 1), (3, None));
        assert_eq!(answer(DB, "web", 1), (3, None));
        assert_eq!(answer("172.18.1.77", "web", 1), (5, None), "a stranger is refused");
    }

    #[test]
    fn a_known_name_has_no_address_of_ipv6_and_is_nevertheless_there() {
        assert_eq!(answer(APP, "db", 28), (0, None));
    }

    #[test]
    fn addresses_have_names() {
        let Decision::Answer(bytes) = asked(APP, "3.0.18.172.in-addr.arpa", 12) else { panic!("no answer") };
        assert!(bytes.ends_with(b"\x02db\0"), "{bytes:?}");
        assert_eq!(answer(APP, "99.0.18.172.in-addr.arpa", 12).0, 3);
        assert!(matches!(asked(APP, "1.2.0.192.in-addr.arpa", 12), Decision::Ask { .. }));
    }

    #[test]
    fn other_names_are_asked_for_unless_nothing_leads_out() {
        assert!(matches!(asked(APP, "example.com", 1), Decision::Ask { servers: None, .. }));
        let Decision::Ask { servers, .. } = asked(WEB, "example.com", 1) else { panic!("not asked") };
        assert_eq!(servers, Some(vec!["192.0.2.53".parse().unwrap()]));
        assert_eq!(answer(DB, "example.com", 1), (5, None));
    }

    #[test]
    fn what_is_no_question_gets_no_answer_or_says_so() {
        assert_eq!(view().decide(DB.parse().unwrap(), &[1, 2, 3], 512, BTreeSet::new), Decision::Silence);
        let two = [0, 7, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0];
        let Decision::Answer(bytes) = view().decide(DB.parse().unwrap(), &two, 512, BTreeSet::new) else {
            panic!("silence")
        };
        assert_eq!(bytes[3] & 15, 1);
    }
}
