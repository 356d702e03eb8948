//! Asks registries: the pull part of the OCI distribution-spec, with the tokens of Docker's registries.
//!
//! A registry may lie and may be slow. Manifests and configurations are bounded and checked against their digests here;
//! blobs are read by [`super::blob`]. Credentials go to the endpoint they are given for, and to whom it names for its
//! tokens, over TLS unless the endpoint was declared to be spoken to without; they are never shown.

use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::{Credentials, Registry};
use images::oci::{self, Configuration, Layer, Unfit};
use images::{Config, Reference};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::challenge::Challenge;
use crate::http::{Client, HttpError, Pairs, Stream};

/// What the distribution-spec lets a registry limit manifests to; the same for configurations.
const MAX_JSON: u64 = 4 << 20;
/// How deep an index may be in another.
const MAX_DEPTH: u32 = 4;

/// What is accepted as the answer to a request for a manifest.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// Why a registry was of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("{base} refuses it with status {status}: {hint}")]
    Denied { base: String, status: u16, hint: &'static str },
    #[error("{base} does not have {what}")]
    Missing { base: String, what: String },
    #[error("{base} answered with status {status} when it was asked for {what}")]
    Status { base: String, status: u16, what: String },
    #[error("{base} wants to be shown credentials in a way that is not known: {scheme}")]
    Challenge { base: String, scheme: String },
    #[error("{base} gives its tokens at {realm}, which is asked by TLS alone")]
    Realm { base: String, realm: String },
    #[error("{base} gave no token")]
    Token { base: String },
    #[error("{what} cannot be read to its end")]
    Read { what: String, source: std::io::Error },
    #[error("{what} has more than {MAX_JSON} bytes")]
    TooLarge { what: String },
    #[error("{what} is not what was asked for: its digest is {found}")]
    Digest { what: String, found: String },
    #[error("{what} cannot be understood")]
    Parse { what: String, source: serde_json::Error },
    #[error("{what} is no image: it has neither layers nor manifests")]
    NoImage { what: String },
    #[error("{what} cannot be run here")]
    Unfit { what: String, source: Unfit },
}

impl RegistryError {
    /// Whether the same question may have another answer in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Http(HttpError::Status { status, .. }) | Self::Status { status, .. } => {
                matches!(status, 408 | 425 | 429 | 500..)
            }
            Self::Http(HttpError::Roots { .. } | HttpError::TooLarge { .. }) => false,
            Self::Http(_) | Self::Read { .. } => true,
            _ => false,
        }
    }
}

/// One place where images of a registry are: itself, or a mirror.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Scheme and host, maybe a path.
    pub(crate) base: String,
    credentials: Option<Credentials>,
    /// What the last answer asked to be shown.
    authorization: Mutex<Option<String>>,
}

/// Where images of the registry `host` are asked for, in this order.
pub(crate) fn endpoints(host: &str, registry: &Registry) -> Vec<Endpoint> {
    let scheme = if registry.is_insecure(host) { "http" } else { "https" };
    // The name of Docker's registry is not its host.
    let itself = if host == "docker.io" { "registry-1.docker.io" } else { host };
    let mirrors = registry.mirrors.get(host).into_iter().flatten().map(|url| {
        let name = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        (url.clone(), name.split('/').next().unwrap_or(name))
    });
    let all = mirrors.chain([(format!("{scheme}://{itself}"), host)]);
    all.map(|(base, name)| Endpoint {
        base,
        credentials: registry.credentials.get(name).cloned(),
        authorization: Mutex::default(),
    })
    .collect()
}

/// A repository at an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) client: &'a Client,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) repository: &'a str,
    /// The wait after the first failure of a request; it doubles.
    pub(crate) pause: Duration,
}

/// What an image is made of.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// Digest of the manifest.
    pub(crate) digest: String,
    /// Lowest first.
    pub(crate) layers: Vec<Layer>,
    pub(crate) config: Config,
}

impl Source<'_> {
    /// Finds an image: through indexes to the manifest for this machine, and its configuration.
    pub(crate) fn image(&self, reference: &Reference) -> Result<Manifest, RegistryError> {
        let mut version = reference.version().to_owned();
        for _ in 0..MAX_DEPTH {
            let what = format!("the manifest {version}");
            let (digest, text) = self.manifest(&version, &what)?;
            let value: Value = parse(&text, &what)?;
            let has = |key: &str| value.get(key).is_some_and(Value::is_array);
            if has("layers") {
                return self.of_manifest(digest, &text, what);
            }
            if !has("manifests") {
                return Err(RegistryError::NoImage { what });
            }
            let index: ImageIndex = parse(&text, &what)?;
            let chosen = oci::choose(index.manifests());
            version = chosen.map_err(|source| RegistryError::Unfit { what, source })?.digest().to_string();
        }
        Err(RegistryError::NoImage { what: format!("an index in more than {MAX_DEPTH} others") })
    }

    fn of_manifest(&self, digest: String, text: &[u8], what: String) -> Result<Manifest, RegistryError> {
        let manifest: ImageManifest = parse(text, &what)?;
        let config: Configuration = self.json(manifest.config())?;
        let layers =
            oci::layers(&manifest, &config).map_err(|source| RegistryError::Unfit { what, source })?;
        Ok(Manifest { digest, layers, config: oci::run_config(&config) })
    }

    /// A manifest or index by tag or digest, with its digest.
    fn manifest(&self, version: &str, what: &str) -> Result<(String, Vec<u8>), RegistryError> {
        let path = format!("manifests/{version}");
        let answer = self.get_patiently(&path, &[("Accept", MANIFESTS)], what)?;
        let said = answer.header("docker-content-digest").map(str::to_owned);
        let text = whole(answer, what)?;
        let found = images::digest_of(&text);
        let wanted = images::sha256_hex(version).map(|_| version.to_owned()).or(said);
        if wanted.is_some_and(|wanted| wanted.starts_with("sha256:") && wanted != found) {
            return Err(RegistryError::Digest { what: what.to_owned(), found });
        }
        Ok((found, text))
    }

    /// A blob of JSON, checked.
    fn json<T: DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T, RegistryError> {
        let what = format!("the configuration {}", descriptor.digest());
        let text = whole(self.get_patiently(&format!("blobs/{}", descriptor.digest()), &[], &what)?, &what)?;
        let found = images::digest_of(&text);
        if descriptor.digest().as_ref() != found {
            return Err(RegistryError::Digest { what, found });
        }
        parse(&text, &what)
    }

    /// As [`Self::get`], a few times when the answer may be another one in a moment.
    fn get_patiently(&self, path: &str, headers: Pairs<'_>, what: &str) -> Result<Stream, RegistryError> {
        const ATTEMPTS: u32 = 3;
        for attempt in 0..ATTEMPTS - 1 {
            match self.get(path, headers, what) {
                Err(error) if error.may_pass() => thread::sleep(self.pause * 2_u32.pow(attempt)),
                result => return result,
            }
        }
        self.get(path, headers, what)
    }

    /// Asks for `path` below the repository; the answer has status 200 or 206.
    pub(crate) fn get(&self, path: &str, headers: Pairs<'_>, what: &str) -> Result<Stream, RegistryError> {
        let url = format!("{}/v2/{}/{path}", self.endpoint.base, self.repository);
        let known = self.endpoint.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = self.ask(&url, headers, known.as_deref())?;
        if answer.status != 401 {
            return self.good(answer, what);
        }
        let authorization = self.authorize(&answer)?;
        let answer = self.ask(&url, headers, Some(&authorization))?;
        *self.endpoint.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        self.good(answer, what)
    }

    fn ask(&self, url: &str, headers: Pairs<'_>, authorization: Option<&str>) -> Result<Stream, HttpError> {
        match authorization {
            Some(value) => self.client.open(url, &[headers, &[("Authorization", value)]].concat()),
            None => self.client.open(url, headers),
        }
    }

    fn good(&self, answer: Stream, what: &str) -> Result<Stream, RegistryError> {
        let (base, what) = (self.endpoint.base.clone(), what.to_owned());
        match answer.status {
            200 | 206 => Ok(answer),
            404 => Err(RegistryError::Missing { base, what }),
            status @ (401 | 403) => {
                let hint = match self.endpoint.credentials {
                    Some(_) => "the credentials in 'holdfast.registry.auth' do not open it",
                    None => "it takes credentials, which 'holdfast.registry.auth' can give, or is not there",
                };
                Err(RegistryError::Denied { base, status, hint })
            }
            status => Err(RegistryError::Status { base, status, what }),
        }
    }

    /// What to show, as the answer asks for it.
    fn authorize(&self, answer: &Stream) -> Result<String, RegistryError> {
        let base = || self.endpoint.base.clone();
        let asked = answer.header("www-authenticate").unwrap_or_default();
        let challenge = Challenge::read(asked);
        match challenge.scheme.as_str() {
            "basic" => match &self.endpoint.credentials {
                Some(Credentials::Password { user, password }) => Ok(basic(user, password)),
                _ => Err(RegistryError::Denied {
                    base: base(),
                    status: answer.status,
                    hint: "it takes a user and a password, which 'holdfast.registry.auth' can give",
                }),
            },
            "bearer" => self.token(&challenge),
            _ => Err(RegistryError::Challenge { base: base(), scheme: challenge.scheme }),
        }
    }

    /// Docker's token authentication (distribution, `spec/auth/token.md` and `oauth.md`).
    fn token(&self, challenge: &Challenge) -> Result<String, RegistryError> {
        let base = || self.endpoint.base.clone();
        let realm = challenge.get("realm").unwrap_or_default();
        let is_plain = !realm.starts_with("https://");
        if is_plain && !(realm.starts_with("http://") && self.endpoint.base.starts_with("http://")) {
            return Err(RegistryError::Realm { base: base(), realm: realm.to_owned() });
        }
        let service = challenge.get("service").unwrap_or_default();
        let pull = format!("repository:{}:pull", self.repository);
        let scope = challenge.get("scope").unwrap_or(&pull);
        let answer = match &self.endpoint.credentials {
            Some(Credentials::Token(token)) => {
                let fields = [
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("scope", scope),
                    ("client_id", "holdfast"),
                    ("refresh_token", token),
                ];
                self.client.post_form(realm, &[], &fields)?
            }
            credentials => {
                let url = challenge.url(realm, service, scope);
                let shown = match credentials {
                    Some(Credentials::Password { user, password }) => Some(basic(user, password)),
                    _ => None,
                };
                let header = shown.as_deref().map(|shown| ("Authorization", shown));
                self.client.get(&url, header.as_slice())?
            }
        };
        let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let token = answer.get("token").or_else(|| answer.get("access_token")).and_then(Value::as_str);
        let token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| RegistryError::Token { base: base() })
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn whole(answer: Stream, what: &str) -> Result<Vec<u8>, RegistryError> {
    let mut text = Vec::new();
    let read = answer.take(MAX_JSON + 1).read_to_end(&mut text);
    read.map_err(|source| RegistryError::Read { what: what.to_owned(), source })?;
    if text.len() as u64 > MAX_JSON {
        return Err(RegistryError::TooLarge { what: what.to_owned() });
    }
    Ok(text)
}

fn parse<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T, RegistryError> {
    serde_json::from_slice(text).map_err(|source| RegistryError::Parse { what: what.to_owned(), source })
}
