//! Archives as tools write them, and archives that nobody should take.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use config::PullPolicy;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use super::*;
use crate::store::tests::{Answer, Content, Node, gzip, tar};
use crate::store::{OnNode, Pulled, Wish};

/// An entry of an archive: its path, and a file's content or where a link leads.
enum Part {
    File(Vec<u8>),
    Link(&'static str),
    Pipe,
}

fn archive(parts: &[(String, Part)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, part) in parts {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(0o644);
        let content = match part {
            Part::File(content) => &content[..],
            Part::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
                &[]
            }
            Part::Pipe => {
                header.set_entry_type(tar::EntryType::Fifo);
                &[]
            }
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn file(path: impl Into<String>, content: impl Into<Vec<u8>>) -> (String, Part) {
    (path.into(), Part::File(content.into()))
}

/// What an OCI image layout of `content` has, blobs first, as tools write it.
fn layout(content: &Content) -> Vec<(String, Part)> {
    let named = |digest: &str| format!("blobs/sha256/{}", &digest[7..]);
    let index = &content.blobs[&content.index];
    let kind = "application/vnd.oci.image.index.v1+json";
    let top = json!({ "schemaVersion": 2, "manifests":
        [{ "mediaType": kind, "digest": content.index, "size": index.len() }] });
    // Attestations, signatures and other platforms' images are there, too.
    let other = b"neither JSON nor a layer";
    let mut parts: Vec<_> =
        content.blobs.iter().map(|(digest, blob)| file(named(digest), blob.clone())).collect();
    parts.push(file(named(&images::digest_of(other)), other));
    parts.push(file("index.json", top.to_string()));
    parts.push(file("oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#));
    parts
}

fn config(layers: &[Vec<u8>], arch: &str) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| images::digest_of(layer)).collect();
    let config = json!({ "architecture": arch, "os": "linux", "config": { "Cmd": ["run"] },
        "rootfs": { "type": "layers", "diff_ids": ids }, "history": [] });
    config.to_string().into_bytes()
}

/// What `docker save` of an older version writes of an image with these layers: a folder a layer, with a file in it that
/// is no layer, links between layers that are the same, and `repositories`.
fn saved(layers: &[Vec<u8>], config: &[u8]) -> Vec<(String, Part)> {
    let mut parts = Vec::new();
    let mut paths = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let folder = format!("{number}").repeat(64);
        parts.push(file(format!("{folder}/VERSION"), "1.0"));
        parts.push(file(format!("{folder}/json"), "{}"));
        paths.push(format!("{folder}/layer.tar"));
        let first = layers.iter().position(|other| other == layer).unwrap();
        let target = ["../0000000000000000000000000000000000000000000000000000000000000000/layer.tar"];
        let link = (first < number).then(|| Part::Link(target[first]));
        parts.push((paths[number].clone(), link.unwrap_or_else(|| Part::File(layer.clone()))));
    }
    let name = format!("{}.json", &images::digest_of(config)[7..]);
    let manifest = json!([{ "Config": name, "RepoTags": ["app:1"], "Layers": paths }]);
    parts.push(file(name, config));
    parts.push(file("manifest.json", manifest.to_string()));
    parts.push(file("repositories", r#"{"app": {"1": "0"}}"#));
    parts
}

fn layers() -> Vec<Vec<u8>> {
    let (one, two) = (tar(b"one"), tar(&[7; 100_000]));
    vec![one.clone(), two, one]
}

struct Shore {
    node: Node,
}

impl Shore {
    fn new() -> Self {
        Self { node: Node::new(|_| Answer::status(404)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.node.directory.path().join(name)
    }

    /// Writes a file to import from.
    fn put(&self, bytes: impl AsRef<[u8]>) -> Import {
        let path = self.path("archive");
        fs::write(&path, bytes).unwrap();
        from(ImageSource::Path(path))
    }

    fn import(&self, import: &Import, reference: &str) -> Result<Image, String> {
        let pulling = self.node.pulling(|_, _| ()).importing(std::slice::from_ref(import));
        let image = pulling.image(&Reference::parse(reference).unwrap());
        image.map_err(|error| console::chain(&error).to_string())
    }

    fn take(&self, bytes: impl AsRef<[u8]>) -> Result<Image, String> {
        self.import(&self.put(bytes), "app:1")
    }

    /// It is refused for this reason, and nothing of it is left.
    fn refuses(&self, bytes: impl AsRef<[u8]>, reason: &str) {
        let said = self.take(bytes).expect_err(reason);
        assert!(said.contains(reason), "{reason}: {said}");
        self.has_nothing(reason);
    }

    fn has_nothing(&self, what: &str) {
        assert!(self.node.has_nothing(), "{what}");
        assert!(self.node.store.index().layers.is_empty(), "{what}");
        let layers = fs::read_dir(self.node.store.directory().join("layers/sha256"));
        assert!(layers.map_or(true, |mut entries| entries.next().is_none()), "{what}");
    }
}

fn from(source: ImageSource) -> Import {
    Import { name: Reference::parse("app:1").unwrap(), from: source, sha256: None }
}

#[test]
fn every_form_of_an_image_is_taken() {
    let content = Content::new();
    let layers = layers();
    let config = config(&layers, "amd64");
    let both = [layout(&content), saved(&layers, &config)];
    // Newer versions of Docker write one archive that is both; what is a layout counts.
    let [mut modern, legacy] = both;
    let oci = archive(&modern);
    let legacy = archive(&legacy);
    modern.extend([file("manifest.json", "[]"), file("repositories", "{}")]);
    let dotted: Vec<_> =
        layout(&content).into_iter().rev().map(|(path, part)| (format!("./{path}"), part)).collect();
    let id = images::digest_of(&config);
    for (name, bytes, digest) in [
        ("oci", oci.clone(), &content.manifest),
        ("oci, gzip", gzip(&oci), &content.manifest),
        ("oci, zstd", zstd::encode_all(&oci[..], 3).unwrap(), &content.manifest),
        ("oci, index first, dots", archive(&dotted), &content.manifest),
        ("docker", archive(&modern), &content.manifest),
        ("old docker", legacy.clone(), &id),
        ("old docker, gzip", gzip(&legacy), &id),
    ] {
        let shore = Shore::new();
        let image = shore.take(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((&image.digest, image.layers.len()), (digest, 3), "{name}");
        assert_eq!(image.config.cmd, ["run"], "{name}");
        let index = shore.node.store.index();
        assert!(shore.node.store.holds_all(&index, &image), "{name}");
        assert!(fs::read_dir(shore.node.store.work()).unwrap().next().is_none(), "{name}");
        assert_eq!(index.images.len(), 2, "{name}: by its tag, and by its digest");
    }
}

#[test]
fn what_was_pulled_and_what_is_imported_is_the_same_file() {
    let content = Content::new();
    let served = content.clone();
    let node = Node::new(move |(path, _)| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let name = if name == "v1" { &served.index } else { name };
        served.blobs.get(name).map_or_else(|| Answer::status(404), |blob| Answer::ok(blob.clone()))
    });
    let reference = Reference::parse(&format!("127.0.0.1:{}/a/b:v1", node.port)).unwrap();
    let pulled = node.pulling(|_, _| ()).image(&reference).unwrap();
    let shore = Shore::new();
    let imported = shore.take(archive(&layout(&content))).unwrap();
    assert_eq!(pulled, imported);
    assert_eq!(node.store.index().layers, shore.node.store.index().layers);

    // What is here is not written again: the seal would tell.
    let place = |store: &Store, layer: &String| store.layer(layer).unwrap();
    let before: Vec<_> =
        imported.layers.iter().map(|l| fs::metadata(place(&shore.node.store, l)).unwrap()).collect();
    shore.take(archive(&layout(&content))).unwrap();
    for (layer, before) in imported.layers.iter().zip(before) {
        let now = fs::metadata(place(&shore.node.store, layer)).unwrap();
        assert_eq!(now.modified().unwrap(), before.modified().unwrap());
    }
}

#[test]
fn a_directory_is_read_and_nothing_leads_out_of_it() {
    let content = Content::new();
    let shore = Shore::new();
    let folder = shore.path("layout");
    let write = || {
        for (path, part) in layout(&content) {
            let Part::File(bytes) = part else { panic!("only files") };
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    };
    write();
    let import = from(ImageSource::Path(folder.clone()));
    let with_sum = Import { sha256: Some("0".repeat(64)), ..import.clone() };
    let refused = |import: &Import, said: &str| {
        let error = shore.import(import, "app:1").expect_err(said);
        assert!(error.contains(said), "{error}");
        shore.has_nothing(said);
    };
    refused(&with_sum, "'sha256' is that of a file");
    let blob = folder.join("blobs/sha256").join(&content.layers[1][7..]);
    let elsewhere = shore.path("elsewhere");
    fs::rename(&blob, &elsewhere).unwrap();
    refused(&import, "it does not have its layer");
    symlink(&elsewhere, &blob).unwrap();
    refused(&import, "cannot be read");
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, &fs::read(&elsewhere).unwrap()[..5000]).unwrap();
    refused(&import, "is damaged");
    write();
    assert_eq!(shore.import(&import, "app:1").unwrap().digest, content.manifest);
    fs::remove_file(folder.join("index.json")).unwrap();
    assert!(shore.import(&import, "app:1").unwrap_err().contains("it has no index.json"));
}

#[test]
fn what_is_damaged_is_refused_and_leaves_nothing() {
    let content = Content::new();
    let layers = layers();
    let good = config(&layers, "amd64");
    let oci = archive(&layout(&content));
    let legacy = archive(&saved(&layers, &good));
    let shore = Shore::new();
    let altered = |bytes: &[u8], find: &[u8]| {
        let at = bytes.windows(find.len()).position(|window| window == find).expect("it is in there");
        let mut bytes = bytes.to_vec();
        bytes[at + find.len() / 2] ^= 1;
        bytes
    };
    let layer = &content.blobs[&content.layers[1]];
    shore.refuses(altered(&oci, &layer[1000..2000]), "is damaged: its digest is sha256:");
    shore.refuses(altered(&legacy, &[7; 50_000]), "it unpacks to sha256:");
    for cut in [oci.len() / 10, oci.len() / 2, 700] {
        shore.refuses(&oci[..cut], "");
        shore.refuses(&gzip(&oci)[..gzip(&oci).len() / 2], "");
    }
    let parts = saved(&layers, &good);
    shore.refuses(archive(&parts[..parts.len() - 2]), "it has no index.json");
    shore.refuses(archive(&saved(&layers, &config(&layers, "arm64"))), "it is for linux/arm64");
    shore.refuses(archive(&saved(&layers[..2], &good)), "its manifest has 2 layers and its configuration 3");
    let without = |what: &str| {
        let parts: Vec<_> = layout(&content).into_iter().filter(|(path, _)| !path.ends_with(what)).collect();
        archive(&parts)
    };
    shore.refuses(without(&content.layers[0][7..]), "it does not have its layer sha256:");
    shore.refuses(without(&content.manifest[7..]), "cannot read the manifest");
    shore.refuses("no archive at all", "it is no archive of an image");
    shore.refuses(
        archive(&[file("hello", "world")]),
        "it is neither an OCI image layout nor what 'docker save' writes",
    );
    shore.refuses("", "it is neither an OCI image layout");
    let mut no_layer = saved(&layers, &good);
    no_layer[2] = file(no_layer[2].0.clone(), "no layer");
    shore.refuses(archive(&no_layer), "cannot take its layer");
}

#[test]
fn what_wants_to_be_elsewhere_is_refused() {
    let shore = Shore::new();
    let with = |part: (String, Part)| {
        let mut parts = layout(&Content::new());
        parts.insert(0, part);
        archive(&parts)
    };
    let outside = "leads out of the archive";
    shore.refuses(with(file("../outside", "x")), outside);
    shore.refuses(with(file("blobs/../../outside", "x")), outside);
    shore.refuses(with(("link".to_owned(), Part::Link("../../etc"))), outside);
    shore.refuses(with(("pipe".to_owned(), Part::Pipe)), "its entry 'pipe' is neither file nor link");
    assert!(!shore.path("outside").exists());
    // Links lead nowhere but to files of the archive, and not round in circles.
    let layers = layers();
    let mut circle = saved(&layers, &config(&layers, "amd64"));
    circle[2].1 = Part::Link("layer.tar");
    shore.refuses(archive(&circle), "it does not have its layer");
    let mut hostile = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..9].copy_from_slice(b"../escape");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    hostile.append(&header, &b""[..]).unwrap();
    let layer = hostile.into_inner().unwrap();
    let config = config(std::slice::from_ref(&layer), "amd64");
    shore.refuses(archive(&saved(&[layer], &config)), "path has a component \"..\"");
    let many: Vec<_> = (0..10_001).map(|n| file(format!("{n}"), "{")).collect();
    shore.refuses(archive(&many), "it has too many entries");
}

#[test]
fn neither_pipes_nor_devices_are_waited_for() {
    let shore = Shore::new();
    let pipe = shore.path("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    for path in [pipe.as_path(), Path::new("/dev/zero")] {
        let said = shore.import(&from(ImageSource::Path(path.to_owned())), "app:1").unwrap_err();
        assert!(said.contains("it is neither a file nor a directory"), "{said}");
    }
    let gone = from(ImageSource::Path(shore.path("gone")));
    assert!(shore.import(&gone, "app:1").unwrap_err().contains("gone: cannot open it: "));
}

#[test]
fn an_address_is_asked_and_what_it_gives_is_checked() {
    let bytes = gzip(&archive(&layout(&Content::new())));
    let sum = images::digest_of(&bytes)[7..].to_owned();
    let served = bytes.clone();
    let node = Node::new(move |(path, _)| match path {
        "/good?token=secret" => Answer::ok(served.clone()),
        "/cut" => {
            let mut answer = Answer::ok(served[..served.len() / 2].to_vec());
            answer.length = Some(served.len());
            answer
        }
        _ => Answer::status(403),
    });
    let port = node.port;
    let url = |path: &str| ImageSource::Url(format!("http://127.0.0.1:{port}{path}"));
    let shore = Shore { node };
    let with = |path: &str, sum: &str| Import { sha256: Some(sum.to_owned()), ..from(url(path)) };
    for (path, sum, said) in [
        ("/cut", sum.as_str(), "it cannot be read to its end"),
        ("/other?token=secret", &sum, "the answer has status 403"),
        ("/good?token=secret", &"0".repeat(64), "and the configuration says 0000"),
    ] {
        let error = shore.import(&with(path, sum), "app:1").expect_err(said);
        assert!(error.contains(said) && !error.contains("secret"), "{error}");
        shore.has_nothing(said);
    }
    shore.import(&with("/good?token=secret", &sum), "app:1").unwrap();
}

#[test]
fn what_was_refused_is_not_read_again_until_it_is_another() {
    let shore = Shore::new();
    let good = archive(&layout(&Content::new()));
    let import = shore.put(&good[..good.len() / 2]);
    let pulling = shore.node.pulling(|_, _| ()).importing(std::slice::from_ref(&import));
    let ask = || pulling.image(&import.name).map_err(|error| console::chain(&error).to_string());
    let first = ask().unwrap_err();
    // A file of the same size and time is the same; nobody reads what is in it.
    let modified = fs::metadata(shore.path("archive")).unwrap().modified().unwrap();
    fs::write(shore.path("archive"), &good[good.len() - good.len() / 2..]).unwrap();
    let file = fs::File::options().write(true).open(shore.path("archive")).unwrap();
    file.set_modified(modified).unwrap();
    assert_eq!(ask().unwrap_err(), first);
    shore.put(&good);
    ask().unwrap();
}

#[test]
fn what_finds_no_room_says_how_much_it_takes() {
    let mut shore = Shore::new();
    shore.node.store.free = |file| {
        let most = (1 << 20) + layer::RESERVE + layer::LOOK;
        Ok(most - file.metadata()?.len().min(most))
    };
    let layers = vec![tar(&vec![7; 3 << 20]), tar(&vec![8; 12 << 20])];
    let import = shore.put(gzip(&archive(&saved(&layers, &config(&layers, "amd64")))));
    let pulling = shore.node.pulling(|_, _| ()).importing(std::slice::from_ref(&import));
    let said = console::chain(&pulling.image(&import.name).unwrap_err()).to_string();
    assert!(said.contains("there is no room for it on the state partition: it takes"), "{said}");
    shore.has_nothing("no room");
    // It is not read again for nothing.
    fs::remove_file(shore.path("archive")).unwrap();
    let again = console::chain(&pulling.image(&import.name).unwrap_err()).to_string();
    assert_eq!(said, again);
}

/// What has to be had first for a service with this image, when the configuration has these imports.
fn lacks(shore: &Shore, imports: &[Import], image: &str, policy: PullPolicy, pulled: &Pulled) -> Vec<String> {
    let baked = images::Index::default();
    let on_node = OnNode::look(&baked, &shore.node.store, imports);
    let wish = Wish { reference: Reference::parse(image).unwrap(), policy };
    on_node.missing(&[wish], pulled).iter().map(Reference::to_string).collect()
}

#[test]
fn an_image_is_what_the_configuration_says_that_it_is_from() {
    let shore = Shore::new();
    let import = shore.put(archive(&layout(&Content::new())));
    let one = std::slice::from_ref(&import);
    let (missing, none) = (["docker.io/library/app:1"], Pulled::new());
    for policy in [PullPolicy::Missing, PullPolicy::Never, PullPolicy::Always] {
        assert_eq!(lacks(&shore, one, "app:1", policy, &none), missing);
    }
    let image = shore.import(&import, "app:1").unwrap();
    let is_here = |image: &str| lacks(&shore, one, image, PullPolicy::Missing, &none).is_empty();
    assert!(is_here("app:1") && is_here("library/app:1") && is_here(&format!("app:1@{}", image.digest)));
    assert!(lacks(&shore, one, "app:1", PullPolicy::Never, &none).is_empty());
    // Once for every new generation.
    assert_eq!(lacks(&shore, one, "app:1", PullPolicy::Always, &none), missing);
    assert!(lacks(&shore, one, "app:1", PullPolicy::Always, &missing.map(str::to_owned).into()).is_empty());

    // From elsewhere, with another sum, or from a registry again, it is another image.
    let elsewhere = from(ImageSource::Path("/elsewhere".into()));
    let summed = Import { sha256: Some("0".repeat(64)), ..import.clone() };
    for imports in [&[elsewhere][..], &[summed], &[]] {
        assert_eq!(lacks(&shore, imports, "app:1", PullPolicy::Missing, &none), missing);
    }
    let other = format!("app:1@sha256:{}", "0".repeat(64));
    assert!(!is_here(&other));
    let said = shore.import(&import, &other).unwrap_err();
    assert!(said.contains(&format!("it is {}, and sha256:0000", image.digest)), "{said}");
}
