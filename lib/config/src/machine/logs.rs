//! `holdfast.logs`: where the logs of services are sent.

use std::fmt;

use userdata::{At, KeySpec as Key};

use super::take;

/// Somebody who gets the logs of all services.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Receiver {
    /// Messages of RFC 5424 over TCP (RFC 6587, octet counting), or over TLS (RFC 5425).
    Syslog {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// With TLS.
        tls: bool,
    },
    /// Lines of JSON, POSTed.
    Http {
        /// The address.
        url: String,
        /// Headers beside the usual ones.
        headers: Vec<(String, String)>,
    },
}

/// Without headers and query, which may be secret.
impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syslog { host, port, tls } => {
                write!(f, "{}://{host}:{port}", if *tls { "tcp+tls" } else { "tcp" })
            }
            Self::Http { url, .. } => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                write!(f, "{scheme}://{}", host.rsplit('@').next().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Ports by IANA's list: `syslog-conn` and `syslog-tls`.
const PORTS: [(&str, u16, bool); 2] = [("tcp://", 601, false), ("tcp+tls://", 6514, true)];

pub(super) fn logs(at: &At<'_>) -> Vec<Receiver> {
    let table: [Key<Vec<Receiver>>; 1] = [take(
        "forward",
        |at, receivers: &mut Vec<Receiver>| {
            receivers.extend(at.list_or_one().iter().filter_map(receiver));
        },
        "List of receivers, each an address or a map with `to` and `headers`: `tcp://HOST[:601]` (syslog), \
         `tcp+tls://HOST[:6514]` (syslog over TLS), `https://...` or `http://...` (lines of JSON, with those headers).",
    )];
    let mut receivers = Vec::new();
    at.section("'holdfast.logs'", &table, &mut receivers);
    receivers
}

#[derive(Default)]
struct Draft {
    to: Option<String>,
    headers: Vec<(String, String)>,
}

const RECEIVER: [Key<Draft>; 2] = [
    take("to", |at, draft| draft.to = at.text().map(str::to_owned), "The address. Required."),
    take("headers", headers, "Headers of the requests, such as `Authorization`: a map of names to texts."),
];

fn headers(at: &At<'_>, draft: &mut Draft) {
    for (name, _, value) in at.map().into_iter().flatten() {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let Some(text) = value.text() else { continue };
        if name.is_empty() || !name.chars().all(token) || text.chars().any(char::is_control) {
            value.error("not a header");
        } else {
            draft.headers.push((name.to_owned(), text.to_owned()));
        }
    }
}

fn receiver(at: &At<'_>) -> Option<Receiver> {
    let mut draft = Draft::default();
    if at.is_map() {
        at.section("a receiver of logs", &RECEIVER, &mut draft);
        if at.get("to").is_none() {
            at.error("has no 'to'");
        }
    } else {
        draft.to = at.text().map(str::to_owned);
    }
    let to = draft.to?;
    let place = at.get("to").filter(|_| at.is_map()).unwrap_or_else(|| at.clone());
    let wrong = || {
        place.error_with_hint(
            "not the address of a receiver of logs",
            "as in tcp://logs.example.com:601, tcp+tls://logs.example.com or https://logs.example.com/in",
        );
    };
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if to.contains(odd) {
        wrong();
        return None;
    }
    if ["http://", "https://"]
        .iter()
        .any(|scheme| to.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
    {
        return Some(Receiver::Http { url: to, headers: draft.headers });
    }
    let syslog = PORTS.iter().find_map(|(scheme, port, tls)| Some((to.strip_prefix(scheme)?, *port, *tls)));
    let parts = syslog.and_then(|(rest, default, tls)| {
        let (host, port) = host_and_port(rest)?;
        Some((host, port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port > 0))?, tls))
    });
    let Some((host, port, tls)) = parts else {
        wrong();
        return None;
    };
    if !draft.headers.is_empty() {
        place.error("only requests of HTTP have headers");
    }
    Some(Receiver::Syslog { host: host.to_owned(), port, tls })
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`; the host without brackets.
fn host_and_port(text: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':').or(if rest.is_empty() { None } else { Some("no port") }))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let word = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    (!host.is_empty() && host.chars().all(word)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use crate::{Input, Judge, judge};

    #[test]
    fn receivers_are_addresses() {
        for (forward, shown) in [
            ("tcp://logs.example.com", "[tcp://logs.example.com:601]"),
            ("['tcp+tls://192.0.2.1']", "[tcp+tls://192.0.2.1:6514]"),
            ("['tcp://[2001:db8::1]:514', 'https://u:p@h/x?token=y']", "[tcp://2001:db8::1:514, https://h]"),
            ("[{to: 'http://h/in', headers: {Authorization: Bearer x}}]", "[http://h]"),
        ] {
            let text = format!("#cloud-config\nholdfast: {{logs: {{forward: {forward}}}}}\n");
            let outcome = judge(&Input::user_data("f", text.as_bytes()), Judge::Node);
            let config = outcome.config.unwrap_or_else(|| panic!("{forward}: {:#?}", outcome.problems));
            assert_eq!(format!("{:?}", config.machine.holdfast.logs), shown, "{forward}");
            assert_eq!(outcome.problems, [], "{forward}");
        }
        for (forward, problem) in [
            ("udp://h", "not the address of a receiver of logs"),
            ("tcp://h:0", "not the address of a receiver of logs"),
            ("tcp://h/path", "not the address of a receiver of logs"),
            ("'tcp://[::1]x'", "not the address of a receiver of logs"),
            ("[{headers: {}}]", "has no 'to'"),
            ("[{to: 'tcp://h', headers: {A: b}}]", "only requests of HTTP have headers"),
            ("[{to: 'http://h', headers: {'a b': c}}]", "not a header"),
        ] {
            let text = format!("#cloud-config\nholdfast: {{logs: {{forward: {forward}}}}}\n");
            let problems = judge(&Input::user_data("f", text.as_bytes()), Judge::Node).problems;
            assert!(problems.iter().any(|p| p.to_string().contains(problem)), "{forward}: {problems:#?}");
        }
    }
}
