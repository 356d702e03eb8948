//! `holdfast.images`: images that come from files and not from registries. `holdfast.scrub`: how often all are read.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use images::Reference;
use userdata::{At, KeySpec as Key};

use super::{Holdfast, take};

/// An image that is imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The name that services have for it: without a digest.
    pub name: Reference,
    /// Where it is.
    pub from: ImageSource,
    /// SHA-256 of the file: 64 hex digits.
    pub sha256: Option<String>,
}

/// Where an image is imported from.
#[derive(Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A file or directory of the node: absolute, without `..`.
    Path(PathBuf),
    /// An address. By plain HTTP only with the digest of what is there.
    Url(String),
}

/// Without user, password and query, which may be secret.
impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Url(url) => {
                let url = url.split(['?', '#']).next().unwrap_or_default();
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                write!(f, "{scheme}://{}{path}", host.rsplit('@').next().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Import {
    /// Whether `reference` means this image. What it says of a digest is another question.
    pub fn is(&self, reference: &Reference) -> bool {
        let name = &self.name;
        (&name.host, &name.repository, &name.tag) == (&reference.host, &reference.repository, &reference.tag)
    }

    /// What tells it from another import: where it is from, and what that shall be. Nothing secret can be read from it.
    pub fn identity(&self) -> String {
        let from = match &self.from {
            ImageSource::Path(path) => path.to_string_lossy(),
            ImageSource::Url(url) => url.into(),
        };
        images::digest_of(format!("{from}\n{}", self.sha256.as_deref().unwrap_or_default()).as_bytes())
    }
}

/// How often the layers of images are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scrub {
    /// Every day.
    #[default]
    Daily,
    /// Every week.
    Weekly,
    /// Every thirty days.
    Monthly,
    /// Not unless somebody asks for it.
    Never,
}

impl Scrub {
    /// The time between two.
    pub fn period(self) -> Option<Duration> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        match self {
            Self::Daily => Some(DAY),
            Self::Weekly => Some(DAY * 7),
            Self::Monthly => Some(DAY * 30),
            Self::Never => None,
        }
    }
}

pub(super) fn scrub(at: &At<'_>) -> Scrub {
    let words = [
        ("daily", Scrub::Daily),
        ("weekly", Scrub::Weekly),
        ("monthly", Scrub::Monthly),
        ("never", Scrub::Never),
    ];
    at.word(&words).unwrap_or_default()
}

#[derive(Default)]
struct Draft {
    name: Option<Reference>,
    from: Option<ImageSource>,
    sha256: Option<String>,
}

const IMPORT: [Key<Draft>; 3] = [
    take("name", |at, draft: &mut Draft| draft.name = name(at), "What services call it. Required."),
    take(
        "from",
        |at, draft| draft.from = source(at),
        "A path of the node, `https://...`, or with `sha256` `http://...`: an archive of an OCI image layout or what \
         `docker save` writes, maybe compressed with gzip or zstd; or the directory of an OCI image layout. Required.",
    ),
    take("sha256", |at, draft| draft.sha256 = sha256(at), "The SHA-256 of the file: 64 hex digits."),
];

pub(super) fn images(at: &At<'_>, holdfast: &mut Holdfast) {
    for item in at.list().into_iter().flatten() {
        let mut draft = Draft::default();
        item.section("an image to import", &IMPORT, &mut draft);
        for key in ["name", "from"] {
            if item.is_map() && item.get(key).is_none() {
                item.error(format!("has no '{key}'"));
            }
        }
        let (Some(name), Some(from)) = (draft.name, draft.from) else { continue };
        let is_plain = matches!(&from, ImageSource::Url(url) if url.starts_with("http://"));
        if is_plain && draft.sha256.is_none() && item.get("sha256").is_none() {
            let hint = "use https://, or give the SHA-256 of the file in 'sha256'";
            item.get("from")
                .unwrap_or_else(|| item.clone())
                .error_with_hint("would be asked by plain HTTP", hint);
        }
        if holdfast.images.iter().any(|other| other.name == name) {
            item.error(format!("there are two images called '{name}'"));
        }
        holdfast.images.push(Import { name, from, sha256: draft.sha256 });
    }
}

/// Warns of images that nobody asks for. `used` are those that somebody does.
pub(crate) fn warn_of_unused<'u>(root: &At<'_>, imports: &[Import], used: impl Iterator<Item = &'u str>) {
    if imports.is_empty() {
        return;
    }
    let used: Vec<Reference> = used.filter_map(|image| Reference::parse(image).ok()).collect();
    let items = root.get("holdfast").and_then(|holdfast| holdfast.get("images")).filter(At::is_list);
    for item in items.iter().filter_map(At::list).flatten() {
        let named = item.get("name").and_then(|at| Reference::parse(at.node.text()?).ok());
        let import = named.and_then(|name| imports.iter().find(|import| import.name == name));
        if import.is_some_and(|import| !used.iter().any(|reference| import.is(reference))) {
            item.warn("no service has an image of this name: it is not imported");
        }
    }
}

fn name(at: &At<'_>) -> Option<Reference> {
    match Reference::parse(at.text()?) {
        Ok(name) if name.digest.is_none() => return Some(name),
        Ok(_) => at.error_with_hint(
            "the name of an imported image has no digest",
            "a service may ask for 'NAME:TAG@sha256:...'",
        ),
        Err(error) => at.error(error.to_string()),
    }
    None
}

fn source(at: &At<'_>) -> Option<ImageSource> {
    let text = at.text()?;
    if text.starts_with('/') {
        return at.absolute_path().map(ImageSource::Path);
    }
    let host = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if host.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(odd)) {
        return Some(ImageSource::Url(text.to_owned()));
    }
    at.error_with_hint(
        "not a place that images are imported from",
        "as in /srv/images/app.tar or https://example.com/app.tar.gz",
    );
    None
}

fn sha256(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    let hex = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    if images::sha256_hex(&format!("sha256:{hex}")).is_some() {
        return Some(hex);
    }
    at.error("not a SHA-256: 64 hex digits");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(images: &str) -> (Vec<Import>, Vec<String>) {
        let text = format!(
            "#cloud-config\nholdfast:\n  images: {images}\nservices:\n  a: {{image: 'app:1', network_mode: none}}\n"
        );
        let outcome = crate::judge(&crate::Input::user_data("f", text.as_bytes()), crate::Judge::Node);
        let problems = outcome.problems.iter().map(ToString::to_string).collect();
        (outcome.config.map(|config| config.machine.holdfast.images).unwrap_or_default(), problems)
    }

    #[test]
    fn images_come_from_paths_and_addresses() {
        let hex = "Ab".repeat(32);
        for (from, shown) in [
            ("from: /srv/images/app.tar".to_owned(), "/srv/images/app.tar"),
            ("from: 'https://u:p@h:8443/app.tar.gz?token=secret'".to_owned(), "https://h:8443/app.tar.gz"),
            (format!("from: 'http://h', sha256: 'sha256:{hex}'"), "http://h"),
        ] {
            let (imports, problems) = read(&format!("[{{name: 'app:1', {from}}}]"));
            assert!(problems.is_empty(), "{from}: {problems:#?}");
            assert_eq!(format!("{:?}", imports[0].from), shown);
            assert!(imports[0].sha256.as_ref().is_none_or(|digits| *digits == hex.to_lowercase()));
        }
    }

    #[test]
    fn what_an_import_is_told_by() {
        let one = |line: &str| read(&format!("[{{name: 'app:1', {line}}}]")).0.remove(0);
        let digits = "0".repeat(64);
        let imports = [
            one("from: /a"),
            one("from: /b"),
            one(&format!("from: /a, sha256: '{digits}'")),
            one("from: 'https://h/a?b'"),
            one("from: 'https://h/a?c'"),
        ];
        let mut identities: Vec<String> = imports.iter().map(Import::identity).collect();
        identities.sort();
        identities.dedup();
        assert_eq!(identities.len(), imports.len());
        let named = |name: &str| imports[0].is(&Reference::parse(name).unwrap());
        assert!(named("docker.io/library/app:1") && named(&format!("app:1@sha256:{digits}")));
        assert!(!named("app") && !named("r.example.com/app:1"));
    }

    #[test]
    fn layers_are_read_as_often_as_is_said() {
        let read = |line: &str| {
            let text = format!("#cloud-config\nholdfast: {{{line}}}\n");
            let outcome = crate::judge(&crate::Input::user_data("f", text.as_bytes()), crate::Judge::Node);
            outcome
                .config
                .map(|config| config.machine.holdfast.scrub.period().map(|period| period.as_secs() / 86_400))
        };
        for (line, days) in [
            ("env: {}", Some(Some(1))),
            ("scrub: weekly", Some(Some(7))),
            ("scrub: monthly", Some(Some(30))),
            ("scrub: never", Some(None)),
            ("scrub: hourly", None),
        ] {
            assert_eq!(read(line), days, "{line}");
        }
    }

    #[test]
    fn mistakes_are_said_where_they_are() {
        for (images, said) in [
            ("[{name: 'app:1'}]", "error f:3:12 holdfast.images[0]: has no 'from'"),
            ("[{from: /x}]", "holdfast.images[0]: has no 'name'"),
            ("[{name: 'App', from: /x}]", "holdfast.images[0].name: 'App' names no image"),
            ("[{name: 'app@sha256:0000', from: /x}]", "a digest is sha256: and 64 hex digits"),
            (
                "[{name: 'app:1', from: x.tar}]",
                "holdfast.images[0].from: not a place that images are imported from",
            ),
            ("[{name: 'app:1', from: /a/../b}]", "without '..'"),
            (
                "[{name: 'app:1', from: 'http://h/x'}]",
                "holdfast.images[0].from: would be asked by plain HTTP",
            ),
            ("[{name: 'app:1', from: /x, sha256: 12}]", "not a SHA-256"),
            ("[{name: 'app:1', from: /x}, {name: 'library/app:1', from: /y}]", "there are two images called"),
            ("[{name: 'app:1', from: /x, tag: y}]", "tag"),
        ] {
            let (imports, problems) = read(images);
            assert!(imports.is_empty(), "{images}");
            assert!(problems.iter().any(|problem| problem.contains(said)), "{images}: {problems:#?}");
        }
    }

    #[test]
    fn an_image_that_nobody_asks_for_is_said() {
        let (imports, problems) = read("[{name: 'app:1', from: /x}, {name: 'app:2', from: /y}]");
        assert_eq!(imports.len(), 2);
        assert_eq!(
            problems,
            ["warning f:3:39 holdfast.images[1]: no service has an image of this name: it is not imported"]
        );
    }
}
