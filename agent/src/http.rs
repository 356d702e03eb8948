//! A small HTTP client for what the node fetches: meta-data of a cloud, included user-data, contents of files.
//!
//! Whoever answers is not trusted: each request has an end in time, each answer one in size, and redirects are counted.
//! A redirect never leads from TLS to a plain connection. No proxy is asked, whatever the environment says. The
//! certificates that count are those of the node, so `ca_certs` counts; they are read when the first request needs
//! them, because most nodes only ever ask a metadata service, and that has no TLS.

mod any_link;
mod low_port;
mod stream;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use any_link::AnyLink;
use low_port::LowPort;
pub(crate) use stream::Stream;
use ureq::config::Config;
pub(crate) use ureq::http::HeaderMap;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, AsSendBody, Body, http};

use crate::clock;

/// The certificate authorities that the node trusts.
pub(crate) const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a request may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Until there is a connection, the name's lookup not counted.
    pub(crate) connect: Duration,
    /// From the lookup to the last byte.
    pub(crate) whole: Duration,
    /// Bytes of the answer.
    pub(crate) body: usize,
    /// How many times the answer may be somewhere else.
    pub(crate) redirects: u32,
}

impl Default for Limits {
    /// For files on the internet that belong to a configuration.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            whole: Duration::from_secs(60),
            body: config::MAX_SIZE,
            redirects: 5,
        }
    }
}

/// Why there is no answer. Addresses are without what may be a secret in them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{url} answered with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answered with more than {limit} bytes")]
    TooLarge { url: String, limit: usize },
    #[error("{url} has not answered within {} s", .limit.as_secs_f32())]
    TimedOut { url: String, limit: Duration },
    #[error("cannot read the certificate authorities {path}")]
    Roots { path: PathBuf, source: io::Error },
    #[error("cannot ask {url}")]
    Failed { url: String, source: Box<ureq::Error> },
}

impl HttpError {
    /// Whether the server says that there is no such thing: asking again does not help.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Status { status: 404 | 410, .. })
    }
}

/// A good answer (status 200 to 299).
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// A header, when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Names and values of headers, or fields of a form.
pub(crate) type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Asks servers.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    limits: Limits,
    roots: PathBuf,
    plain: Agent,
    secure: Arc<OnceLock<Agent>>,
}

impl Client {
    /// One that trusts whom the node trusts.
    pub(crate) fn new(limits: Limits) -> Self {
        Self::trusting(Path::new(ROOTS), limits)
    }

    /// One that asks from a port below 1024, which shows that root asks. It speaks no TLS and follows no redirects.
    pub(crate) fn privileged(limits: Limits) -> Self {
        let plain = Agent::with_parts(settings(&limits, None), LowPort, AnyLink::default());
        Self { plain, ..Self::new(Limits { redirects: 0, ..limits }) }
    }

    /// One that trusts the authorities in a file of PEM blocks.
    fn trusting(roots: &Path, limits: Limits) -> Self {
        let plain =
            Agent::with_parts(settings(&limits, None), DefaultConnector::default(), AnyLink::default());
        Self { limits, roots: roots.to_owned(), plain, secure: Arc::default() }
    }

    /// GET.
    pub(crate) fn get(&self, url: &str, headers: Pairs<'_>) -> Result<Response, HttpError> {
        self.send("GET", url, headers, None)
    }

    /// PUT without a body.
    pub(crate) fn put(&self, url: &str, headers: Pairs<'_>) -> Result<Response, HttpError> {
        self.send("PUT", url, headers, Some(b""))
    }

    /// POST.
    pub(crate) fn post(&self, url: &str, headers: Pairs<'_>, body: &[u8]) -> Result<Response, HttpError> {
        self.send("POST", url, headers, Some(body))
    }

    /// POST of a form.
    pub(crate) fn post_form(
        &self,
        url: &str,
        headers: Pairs<'_>,
        fields: Pairs<'_>,
    ) -> Result<Response, HttpError> {
        let form_type = [("Content-Type", "application/x-www-form-urlencoded")];
        self.post(url, &[headers, &form_type].concat(), form(fields).as_bytes())
    }

    fn send(
        &self,
        method: &str,
        url: &str,
        headers: Pairs<'_>,
        body: Option<&[u8]>,
    ) -> Result<Response, HttpError> {
        let agent = self.agent(url)?;
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = match body {
            Some(body) => request.body(body).map_err(ureq::Error::from).and_then(|r| run(agent, url, r)),
            None => request.body(()).map_err(ureq::Error::from).and_then(|r| run(agent, url, r)),
        };
        answer.and_then(|answer| self.read(answer)).map_err(|error| self.failed(url, error))
    }

    fn read(&self, answer: http::Response<Body>) -> Result<Response, ureq::Error> {
        let (head, mut body) = answer.into_parts();
        if !head.status.is_success() {
            return Err(ureq::Error::StatusCode(head.status.as_u16()));
        }
        let body = body.with_config().limit(self.limits.body as u64).read_to_vec()?;
        Ok(Response { headers: head.headers, body })
    }

    fn failed(&self, url: &str, error: ureq::Error) -> HttpError {
        let url = shown(url);
        match error {
            ureq::Error::StatusCode(status) => HttpError::Status { url, status },
            ureq::Error::BodyExceedsLimit(_) => HttpError::TooLarge { url, limit: self.limits.body },
            ureq::Error::Timeout(ureq::Timeout::Connect) => {
                HttpError::TimedOut { url, limit: self.limits.connect }
            }
            ureq::Error::Timeout(_) => HttpError::TimedOut { url, limit: self.limits.whole },
            error => HttpError::Failed { url, source: Box::new(error) },
        }
    }

    /// The agent for an address. Plain requests may be redirected to TLS, so that they need the authorities, too, unless
    /// nothing is followed.
    fn agent(&self, url: &str) -> Result<&Agent, HttpError> {
        if is_secure(url) {
            clock::before_certificates();
        } else if self.limits.redirects == 0 {
            return Ok(&self.plain);
        }
        if let Some(agent) = self.secure.get() {
            return Ok(agent);
        }
        let roots = std::fs::read(&self.roots)
            .map_err(|source| HttpError::Roots { path: self.roots.clone(), source })?;
        let certificates: Vec<Certificate<'static>> = parse_pem(&roots)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        Ok(self.secure.get_or_init(|| settings(&self.limits, Some(certificates)).new_agent()))
    }
}

fn settings(limits: &Limits, roots: Option<Vec<Certificate<'static>>>) -> Config {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots.unwrap_or_default())))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Agent::config_builder()
        .proxy(None)
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(limits.connect))
        .timeout_global(Some(limits.whole))
        .max_redirects(limits.redirects)
        // A connection that the server has closed meanwhile would fail the next request.
        .max_idle_connections(0)
        .tls_config(tls)
        .build()
}

fn run(
    agent: &Agent,
    url: &str,
    request: http::Request<impl AsSendBody>,
) -> Result<http::Response<Body>, ureq::Error> {
    agent.run(agent.configure_request(request).https_only(is_secure(url)).build())
}

fn is_secure(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// Fields as HTML forms send them (WHATWG URL, section 5.2).
fn form(fields: Pairs<'_>) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        let separator = if text.is_empty() { "" } else { "&" };
        text.push_str(separator);
        encode(name, &mut text);
        text.push('=');
        encode(value, &mut text);
    }
    text
}

fn encode(value: &str, text: &mut String) {
    for byte in value.bytes() {
        match byte {
            b' ' => text.push('+'),
            b'*' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// An address without user, password and query.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
