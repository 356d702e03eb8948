//! Answers that are read as they come, however long they are: layers of images. Whoever reads them counts the bytes and
//! says when it has had enough; the connection ends when nothing comes for a while.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use ureq::BodyReader;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{self, HeaderMap};

use super::{Client, HttpError, Limits, Pairs, is_secure, shown};

/// How long nothing may come.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// An answer of any status whose body has yet to be read.
pub(crate) struct Stream {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: BodyReader<'static>,
}

impl Stream {
    /// A header, when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

impl Client {
    /// One for streams. It trusts the authorities in `roots`, else whom the node trusts.
    pub(crate) fn of_streams(roots: Option<&Path>) -> Self {
        Self::trusting(roots.unwrap_or(Path::new(super::ROOTS)), Limits::default())
    }

    /// GET, up to the head of the answer. A redirect to another host does not take credentials along.
    pub(crate) fn open(&self, url: &str, headers: Pairs<'_>) -> Result<Stream, HttpError> {
        let agent = self.agent(url)?;
        let mut request = http::Request::builder().method("GET").uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(()).map_err(ureq::Error::from).and_then(|request| {
            let request = agent
                .configure_request(request)
                .https_only(is_secure(url))
                .timeout_global(None)
                .timeout_recv_response(Some(SILENCE))
                .timeout_per_read(Some(SILENCE))
                .http_status_as_error(false)
                .redirect_auth_headers(RedirectAuthHeaders::SameHost)
                .build();
            agent.run(request)
        });
        let (head, body) = answer.map_err(|error| failed(self, url, error))?.into_parts();
        // A body has the length that it has: the reader counts.
        let body = body.into_with_config().limit(u64::MAX).reader();
        Ok(Stream { status: head.status.as_u16(), headers: head.headers, body })
    }
}

fn failed(client: &Client, url: &str, error: ureq::Error) -> HttpError {
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect) => client.failed(url, error),
        ureq::Error::Timeout(_) => HttpError::TimedOut { url: shown(url), limit: SILENCE },
        error => client.failed(url, error),
    }
}
