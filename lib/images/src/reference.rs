//! Names of images, as Docker's distribution library reads them (`distribution/reference`).

use std::fmt;

/// The registry that a name without one means.
const DEFAULT_HOST: &str = "docker.io";

/// An image's full name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The registry: `HOST` or `HOST:PORT`.
    pub host: String,
    /// The repository in it: `library/nginx`.
    pub repository: String,
    /// The tag; `None` when only a digest is given.
    pub tag: Option<String>,
    /// The digest of the manifest or index: `sha256:` and 64 hex digits.
    pub digest: Option<String>,
}

/// A text that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{reference}' names no image: {reason}")]
pub struct InvalidReference {
    /// The text.
    pub reference: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reference {
    /// Reads a name, short or full. Without tag and digest it is the tag `latest`.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let bad = |reason| InvalidReference { reference: text.to_owned(), reason };
        let full = expand_reference(text);
        let (name, digest) = full.split_once('@').map_or((full.as_str(), None), |(n, d)| (n, Some(d)));
        let (host, path) = name.split_once('/').ok_or_else(|| bad("it has no repository"))?;
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(bad("its registry is not HOST or HOST:PORT"));
        }
        let is_part = |part: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
            let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            part.starts_with(outer) && part.ends_with(outer) && part.chars().all(inner)
        };
        if repository.len() > 255 || !repository.split('/').all(is_part) {
            return Err(bad(
                "a repository is made of a-z, 0-9 and . _ - between them, with / between its parts",
            ));
        }
        let is_tag = |tag: &str| {
            let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            (1..=128).contains(&tag.len()) && !tag.starts_with(['.', '-']) && tag.chars().all(word)
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad("a tag is made of a-z, A-Z, 0-9 and . _ -"));
        }
        if digest.is_some_and(|digest| crate::sha256_hex(digest).is_none()) {
            return Err(bad("a digest is sha256: and 64 hex digits"));
        }
        let owned = |part: Option<&str>| part.map(str::to_owned);
        Ok(Self {
            host: host.to_owned(),
            repository: repository.to_owned(),
            tag: owned(tag),
            digest: owned(digest),
        })
    }

    /// What a registry is asked for: the digest when there is one, else the tag.
    pub fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The same repository's image with this digest, whatever its tag.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> Self {
        Self { tag: None, digest: Some(digest.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// The full form of an image reference, as Docker's distribution library expands it: `nginx` becomes
/// `docker.io/library/nginx:latest`. A reference with a digest keeps it and gets no tag.
pub fn expand_reference(reference: &str) -> String {
    let (first, rest) = match reference.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
        Some(_) => (DEFAULT_HOST, reference.to_owned()),
        None => (DEFAULT_HOST, format!("library/{reference}")),
    };
    let last = rest.rsplit('/').next().unwrap_or(&rest);
    let tag = if last.contains([':', '@']) { "" } else { ":latest" };
    format!("{first}/{rest}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_like_dockers() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest"),
            ("ghcr.io/a/b:v1", "ghcr.io/a/b:v1"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("a@sha256:00", "docker.io/library/a@sha256:00"),
        ] {
            assert_eq!(expand_reference(short), full);
        }
    }

    #[test]
    fn a_reference_is_read_and_said_again() {
        let hex = "0".repeat(64);
        for (text, host, repository, version) in [
            ("nginx".to_owned(), "docker.io", "library/nginx", "latest"),
            ("r:5000/a/b:v1".to_owned(), "r:5000", "a/b", "v1"),
            (format!("a:v1@sha256:{hex}"), "docker.io", "library/a", &*format!("sha256:{hex}")),
            (format!("ghcr.io/a/b@sha256:{hex}"), "ghcr.io", "a/b", &*format!("sha256:{hex}")),
        ] {
            let reference = Reference::parse(&text).unwrap();
            assert_eq!((reference.host.as_str(), reference.repository.as_str()), (host, repository));
            assert_eq!((reference.version(), reference.to_string()), (version, expand_reference(&text)));
        }
        let pinned = Reference::parse("a:v1").unwrap().pinned("sha256:1");
        assert_eq!(pinned.to_string(), "docker.io/library/a@sha256:1");
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in
            ["", "a/../b", "a:", "a:-x", "a@sha256:00", "A", "a//b", "a/b/", "a?x", "r:5000/a b", "-a"]
        {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
