//! Archives of images, as Docker and others write them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::vm::directory;

/// What `docker save` of an older version writes of the image in an OCI layout: a folder for each layer, `manifest.json`
/// and `repositories`.
pub fn docker_save(layout: &Path, repository: &str, tag: &str) -> PathBuf {
    let folder = directory().join(format!("saved-{repository}"));
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        layout.join("blobs/sha256").join(digest.expect("a descriptor has a digest"))
    };
    let json = |path: PathBuf| -> Value {
        serde_json::from_slice(&fs::read(path).expect("the layout has it")).expect("it is JSON")
    };
    let manifest = json(blob(&json(layout.join("index.json"))["manifests"][0]));
    let write = |path: &str, content: &[u8]| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a file is in a directory"))
            .expect("directories can be made");
        fs::write(path, content).expect("files can be written");
    };
    let mut paths = Vec::new();
    for layer in manifest["layers"].as_array().expect("an image has layers") {
        let packed = blob(layer);
        let unpacked = Command::new("gzip").args(["-dc"]).arg(&packed).output().expect("gzip starts");
        assert!(unpacked.status.success(), "a layer can be unpacked");
        let name = packed.file_name().and_then(|name| name.to_str()).expect("a blob has a name").to_owned();
        write(&format!("{name}/VERSION"), b"1.0");
        write(&format!("{name}/json"), b"{}");
        write(&format!("{name}/layer.tar"), &unpacked.stdout);
        paths.push(format!("{name}/layer.tar"));
    }
    let config = blob(&manifest["config"]);
    let name = config.file_name().and_then(|name| name.to_str()).expect("a blob has a name");
    write(&format!("{name}.json"), &fs::read(&config).expect("the layout has a configuration"));
    let (named, first) = (format!("{repository}:{tag}"), paths[0].replace("/layer.tar", ""));
    let manifest = json!([{ "Config": format!("{name}.json"), "RepoTags": [named], "Layers": paths }]);
    write("manifest.json", manifest.to_string().as_bytes());
    write("repositories", json!({ repository: { tag: first } }).to_string().as_bytes());
    archive(&folder)
}

/// An archive of what is in a folder, in the order in which tools write it: blobs before what names them.
pub fn archive(folder: &Path) -> PathBuf {
    let out = folder.with_extension("tar");
    let mut tar = Command::new("tar");
    let listed = Command::new("ls").current_dir(folder).stdout(Stdio::piped()).output().expect("ls starts");
    let names = String::from_utf8(listed.stdout).expect("names are text");
    tar.arg("-cf").arg(&out).arg("-C").arg(folder).args(names.lines());
    assert!(tar.status().expect("tar starts").success(), "an archive can be made");
    out
}

/// A file packed by gzip, with `.gz` behind its name.
pub fn gzip(file: &Path) -> PathBuf {
    let status = Command::new("gzip").args(["-1", "-k", "-f"]).arg(file).status();
    assert!(status.expect("gzip starts").success(), "a file can be packed");
    PathBuf::from(format!("{}.gz", file.display()))
}
