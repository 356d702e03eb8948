//! An image registry: the pull part of the OCI distribution-spec over [`Server`], honest until a test says otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::build::image_build;
use crate::lan::Lan;
use crate::project;
use crate::server::{Request, Response, Server};
use crate::vm::directory;

type Lie = Box<dyn Fn(&Request, Response) -> Response + Send + Sync>;

#[derive(Default)]
struct Content {
    /// By digest.
    blobs: BTreeMap<String, Vec<u8>>,
    /// Digests of manifests by `repository:tag`.
    tags: BTreeMap<String, String>,
    lie: Option<Lie>,
}

/// A running registry. It ends with this value.
pub struct Registry {
    content: Arc<Mutex<Content>>,
    server: Server,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Registry {
    /// Starts an empty one at an address of `lan`, such as `192.0.2.1:5000`.
    pub fn start(lan: &Lan, address: &str) -> Self {
        let content = Arc::<Mutex<Content>>::default();
        let served = Arc::clone(&content);
        let server = lan.serve(address, move |request| {
            let content = served.lock().expect("nobody panics with this lock");
            let honest = content.answer(request);
            match &content.lie {
                Some(lie) => lie(request, honest),
                None => honest,
            }
        });
        Self { content, server }
    }

    /// Takes in the image of an OCI layout as `repository:tag`; gives the digest of its manifest.
    pub fn push(&self, name: &str, layout: &Path) -> String {
        let mut content = self.content.lock().expect("nobody panics with this lock");
        for entry in std::fs::read_dir(layout.join("blobs/sha256")).expect("the layout has blobs") {
            let path = entry.expect("a directory can be listed").path();
            let hex = path.file_name().and_then(|name| name.to_str()).expect("blobs are named by digest");
            content.blobs.insert(format!("sha256:{hex}"), std::fs::read(&path).expect("a blob can be read"));
        }
        let index = std::fs::read(layout.join("index.json")).expect("the layout has an index");
        let index: Value = serde_json::from_slice(&index).expect("the index is JSON");
        let digest = index["manifests"][0]["digest"].as_str().expect("the index names a manifest").to_owned();
        content.tags.insert(name.to_owned(), digest.clone());
        digest
    }

    /// From now on `lie` makes each answer of the honest one.
    pub fn lies(&self, lie: impl Fn(&Request, Response) -> Response + Send + Sync + 'static) {
        self.content.lock().expect("nobody panics with this lock").lie = Some(Box::new(lie));
    }

    /// From now on it is honest.
    pub fn is_honest(&self) {
        self.content.lock().expect("nobody panics with this lock").lie = None;
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}

impl Content {
    fn answer(&self, request: &Request) -> Response {
        let path = request.path.strip_prefix("/v2/").unwrap_or_default();
        if let Some((_, digest)) = path.split_once("/blobs/") {
            return self.blobs.get(digest).map_or_else(Response::not_found, |blob| part(request, blob));
        }
        let Some((repository, version)) = path.split_once("/manifests/") else {
            return Response::not_found();
        };
        let digest = self.tags.get(&format!("{repository}:{version}")).map_or(version, String::as_str);
        let Some(manifest) = self.blobs.get(digest) else { return Response::not_found() };
        let headers = [
            ("Content-Type", "application/vnd.oci.image.manifest.v1+json"),
            ("Docker-Content-Digest", digest),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Response::Answer { status: 200, headers, body: manifest.clone() }
    }
}

/// A blob, or what a `Range: bytes=N-` asks of it.
fn part(request: &Request, blob: &[u8]) -> Response {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let Some(from) = range.and_then(|from| from.parse::<usize>().ok()) else { return Response::ok(blob) };
    let Some(rest) = blob.get(from..) else { return Response::status(416, "") };
    let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
    Response::Answer { status: 206, headers: vec![("Content-Range".to_owned(), range)], body: rest.to_vec() }
}

/// An OCI layout made of busybox, and of `more` lines in the form of `image-build image`.
pub fn busybox_image(name: &str, more: &str) -> PathBuf {
    let folder = directory().join("images");
    std::fs::create_dir_all(&folder).expect("target/vm-tests can be made");
    let examples = project().join("examples/images");
    let definition = std::fs::read_to_string(examples.join("busybox.toml")).expect("an example can be read");
    let (file, layout) = (folder.join(format!("{name}.toml")), folder.join(name));
    std::fs::write(&file, format!("{definition}\n{more}")).expect("target/vm-tests can be written");
    let lock = file.with_extension("lock");
    std::fs::copy(examples.join("busybox.lock"), lock).expect("target/vm-tests can be written");
    image_build(&["image", &file.display().to_string(), "--out", &layout.display().to_string()]);
    layout
}

/// The program that is in every image of [`busybox_image`].
pub fn busybox_program(layout: &Path) -> Vec<u8> {
    for entry in std::fs::read_dir(layout.join("blobs/sha256")).expect("the layout has blobs") {
        let path = entry.expect("a directory can be listed").path();
        let output = Command::new("tar").args(["-xzOf"]).arg(&path).arg("bin/busybox").output();
        let output = output.expect("tar starts");
        if output.status.success() {
            return output.stdout;
        }
    }
    panic!("no layer of {} has bin/busybox", layout.display());
}
