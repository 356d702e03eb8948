//! Metadata services: what is common to asking them and to reading what they say.
//!
//! What the answers mean is read apart from getting them, so that it is tested with documents and without a network.
//! Answers are from outside: whatever does not hold what it should is an error that names the address.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::{MetaData, Problem};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use userdata::{Budget, Duplicates, Place, Report, SourceId, parse};

use super::vmware::GuestinfoError;
use super::{Datasource, Found};
use crate::file::FileError;
use crate::http::{Client, HttpError, Pairs, Response};

/// The address that most metadata services have.
pub(super) const ADDRESS: &str = "http://169.254.169.254";

/// Why a datasource cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{document} does not read as expected")]
    Json { document: String, source: serde_json::Error },
    #[error("{document} is not YAML: {problem}")]
    Yaml { document: String, problem: String },
    #[error("{document} is not XML")]
    Xml { document: String, source: roxmltree::Error },
    #[error(transparent)]
    Guestinfo(#[from] GuestinfoError),
    #[error("{document} is in the encoding '{encoding}': known are base64 and gzip+base64")]
    Encoding { document: String, encoding: String },
    #[error("{document} {reason}")]
    Packed { document: String, reason: String },
    #[error("{document} is not base64")]
    Base64 { document: String, source: base64::DecodeError },
    #[error("{document} has no {what}")]
    Lacks { document: String, what: &'static str },
    #[error("the time for asking is over")]
    Late,
    #[error("{0} is not asked over the network")]
    NoService(&'static str),
}

/// Who is asked: a server, or in tests what one would say.
pub(super) trait Ask {
    fn get(&self, url: &str, headers: Pairs<'_>) -> Result<Response, SourceError>;
    fn put(&self, url: &str, headers: Pairs<'_>) -> Result<Response, SourceError>;
    fn post(&self, url: &str, headers: Pairs<'_>, body: &[u8]) -> Result<Response, SourceError>;

    /// The body, or `None` when the server says that there is none.
    fn optional(&self, url: &str, headers: Pairs<'_>) -> Result<Option<Vec<u8>>, SourceError> {
        match self.get(url, headers) {
            Err(error) if error.is_missing() => Ok(None),
            result => Ok(Some(result?.body)),
        }
    }

    /// The body as text.
    fn text(&self, url: &str, headers: Pairs<'_>) -> Result<String, SourceError> {
        Ok(String::from_utf8_lossy(&self.get(url, headers)?.body).trim().to_owned())
    }
}

impl SourceError {
    /// Whether a server says that there is no such thing.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_missing())
    }

    /// Whether nobody has answered.
    fn is_silence(&self) -> bool {
        matches!(self, Self::Http(HttpError::TimedOut { .. } | HttpError::Failed { .. }))
    }

    /// Whether a server has answered that it will not.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Http(HttpError::Status { .. }))
    }
}

/// Asks the addresses of one service in turn, until there is an answer, whatever it is. When there is none, the first
/// one's silence counts: that is the address that everybody has.
pub(super) fn first_that_answers<T>(
    addresses: &[&str],
    mut ask: impl FnMut(&str) -> Result<T, SourceError>,
) -> Result<T, SourceError> {
    let mut silence = None;
    for address in addresses {
        match ask(address) {
            Err(error) if error.is_silence() => drop(silence.get_or_insert(error)),
            result => return result,
        }
    }
    Err(silence.unwrap_or(SourceError::Late))
}

/// Servers that are asked until the time is over.
#[derive(Debug)]
pub(super) struct Until<'a> {
    pub(super) client: &'a Client,
    pub(super) deadline: Instant,
}

impl Until<'_> {
    fn ask(&self, ask: impl FnOnce(&Client) -> Result<Response, HttpError>) -> Result<Response, SourceError> {
        if Instant::now() >= self.deadline {
            return Err(SourceError::Late);
        }
        Ok(ask(self.client)?)
    }
}

impl Ask for Until<'_> {
    fn get(&self, url: &str, headers: Pairs<'_>) -> Result<Response, SourceError> {
        self.ask(|client| client.get(url, headers))
    }

    fn put(&self, url: &str, headers: Pairs<'_>) -> Result<Response, SourceError> {
        self.ask(|client| client.put(url, headers))
    }

    fn post(&self, url: &str, headers: Pairs<'_>, body: &[u8]) -> Result<Response, SourceError> {
        self.ask(|client| client.post(url, headers, body))
    }
}

/// What a cloud says of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) id: Option<String>,
    pub(super) hostname: Option<String>,
    /// Lines of an `authorized_keys` file.
    pub(super) keys: Vec<String>,
}

impl Instance {
    /// As meta-data, judged like a user's own.
    pub(super) fn judge(&self, cloud: Datasource) -> (MetaData, Vec<Problem>) {
        let hostname = self.hostname.as_deref().filter(|name| !name.is_empty());
        let text =
            json!({"instance-id": self.id, "local-hostname": hostname, "public-keys": self.keys}).to_string();
        config::meta_data(&cloud.document("meta-data"), text.as_bytes())
    }

    /// A configuration that only has this so far.
    pub(super) fn found(&self, cloud: Datasource, user_data: Option<Vec<u8>>) -> Found {
        let (meta, problems) = self.judge(cloud);
        let name = cloud.document("user-data");
        Found { meta, problems, ..Found::new(cloud, &name, user_data.unwrap_or_else(nothing)) }
    }
}

/// The configuration of an instance that was given none.
pub(super) fn nothing() -> Vec<u8> {
    b"#cloud-config\n{}\n".to_vec()
}

/// A document with its name, unless there is nothing in it.
pub(super) fn named(cloud: Datasource, name: &str, content: Option<Vec<u8>>) -> Option<(String, Vec<u8>)> {
    let content = content.filter(|content| !content.trim_ascii().is_empty())?;
    Some((cloud.document(name), content))
}

pub(super) fn from_json<T: DeserializeOwned>(document: &str, bytes: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(bytes)
        .map_err(|source| SourceError::Json { document: document.to_owned(), source })
}

/// YAML, whose numbers and truth values are those of its core schema.
pub(super) fn from_yaml<T: DeserializeOwned>(document: &str, bytes: &[u8]) -> Result<T, SourceError> {
    let report = Report::new(document);
    let place = Place { source: SourceId::default(), line: 1 };
    let text = String::from_utf8_lossy(bytes);
    let Some(node) = parse(&text, place, Duplicates::LastWins, &mut Budget::default(), &report) else {
        let problem = report.finish().problems.into_iter().next().map(|problem| problem.message);
        return Err(SourceError::Yaml {
            document: document.to_owned(),
            problem: problem.unwrap_or_default(),
        });
    };
    let value = serde_json::to_value(&node).and_then(serde_json::from_value);
    value.map_err(|source| SourceError::Json { document: document.to_owned(), source })
}

/// A text that may have been written as a number.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Keys, one a line, of a text or of a list of texts.
pub(super) fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
        }
        Value::Array(items) => items.iter().flat_map(lines).collect(),
        _ => Vec::new(),
    }
}

/// Base64 with or without line breaks.
pub(super) fn from_base64(document: &str, text: &str) -> Result<Vec<u8>, SourceError> {
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|source| SourceError::Base64 { document: document.to_owned(), source })
}

/// User-data of a cloud that only takes text, so that people encode what is none. What begins a configuration is never
/// base64.
pub(super) fn maybe_base64(content: Vec<u8>) -> Vec<u8> {
    let decoded = std::str::from_utf8(&content).ok().and_then(|text| from_base64("", text).ok());
    decoded.filter(|decoded| !decoded.is_empty()).unwrap_or(content)
}

#[cfg(test)]
pub(super) mod recorded {
    //! A service that says what is written down.

    use std::cell::RefCell;

    use super::*;
    use crate::http::HeaderMap;

    /// Each answer: `METHOD URL`, a status and a body.
    #[derive(Debug)]
    pub(in crate::source) struct Recorded {
        answers: Vec<(String, u16, Vec<u8>)>,
        pub(in crate::source) headers: HeaderMap,
        /// What was asked: method, address, headers, body.
        pub(in crate::source) asked: RefCell<Vec<String>>,
    }

    impl Recorded {
        pub(in crate::source) fn new(answers: &[(&str, u16, &str)]) -> Self {
            let answers = answers
                .iter()
                .map(|(request, status, body)| ((*request).to_owned(), *status, body.as_bytes().to_vec()));
            Self { answers: answers.collect(), headers: HeaderMap::new(), asked: RefCell::default() }
        }

        fn answer(
            &self,
            method: &str,
            url: &str,
            headers: Pairs<'_>,
            body: &[u8],
        ) -> Result<Response, SourceError> {
            let words: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let body = String::from_utf8_lossy(body);
            self.asked.borrow_mut().push(format!("{method} {url} [{}] {body}", words.join(", ")));
            let request = format!("{method} {url}");
            let answer = self.answers.iter().find(|(known, ..)| *known == request);
            match answer {
                Some((_, 200, body)) => Ok(Response { headers: self.headers.clone(), body: body.clone() }),
                Some((_, status, _)) => {
                    Err(HttpError::Status { url: url.to_owned(), status: *status }.into())
                }
                None => Err(HttpError::Status { url: url.to_owned(), status: 404 }.into()),
            }
        }
    }

    impl Ask for Recorded {
        fn get(&self, url: &str, headers: Pairs<'_>) -> Result<Response, SourceError> {
            self.answer("GET", url, headers, b"")
        }

        fn put(&self, url: &str, headers: Pairs<'_>) -> Result<Response, SourceError> {
            self.answer("PUT", url, headers, b"")
        }

        fn post(&self, url: &str, headers: Pairs<'_>, body: &[u8]) -> Result<Response, SourceError> {
            self.answer("POST", url, headers, body)
        }
    }

    /// A key that is one.
    pub(in crate::source) const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_only_when_it_is_base64() {
        for (given, read) in [
            ("I2Nsb3VkLWNvbmZpZwo=", "#cloud-config\n"),
            ("I2Nsb3Vk\nLWNvbmZpZwo=\n", "#cloud-config\n"),
            ("#cloud-config\n", "#cloud-config\n"),
            ("<html></html>", "<html></html>"),
            ("", ""),
        ] {
            assert_eq!(maybe_base64(given.into()), read.as_bytes(), "{given}");
        }
    }

    #[test]
    fn what_a_cloud_says_is_judged_as_meta_data() {
        let instance = Instance {
            id: Some("1".to_owned()),
            hostname: Some("web.example.com".to_owned()),
            keys: vec![recorded::KEY.to_owned(), "nonsense".to_owned()],
        };
        let (meta, problems) = instance.judge(Datasource::Hetzner);
        assert_eq!((meta.instance_id.as_deref(), meta.local_hostname.as_deref()), (Some("1"), Some("web")));
        assert_eq!(meta.public_keys, [recorded::KEY]);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().starts_with("warning Hetzner/meta-data:1:"), "{}", problems[0]);
        let found = Instance::default().found(Datasource::Ec2, None);
        assert!(found.problems.is_empty() && found.meta == MetaData::default());
        assert!(config::check("x", &found.user_data).1.is_empty(), "nothing is a configuration, too");
    }

    #[test]
    fn nothing_is_asked_when_the_time_is_over() {
        let client = Client::new(crate::http::Limits::default());
        let late = Until { client: &client, deadline: Instant::now() };
        assert!(matches!(late.get("http://127.0.0.1:9/", &[]), Err(SourceError::Late)));
    }
}
