//! Puts the root together, by the manifest.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use plan::paths;

use super::identity::Identity;
use super::kernel::Files;
use super::manifest::{FileRule, Manifest, PackageRule};
use super::tree::{Content, Node, Tree};
use crate::packages::Package;

/// What the root is made of, beside the manifest.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// The folder of the manifest.
    pub(crate) folder: &'a Path,
    /// The packages of the manifest's rules, in their order.
    pub(crate) packages: &'a [Package],
    /// Our binaries by the manifest's names for them.
    pub(crate) binaries: &'a BTreeMap<String, PathBuf>,
    /// Files of the module directory.
    pub(crate) modules: Files,
    /// The empty state file system.
    pub(crate) state_template: Vec<u8>,
    /// User-data to bake in.
    pub(crate) user_data: Option<Vec<u8>>,
    /// An image store to bake in.
    pub(crate) images: Option<&'a Path>,
}

/// The root's tree, checked against the manifest.
pub(crate) fn assemble(manifest: &Manifest, identity: &Identity, parts: Parts<'_>) -> Result<Tree> {
    let mut tree = Tree::default();
    for directory in &manifest.directories {
        tree.add(directory, Node::Directory)?;
    }
    for (name, target) in &manifest.binaries {
        let from = parts.binaries.get(name).with_context(|| format!("binary {name} is missing"))?;
        tree.add(target, Node::File { content: Content::Copy(from.clone()), executable: true })?;
    }
    for (file, target) in &manifest.files {
        let from = parts.folder.join(file);
        let content = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        tree.add_file(target, content)?;
    }
    for (path, target) in &manifest.links {
        tree.add(path, Node::Link(target.clone()))?;
    }
    for (rule, package) in manifest.packages.iter().zip(parts.packages) {
        add_package(&mut tree, rule, package).with_context(|| format!("package {}", package.name))?;
    }
    for (name, content) in parts.modules {
        tree.add_file(&below_root(paths::MODULES, &name), content)?;
    }
    tree.add_file(&below_root(paths::ETC_SKELETON, "os-release"), identity.os_release().into_bytes())?;
    tree.add_file(paths::RELEASE.trim_start_matches('/'), identity.release_json()?)?;
    tree.add_file(paths::STATE_TEMPLATE.trim_start_matches('/'), parts.state_template)?;
    if let Some(user_data) = parts.user_data {
        tree.add_file(paths::BAKED_USER_DATA.trim_start_matches('/'), user_data)?;
    }
    if let Some(store) = parts.images {
        add_folder(&mut tree, store, paths::BAKED_IMAGES.trim_start_matches('/'))?;
    }
    check_folder(manifest, parts.folder, "")?;
    tree.check_listed(manifest)?;
    Ok(tree)
}

fn below_root(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_start_matches('/'))
}

/// Adds what the rules take from a package. A rule that takes nothing is an error.
fn add_package(tree: &mut Tree, rule: &PackageRule, package: &Package) -> Result<()> {
    let mut taken = vec![0; rule.files.len()];
    let mut joined: BTreeMap<&str, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    package.with_data(|tar| {
        for entry in tar::Archive::new(tar).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            let Some((index, file, target)) = first_rule(rule, &path) else { continue };
            let node = match entry.header().entry_type() {
                tar::EntryType::Directory => continue,
                tar::EntryType::Regular => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content)?;
                    if file.magic.as_ref().is_some_and(|magic| !content.starts_with(magic.as_bytes())) {
                        continue;
                    }
                    if file.joined {
                        joined.entry(&file.to).or_default().insert(path, content);
                        taken[index] += 1;
                        continue;
                    }
                    Node::File { content: Content::Bytes(content), executable: file.executable }
                }
                tar::EntryType::Symlink => {
                    let link = entry.link_name()?.context("a symbolic link has no target")?;
                    Node::Link(link.to_string_lossy().into_owned())
                }
                other => bail!("{path} is of a kind that the root does not take: {other:?}"),
            };
            tree.add(&target, node)?;
            taken[index] += 1;
        }
        Ok(())
    })?;
    for (target, parts) in joined {
        tree.add_file(target, join_lines(parts.into_values()))?;
    }
    for (file, count) in rule.files.iter().zip(taken) {
        ensure!(count > 0, "it has nothing for {}", file.to);
    }
    Ok(())
}

/// The first of a package's rules that takes `path`, with the path in the root.
fn first_rule<'a>(rule: &'a PackageRule, path: &str) -> Option<(usize, &'a FileRule, String)> {
    rule.files.iter().enumerate().find_map(|(index, file)| Some((index, file, file.target(path)?)))
}

/// Texts one after the other, each with a line end at its end.
fn join_lines(parts: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&part);
        if !part.ends_with(b"\n") {
            all.push(b'\n');
        }
    }
    all
}

/// Adds a folder of this machine with everything below it.
fn add_folder(tree: &mut Tree, from: &Path, to: &str) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = format!("{to}/{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => add_folder(tree, &entry.path(), &target)?,
            false => {
                tree.add(&target, Node::File { content: Content::Copy(entry.path()), executable: false })?
            }
        }
    }
    Ok(())
}

/// Files of the manifest's folder that are not for the root.
const NOT_FOR_THE_ROOT: [&str; 2] = ["root.toml", "packages.lock"];

/// Fails when a file of the manifest's folder is not in the manifest: somebody forgot a line.
fn check_folder(manifest: &Manifest, folder: &Path, below: &str) -> Result<()> {
    let path = folder.join(below);
    for entry in fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))? {
        let entry = entry?;
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            check_folder(manifest, folder, &format!("{name}/"))?;
        } else if !NOT_FOR_THE_ROOT.contains(&name.as_str()) && !manifest.configures_a_kernel(&name) {
            ensure!(manifest.files.contains_key(&name), "rootfs/{name} is not listed in rootfs/root.toml");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
        directories = ["proc"]
        generated = ["usr/lib/modules/*", "usr/share/holdfast/release.json", "usr/share/holdfast/state.template",
            "usr/share/holdfast/etc/os-release"]
        baked = ["usr/share/holdfast/user-data", "usr/share/holdfast/images/**"]
        binaries = { init = "usr/sbin/init" }
        files = { "etc/hosts" = "usr/share/holdfast/etc/hosts" }
        links = { "usr/share/holdfast/etc/localtime" = "/usr/share/zoneinfo/UTC" }
        boot = { package = "b", loader = "l", stub = "s" }
        kernels.k.packaged = { package = "k", image = "vmlinuz-*", demand = [] }
        modules = { stages = {}, demand = {} }
        [[package]]
        name = "p"
        files = [
            { from = "zone/**", to = "usr/share/zoneinfo", magic = "TZif", except = ["posix/**"] },
            { from = "certs/*.crt", to = "usr/share/certs", joined = true },
        ]
    "#;

    /// A folder with what the manifest lists, and a package with more than it takes.
    struct Inputs {
        folder: tempfile::TempDir,
        package: Package,
    }

    impl Inputs {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("rootfs/etc")).unwrap();
            fs::write(folder.path().join("rootfs/etc/hosts"), "hosts").unwrap();
            fs::write(folder.path().join("init"), "init").unwrap();
            let package = Package::from_files(
                &folder.path().join("p.deb"),
                &[
                    ("./zone/UTC", "TZif2"),
                    ("./zone/zone.tab", "text"),
                    ("./zone/posix/UTC", "TZif2"),
                    ("./certs/b.crt", "B"),
                    ("./certs/a.crt", "A\n"),
                    ("./bin/sh", "no shell"),
                ],
            );
            Self { folder, package }
        }

        fn assemble(&self, manifest: &str, modules: &[&str]) -> Result<Tree> {
            let identity = Identity { version: "1".to_owned(), epoch: 1 };
            let binaries = BTreeMap::from([("init".to_owned(), self.folder.path().join("init"))]);
            let parts = Parts {
                folder: &self.folder.path().join("rootfs"),
                packages: std::slice::from_ref(&self.package),
                binaries: &binaries,
                modules: modules.iter().map(|name| ((*name).to_owned(), Vec::new())).collect(),
                state_template: Vec::new(),
                user_data: None,
                images: None,
            };
            assemble(&toml::from_str(manifest).unwrap(), &identity, parts)
        }
    }

    #[test]
    fn what_is_listed_is_there_and_nothing_else() {
        let tree = Inputs::new().assemble(MANIFEST, &["index.json"]).unwrap();
        let paths: Vec<_> = tree.paths().filter(|path| !path.starts_with("usr/share/holdfast")).collect();
        let expected = [
            "proc",
            "usr",
            "usr/lib",
            "usr/lib/modules",
            "usr/lib/modules/index.json",
            "usr/sbin",
            "usr/sbin/init",
            "usr/share",
            "usr/share/certs",
            "usr/share/zoneinfo",
            "usr/share/zoneinfo/UTC",
        ];
        assert_eq!(paths, expected);
        let content = tree.file("usr/share/certs").unwrap();
        assert_eq!(content, &Content::Bytes(b"A\nB\n".to_vec()));
    }

    #[test]
    fn a_file_that_no_line_lists_fails_the_build() {
        let inputs = Inputs::new();
        let error = inputs.assemble(MANIFEST, &["sub/extra.ko"]).unwrap_err().to_string();
        assert!(error.contains("usr/lib/modules/sub/extra.ko"), "{error}");
        fs::write(inputs.folder.path().join("rootfs/etc/shadow"), "").unwrap();
        let error = inputs.assemble(MANIFEST, &[]).unwrap_err().to_string();
        assert!(error.contains("rootfs/etc/shadow is not listed"), "{error}");
    }

    #[test]
    fn a_line_that_nothing_matches_fails_the_build() {
        let manifest = MANIFEST.replace("certs/*.crt", "certs/*.pem");
        let error = format!("{:#}", Inputs::new().assemble(&manifest, &[]).unwrap_err());
        assert!(error.contains("nothing for usr/share/certs"), "{error}");
    }

    #[test]
    fn two_lines_for_one_path_fail_the_build() {
        let manifest = MANIFEST.replace("usr/share/holdfast/etc/hosts", "usr/share/holdfast/etc/os-release");
        let error = Inputs::new().assemble(&manifest, &[]).unwrap_err().to_string();
        assert!(error.contains("two rules"), "{error}");
    }

    #[test]
    fn the_same_inputs_give_the_same_root() {
        let root = || {
            let inputs = Inputs::new();
            let tree = inputs.assemble(MANIFEST, &["index.json"]).unwrap();
            tree.write_erofs(std::io::Cursor::new(Vec::new()), [1; 16], 1).unwrap().into_inner()
        };
        assert!(root() == root());
    }

    #[test]
    fn the_projects_manifest_is_understood_and_names_its_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rootfs");
        let manifest = Manifest::read(&folder.join("root.toml")).unwrap();
        check_folder(&manifest, &folder, "").unwrap();
        assert!(manifest.files.keys().all(|file| folder.join(file).is_file()));
    }
}
