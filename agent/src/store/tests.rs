//! Registries that are honest, and registries that are not.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use config::Credentials;
use images::Reference;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::http::tests::{request, serve};

/// Seals nothing: what a file holds stands for what fs-verity would measure.
fn fake_seal(path: &Path) -> io::Result<Sealed> {
    Ok(Sealed { verity: fake_measure(&File::open(path)?)?, size: fs::metadata(path)?.len() })
}

fn fake_measure(file: &File) -> io::Result<String> {
    let mut content = Vec::new();
    io::Read::read_to_end(&mut &*file, &mut content)?;
    Ok(digest(&content))
}

fn digest(bytes: &[u8]) -> String {
    images::digest_of(bytes)
}

/// A tar archive with one file.
pub(super) fn tar(content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "file", content).unwrap();
    archive.into_inner().unwrap()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut writer, bytes).unwrap();
    writer.finish().unwrap()
}

/// What a registry has: an index, its manifest, configuration and three layers, each packed in another way.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) blobs: BTreeMap<String, Vec<u8>>,
    pub(super) layers: Vec<String>,
    pub(super) manifest: String,
    pub(super) index: String,
}

impl Content {
    pub(super) fn new() -> Self {
        let noise: Vec<u8> =
            (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let tars = [tar(b"one"), tar(&noise), tar(b"three")];
        let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
        let packed = [tars[0].clone(), gzip(&tars[1]), zstd::encode_all(&tars[2][..], 3).unwrap()];
        Self::of(&diff_ids, &packed)
    }

    pub(super) fn of(diff_ids: &[String], packed: &[Vec<u8>]) -> Self {
        let mut blobs = BTreeMap::new();
        let mut add = |bytes: Vec<u8>| {
            let digest = digest(&bytes);
            blobs.insert(digest.clone(), bytes);
            digest
        };
        let described: Vec<_> = packed
            .iter()
            .map(|blob| {
                json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": blob.len(),
                        "digest": add(blob.clone()) })
            })
            .collect();
        let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Cmd": ["run"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": [] });
        let config = config.to_string().into_bytes();
        let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
            "digest": add(config) });
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": described }).to_string();
        let size = manifest.len();
        let manifest = add(manifest.into_bytes());
        let one = |arch: &str, digest: &str| {
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": size, "digest": digest,
                    "platform": { "architecture": arch, "os": "linux" } })
        };
        let other = format!("sha256:{}", "0".repeat(64));
        let index =
            json!({ "schemaVersion": 2, "manifests": [one("arm64", &other), one("amd64", &manifest)] });
        let index = add(index.to_string().into_bytes());
        Self { blobs, layers: packed.iter().map(|blob| digest(blob)).collect(), manifest, index }
    }

    fn answer(&self, asked: &str) -> Answer {
        let (_, name) = asked.rsplit_once('/').unwrap_or_default();
        let name = if name == "v1" { &self.index } else { name };
        self.blobs.get(name).map_or_else(|| Answer::status(404), |blob| Answer::ok(blob.clone()))
    }
}

#[derive(Clone)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<String>,
    pub(super) length: Option<usize>,
    body: Vec<u8>,
}

impl Answer {
    pub(super) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), length: None, body: Vec::new() }
    }

    pub(super) fn ok(body: Vec<u8>) -> Self {
        Self { body, ..Self::status(200) }
    }

    fn send(&self, stream: &mut TcpStream) -> io::Result<()> {
        let length = self.length.unwrap_or(self.body.len());
        let mut head =
            format!("HTTP/1.1 {} x\r\nContent-Length: {length}\r\nConnection: close\r\n", self.status);
        for header in &self.headers {
            head += &format!("{header}\r\n");
        }
        io::Write::write_all(stream, format!("{head}\r\n").as_bytes())?;
        io::Write::write_all(stream, &self.body)
    }
}

/// What a client asked: `GET /path`, and its headers.
pub(super) type Asked<'a> = (&'a str, &'a [String]);

/// A registry, a store, and who pulls from one into the other.
pub(super) struct Node {
    pub(super) directory: TempDir,
    pub(super) store: Store,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    pub(super) port: u16,
}

impl Node {
    pub(super) fn new(answer: impl Fn(Asked<'_>) -> Answer + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store {
            directory: directory.path().join("images"),
            seal: fake_seal,
            measure: fake_measure,
            free: |_| Ok(u64::MAX),
        };
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&asked);
        let port = serve(move |mut stream| {
            let (lines, _) = request(&mut stream)?;
            let path = lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
            let range = lines.iter().find(|line| line.to_lowercase().starts_with("range:"));
            heard.lock().unwrap().push(path.clone() + range.map_or("", |_| " again"));
            answer((&path, &lines)).send(&mut stream)
        });
        Self { directory, store, asked, port }
    }

    fn honest() -> Self {
        let content = Content::new();
        Self::new(move |(path, _)| content.answer(path))
    }

    pub(super) fn pulling(&self, change: impl FnOnce(&mut config::Registry, &str)) -> Pulling {
        let host = format!("127.0.0.1:{}", self.port);
        let mut registry = config::Registry { insecure: vec![host.clone()], ..config::Registry::default() };
        change(&mut registry, &host);
        Pulling::new(&self.store, &registry, Some(&"/dev/null".into())).impatient()
    }

    fn reference(&self) -> Reference {
        Reference::parse(&format!("127.0.0.1:{}/a/b:v1", self.port)).unwrap()
    }

    fn pull(&self) -> Result<Image, String> {
        self.pulling(|_, _| ()).image(&self.reference()).map_err(|error| console::chain(&error).to_string())
    }

    /// Nothing of a pull that failed is there to be used, or left over.
    pub(super) fn has_nothing(&self) -> bool {
        let empty = |path: &Path| fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
        self.store.index().images.is_empty() && empty(&self.store.work())
    }
}

#[test]
fn an_image_is_pulled_through_its_index_and_layers_are_not_asked_for_again() {
    let node = Node::honest();
    let image = node.pull().unwrap();
    let content = Content::new();
    assert_eq!((image.digest.as_str(), image.layers.len()), (content.manifest.as_str(), 3));
    assert_eq!(image.config.cmd, ["run"]);
    let index = node.store.index();
    assert!(node.store.holds_all(&index, &image));
    assert_eq!(index.images.len(), 2, "by its tag, and by its digest");
    let blobs = |asked: &[String]| asked.iter().filter(|path| path.contains("/blobs/")).count();
    assert_eq!(blobs(&node.asked.lock().unwrap()), 4);
    node.pull().unwrap();
    assert_eq!(blobs(&node.asked.lock().unwrap()), 5, "only the configuration is");

    // A layer that was altered is fetched again, and no other.
    fs::write(node.store.layer(&image.layers[1]).unwrap(), "altered").unwrap();
    assert!(!node.store.holds_all(&index, &image));
    node.pull().unwrap();
    assert!(node.store.holds_all(&node.store.index(), &image));
    assert_eq!(blobs(&node.asked.lock().unwrap()), 7);
}

#[test]
fn what_is_not_what_it_is_to_be_is_refused_and_leaves_nothing() {
    type About = fn(&Content) -> String;
    type Lie = fn(&Content, Answer) -> Answer;
    let layer = |content: &Content| content.layers[1].clone();
    let lies: [(&str, About, Lie, &str); 9] = [
        (
            "another layer",
            layer,
            |c, _| Answer::ok(c.blobs[&c.layers[1]].iter().rev().copied().collect()),
            "has the digest sha256:",
        ),
        (
            "one bit",
            layer,
            |_, mut a| {
                a.body[300_000] ^= 1;
                a
            },
            "has the digest sha256:",
        ),
        (
            "too short",
            layer,
            |_, mut a| {
                a.body.truncate(1000);
                a
            },
            "sends 1000 bytes of it",
        ),
        (
            "cut off",
            layer,
            |_, mut a| {
                a.length = Some(a.body.len());
                a.body.truncate(1000);
                a
            },
            "ended the connection 5 times",
        ),
        (
            "too long",
            layer,
            |_, mut a| {
                a.headers.push("X-Y: z".into());
                a.body.push(0);
                a
            },
            "bytes of it, and it has",
        ),
        ("not there", layer, |_, _| Answer::status(404), "does not have the blob"),
        ("forbidden", layer, |_, _| Answer::status(403), "refuses it with status 403"),
        (
            "a changed configuration",
            |c| c.blobs.keys().find(|k| c.blobs[*k].starts_with(b"{\"architecture")).unwrap().clone(),
            |_, mut a| {
                a.body.push(b' ');
                a
            },
            "is not what was asked for",
        ),
        (
            "a page",
            |_| "v1".into(),
            |_, _| Answer::ok(b"<html>Log in</html>".to_vec()),
            "cannot be understood",
        ),
    ];
    for (name, what, lie, said) in lies {
        let content = Content::new();
        let about = what(&content);
        let node = Node::new(move |(path, _)| {
            let honest = content.answer(path);
            if path.ends_with(&about) { lie(&content, honest) } else { honest }
        });
        let reason = node.pull().expect_err(name);
        assert!(reason.contains(said), "{name}: {reason}");
        assert!(node.has_nothing(), "{name}");
    }
}

#[test]
fn a_layer_that_unpacks_to_something_else_is_refused() {
    let packed = gzip(&tar(b"evil"));
    let content = Content::of(&[digest(&tar(b"good"))], &[packed]);
    let node = Node::new(move |(path, _)| content.answer(path));
    let reason = node.pull().unwrap_err();
    assert!(reason.contains("it unpacks to sha256:") && reason.contains("configuration says"), "{reason}");
    let garbage = b"\x1f\x8bnot gzip at all".to_vec();
    let content = Content::of(&[digest(&garbage)], &[garbage]);
    let node = Node::new(move |(path, _)| content.answer(path));
    assert!(node.pull().unwrap_err().contains("it is no layer"));
    assert!(node.has_nothing());
}

#[test]
fn a_pinned_image_is_that_one_or_none() {
    let content = Content::new();
    let index = content.index.clone();
    let node = Node::new(move |(path, _)| content.answer(path));
    let pinned = node.reference().pinned(&index);
    assert!(node.pulling(|_, _| ()).image(&pinned).is_ok());
    // A registry that has another manifest by that digest.
    let content = Content::new();
    let node = Node::new(move |(path, _)| {
        let mut answer = content.answer(path);
        if path.contains("/manifests/") {
            answer.body.push(b'\n');
        }
        answer
    });
    let error = node.pulling(|_, _| ()).image(&node.reference().pinned(&index)).unwrap_err();
    assert!(console::chain(&error).to_string().contains("is not what was asked for"), "{error:?}");
}

/// Answers a range as a registry does that knows them.
fn ranged(mut answer: Answer, lines: &[String]) -> Answer {
    let range =
        lines.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    if let Some(from) = range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok()) {
        let whole = answer.body.len();
        answer.body.drain(..from);
        answer.status = 206;
        answer.headers.push(format!("Content-Range: bytes {from}-{}/{whole}", whole - 1));
    }
    answer
}

/// How much a layer may take of a disk on which there is little room.
static LITTLE: AtomicU64 = AtomicU64::new(4 << 20);

fn little(file: &File) -> io::Result<u64> {
    let all = LITTLE.load(Ordering::Relaxed) + layer::RESERVE + layer::LOOK;
    Ok(all.saturating_sub(file.metadata()?.len()))
}

#[test]
fn what_finds_no_room_is_said_with_its_size_and_asked_for_no_more_than_needed() {
    // The first two fit, the third does not; packed they are small.
    let tars = [1_usize, 2, 12].map(|mib| tar(&vec![7; mib << 20]));
    let packed = tars.each_ref().map(|tar| zstd::encode_all(&tar[..], 3).unwrap());
    let content = Content::of(&tars.each_ref().map(|tar| digest(tar)), &packed);
    let third = content.layers[2].clone();
    let mut node = Node::new(move |(path, _)| content.answer(path));
    node.store.free = little;
    let pulling = node.pulling(|_, _| ());
    let rooms = Mutex::new(Vec::new());
    let make_room = |unfinished| {
        node.store.collect(&Needed::default(), unfinished).unwrap();
        rooms.lock().unwrap().push((unfinished, node.store.index().layers.len()));
    };
    assert!(!pulling.pull(&node.reference(), make_room));
    assert_eq!(*rooms.lock().unwrap(), [(Unfinished::Keep, 2), (Unfinished::Remove, 0)]);
    assert!(node.has_nothing());
    assert!(fs::read_dir(node.store.directory().join("layers/sha256")).unwrap().next().is_none());
    let fetched = || node.asked.lock().unwrap().iter().filter(|path| path.ends_with(&third)).count();
    assert_eq!(fetched(), 1, "how large it is was known after the first attempt");
    let reason = console::chain(&pulling.image(&node.reference()).unwrap_err()).to_string();
    assert!(reason.contains("it takes 12 MiB or more, and there are 3 MiB for images"), "{reason}");
    LITTLE.store(40 << 20, Ordering::Relaxed);
    pulling.image(&node.reference()).unwrap();
    assert_eq!(fetched(), 2);
}

#[test]
fn a_connection_that_breaks_goes_on_where_it_was() {
    for knows_ranges in [true, false] {
        let content = Content::new();
        let count = Mutex::new(0_usize);
        let node = Node::new(move |(path, lines)| {
            let mut answer = content.answer(path);
            if !path.ends_with(&content.layers[1]) {
                return answer;
            }
            if knows_ranges {
                answer = ranged(answer, lines);
            }
            let mut count = count.lock().unwrap();
            *count += 1;
            if *count < 4 {
                // Each time it comes a bit further.
                answer.length = Some(answer.body.len());
                answer.body.truncate(if knows_ranges { 100_000 } else { *count * 100_000 });
            }
            answer
        });
        node.pull().unwrap();
        let asked = node.asked.lock().unwrap();
        assert_eq!(asked.iter().filter(|path| path.ends_with(" again")).count(), 3, "{asked:#?}");
    }
}

#[test]
fn a_registry_that_stumbles_is_asked_again() {
    let content = Content::new();
    let counts = Mutex::new(BTreeMap::<String, usize>::new());
    let node = Node::new(move |(path, _)| {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(path.to_owned()).or_default();
        *count += 1;
        if *count < 3 { Answer::status(503) } else { content.answer(path) }
    });
    node.pull().unwrap();
    let node = Node::new(|_| Answer::status(500));
    let reason = node.pull().unwrap_err();
    assert!(reason.contains("answered with status 500 when it was asked for the manifest v1"), "{reason}");
    assert_eq!(node.asked.lock().unwrap().len(), 3);
}

/// Asks for a token, which user and password open; blobs and manifests want the token.
fn with_tokens((path, lines): Asked<'_>, content: &Content) -> Answer {
    let shown =
        lines.iter().find_map(|line| line.to_lowercase().starts_with("authorization: ").then(|| &line[15..]));
    if path.starts_with("/token") {
        assert_eq!(path, "/token?service=test&scope=repository:a/b:pull");
        // user:secret
        let good = shown == Some("Basic dXNlcjpzZWNyZXQ=");
        return if good { Answer::ok(br#"{"token": "open"}"#.to_vec()) } else { Answer::status(401) };
    }
    if shown == Some("Bearer open") {
        return content.answer(path);
    }
    let host = lines.iter().find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned));
    let realm = format!(r#"Bearer realm="http://{}/token",service="test""#, host.unwrap());
    Answer { headers: vec![format!("WWW-Authenticate: {realm}")], ..Answer::status(401) }
}

#[test]
fn tokens_are_had_for_credentials_and_these_are_never_said() {
    let content = Content::new();
    let node = Node::new(move |asked| with_tokens(asked, &content));
    let as_user = |password: &str| {
        let credentials = Credentials::Password { user: "user".into(), password: password.into() };
        node.pulling(|registry, host| drop(registry.credentials.insert(host.to_owned(), credentials)))
    };
    let wrong = as_user("wrong secret").image(&node.reference()).unwrap_err();
    let wrong = console::chain(&wrong).to_string();
    assert!(wrong.contains("/token answered with status 401") && !wrong.contains("secret"), "{wrong}");
    as_user("secret").image(&node.reference()).unwrap();
    let tokens = node.asked.lock().unwrap().iter().filter(|path| path.starts_with("/token")).count();
    assert!(tokens <= 3, "a token is used more than once");
    assert!(!format!("{:?}", as_user("secret")).contains("secret"));
}

#[test]
fn a_mirror_is_asked_first_and_may_be_of_no_use() {
    let mirror = Node::honest();
    let content = Content::new();
    let node = Node::new(move |(path, _)| content.answer(path));
    let with_mirror = |port: u16| {
        node.pulling(|registry, host| {
            registry.insecure.push(format!("127.0.0.1:{port}"));
            registry.mirrors.insert(host.to_owned(), vec![format!("http://127.0.0.1:{port}")]);
        })
    };
    with_mirror(mirror.port).image(&node.reference()).unwrap();
    assert!(node.asked.lock().unwrap().is_empty());
    fs::remove_dir_all(node.store.directory()).unwrap();
    let broken = Node::new(|_| Answer::status(404));
    with_mirror(broken.port).image(&node.reference()).unwrap();
    assert!(!node.asked.lock().unwrap().is_empty());
}

#[test]
fn a_registry_is_spoken_to_by_tls_unless_it_was_declared_not_to() {
    let node = Node::honest();
    let pulling = node.pulling(|registry, _| registry.insecure.clear());
    let error = pulling.image(&node.reference()).unwrap_err();
    assert!(console::chain(&error).to_string().contains("https://127.0.0.1"), "{error:?}");
    assert!(node.has_nothing());
}

#[test]
fn what_a_cut_pull_has_left_is_cleared() {
    let node = Node::honest();
    fs::create_dir_all(node.store.work()).unwrap();
    fs::write(node.store.work().join("half"), "x").unwrap();
    // A file in the place of a layer that no record is of: it is written anew.
    let layer = node.store.layer(&digest(&tar(b"one"))).unwrap();
    fs::create_dir_all(layer.parent().unwrap()).unwrap();
    fs::write(&layer, "half").unwrap();
    let image = node.pull().unwrap();
    assert!(fs::read_dir(node.store.work()).unwrap().next().is_none());
    assert!(node.store.holds_all(&node.store.index(), &image));
}
