//! Generations on the state partition: written once, whole, and never changed.
//!
//! A generation is made in a directory that PID 1 never looks at, waited for to be on the disk, and renamed; then the
//! links to the current one are replaced. Whoever is killed in between leaves the old generation current.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use config::{Included, MetaData};
use plan::{Plan, ReadError, ShimConfig, paths};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::containers::{self, Networks};
use crate::file::{self, FileError, cannot};
use crate::planner::Draft;
use crate::source::{Datasource, Found};
use crate::store::Needed;

/// Generations that are kept beside those that links name.
const KEPT: usize = 10;

/// What a generation is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) found: &'a Found,
    pub(crate) os_version: &'a str,
    pub(crate) root_hash: &'a str,
}

/// `generation.json`: what a generation was made from. The contents are files beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) number: u64,
    pub(crate) os_version: String,
    pub(crate) root_hash: String,
    /// Name of the user-data's source.
    pub(crate) source: String,
    pub(crate) datasource: Datasource,
    /// Name of the vendor-data's source, when there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vendor_data: Option<String>,
    /// Name of the network configuration's source, when there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network_config: Option<String>,
    pub(crate) meta: MetaData,
    /// Addresses that were included; the content of the first one is the file `included-0`, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) included: Vec<String>,
    /// The images that were pulled for it, by their full names: the digest that each stood for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) images: BTreeMap<String, String>,
    /// Hex SHA-256 over everything it was made from.
    pub(crate) digest: String,
    /// Seconds since 1970, by the clock of the node.
    pub(crate) time: u64,
}

/// A generation on disk.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) record: Record,
    pub(crate) plan: Plan,
    pub(crate) networks: Networks,
    directory: PathBuf,
}

/// Why a generation is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerationError {
    #[error("cannot keep the new generation")]
    Write(#[from] FileError),
    #[error("cannot keep the new generation: {path} cannot be written as JSON")]
    Encode { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Input<'_> {
    /// What tells this input from another one. The names of its sources do not: a disk may be called another thing at
    /// the next boot.
    pub(crate) fn digest(&self) -> String {
        let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let optional = |part: &Option<(String, Vec<u8>)>| {
            part.as_ref().map_or_else(String::new, |(_, content)| hex(content))
        };
        let MetaData { instance_id, local_hostname: _, local_fqdn, public_keys, random_seed: _ } =
            &self.found.meta;
        let parts = [
            hex(&self.found.user_data),
            self.os_version.to_owned(),
            self.root_hash.to_owned(),
            optional(&self.found.vendor_data),
            optional(&self.found.network_config),
            instance_id.clone().unwrap_or_default(),
            local_fqdn.clone().unwrap_or_default(),
            public_keys.join("\n"),
            included(self.found).map(|(url, content)| url.to_owned() + &hex(content)).collect(),
        ];
        hex(parts.map(|part| hex(part.as_bytes())).join("\n").as_bytes())
    }
}

/// What was included, in its order.
fn included(found: &Found) -> impl Iterator<Item = (&str, &[u8])> {
    found
        .included
        .iter()
        .filter_map(|included| Some((included.url.as_str(), included.content.as_deref().ok()?)))
}

/// Names of the files with what a generation was made from.
const USER_DATA: &str = "user-data";
const VENDOR_DATA: &str = "vendor-data";
const NETWORK_CONFIG: &str = "network-config";

fn included_file(number: usize) -> String {
    format!("included-{number}")
}

impl Generation {
    /// What it was made from.
    pub(crate) fn found(&self) -> Result<Found, FileError> {
        let read = |name: &str| {
            let path = self.directory.join(name);
            fs::read(&path).map_err(cannot("read", &path))
        };
        let named = |name: &Option<String>, file: &str| {
            name.as_ref().map(|name| Ok((name.clone(), read(file)?))).transpose()
        };
        let kept = |(number, url): (usize, &String)| {
            Ok(Included { url: url.clone(), content: Ok(read(&included_file(number))?) })
        };
        Ok(Found {
            vendor_data: named(&self.record.vendor_data, VENDOR_DATA)?,
            meta: self.record.meta.clone(),
            network_config: named(&self.record.network_config, NETWORK_CONFIG)?,
            included: self.record.included.iter().enumerate().map(kept).collect::<Result<_, _>>()?,
            ..Found::new(self.record.datasource, &self.record.source, read(USER_DATA)?)
        })
    }

    fn read(directory: &Path) -> Result<Self, ReadError> {
        Ok(Self {
            record: plan::read_json(&directory.join("generation.json"))?,
            plan: plan::read_json(&directory.join("plan.json"))?,
            networks: containers::read(directory),
            directory: directory.to_owned(),
        })
    }
}

/// The container networks of the generation that runs, as far as there is one.
pub(crate) fn networks(root_hash: &str) -> Networks {
    let current = Generations::of_node().current(root_hash);
    current.ok().flatten().map(|current| current.networks).unwrap_or_default()
}

/// All generations.
#[derive(Clone, Debug)]
pub(crate) struct Generations {
    directory: PathBuf,
    containers: PathBuf,
    certificates: PathBuf,
}

impl Generations {
    /// Those of the node.
    pub(crate) fn of_node() -> Self {
        Self {
            directory: paths::GENERATIONS.into(),
            containers: paths::CONTAINERS.into(),
            certificates: paths::CERTIFICATES.into(),
        }
    }

    /// The one that the running release uses: its own last one, else the last one of any release.
    pub(crate) fn current(&self, root_hash: &str) -> Result<Option<Generation>, ReadError> {
        for link in [format!("current-{root_hash}"), "current".to_owned()] {
            // The generation itself, not the link, so that its path does not change its meaning.
            if let Ok(directory) = fs::canonicalize(self.directory.join(link)) {
                return Generation::read(&directory).map(Some);
            }
        }
        Ok(None)
    }

    /// Writes a new generation and makes it the current one.
    pub(crate) fn commit(&self, input: &Input<'_>, draft: &Draft) -> Result<Generation, GenerationError> {
        fs::create_dir_all(&self.directory).map_err(cannot("make the directory", &self.directory))?;
        let number = 1 + self.numbers().last().copied().unwrap_or(0);
        let directory = self.directory.join(number.to_string());
        let plan = draft.plan(number, &directory);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = Record {
            number,
            os_version: input.os_version.to_owned(),
            root_hash: input.root_hash.to_owned(),
            source: input.found.name.clone(),
            datasource: input.found.datasource,
            vendor_data: input.found.vendor_data.as_ref().map(|(name, _)| name.clone()),
            network_config: input.found.network_config.as_ref().map(|(name, _)| name.clone()),
            meta: input.found.meta.clone(),
            included: included(input.found).map(|(url, _)| url.to_owned()).collect(),
            images: draft.images.clone(),
            digest: input.digest(),
            time: now.as_secs(),
        };

        let new = self.directory.join("new");
        remove_tree(&new)?;
        if let Err(error) = write(&new, input, draft, &plan, &record) {
            // Half a generation must not fill a state partition that is full already. It is written over next time.
            return remove_tree(&new).map_err(GenerationError::Write).and(Err(error));
        }
        fs::rename(&new, &directory).map_err(cannot("rename", &new))?;
        file::sync_directory(&self.directory)?;
        if !input.root_hash.is_empty() {
            self.link(&format!("current-{}", input.root_hash), number)?;
        }
        self.link("current", number)?;
        Ok(Generation { record, plan, networks: draft.networks().clone(), directory })
    }

    /// Removes generations that are neither recent nor linked to, and the writable layers and certificates that no kept
    /// one uses.
    pub(crate) fn prune(&self) -> Result<(), FileError> {
        let numbers = self.numbers();
        let mut kept: BTreeSet<u64> = numbers.iter().rev().take(KEPT).copied().collect();
        kept.extend(self.linked());
        kept.extend(self.replaced());
        let mut used = BTreeSet::new();
        let mut trusted = BTreeSet::new();
        for number in numbers {
            let directory = self.directory.join(number.to_string());
            if !kept.contains(&number) {
                remove_tree(&directory)?;
                continue;
            }
            let bundles = entries(&directory.join("bundles"));
            trusted.extend(bundles.filter_map(|bundle| {
                plan::read_json::<ShimConfig>(&bundle.join("shim.json")).ok()?.certificates
            }));
            if let Ok(plan) = plan::read_json::<Plan>(&directory.join("plan.json")) {
                used.extend(
                    plan.services.into_iter().map(|(name, service)| (name.to_string(), service.digest)),
                );
            }
        }
        for file in entries(&self.certificates).filter(|file| !trusted.contains(file)) {
            fs::remove_file(&file).map_err(cannot("remove", &file))?;
        }
        for service in entries(&self.containers) {
            for layer in entries(&service) {
                let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !used.contains(&(name(&service), name(&layer))) {
                    remove_tree(&layer)?;
                }
            }
        }
        Ok(())
    }

    /// What the last two generations, those that links name, and containers that wait for their successors need of images.
    pub(crate) fn needed_images(&self) -> Needed {
        let mut numbers: BTreeSet<u64> = self.numbers().into_iter().rev().take(2).collect();
        numbers.extend(self.linked());
        numbers.extend(self.replaced());
        let mut needed = Needed::default();
        for number in numbers {
            let directory = self.directory.join(number.to_string());
            if let Ok(generation) = Generation::read(&directory) {
                needed.digests.extend(generation.record.images.into_values());
            }
            let shims = entries(&directory.join("bundles"))
                .filter_map(|bundle| plan::read_json::<ShimConfig>(&bundle.join("shim.json")).ok());
            needed.layers.extend(shims.flat_map(|shim| shim.sealed.into_keys()));
        }
        needed
    }

    /// The generations that links name.
    fn linked(&self) -> impl Iterator<Item = u64> + use<> {
        entries(&self.directory).filter_map(|path| fs::read_link(path).ok()?.to_str()?.parse().ok())
    }

    /// The generations of the containers that run until those of the last one work.
    fn replaced(&self) -> impl Iterator<Item = u64> {
        let plan = |number: &u64| {
            plan::read_json::<Plan>(&self.directory.join(number.to_string()).join("plan.json")).ok()
        };
        let numbers = self.numbers();
        let last = numbers.last().and_then(plan);
        let replaced =
            last.into_iter().flat_map(|plan| plan.services.into_values().filter_map(|s| s.replaces));
        replaced.filter_map(move |replaced| {
            let has = |number: &&u64| {
                plan(number).is_some_and(|plan| plan.services.contains_key(&replaced.service))
            };
            numbers.iter().rev().find(has).copied()
        })
    }

    /// The numbers that are taken, in order.
    fn numbers(&self) -> Vec<u64> {
        let number = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
        let mut numbers: Vec<u64> = entries(&self.directory).filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Points a link to a generation, at once.
    fn link(&self, name: &str, number: u64) -> Result<(), FileError> {
        let (new, link) = (self.directory.join("new-link"), self.directory.join(name));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot("remove", &new)(error));
            }
            _ => symlink(number.to_string(), &new).map_err(cannot("make the link", &new))?,
        }
        fs::rename(&new, &link).map_err(cannot("replace", &link))?;
        file::sync_directory(&self.directory)
    }
}

/// Writes all files of a generation into a new directory.
fn write(
    directory: &Path,
    input: &Input<'_>,
    draft: &Draft,
    plan: &Plan,
    record: &Record,
) -> Result<(), GenerationError> {
    make_directory(directory)?;
    let others = [(VENDOR_DATA, &input.found.vendor_data), (NETWORK_CONFIG, &input.found.network_config)];
    let others = others.iter().filter_map(|(file, part)| Some((*file, part.as_ref()?.1.as_slice())));
    for (file, content) in [(USER_DATA, input.found.user_data.as_slice())].into_iter().chain(others) {
        file::create(&directory.join(file), 0o600, content)?;
    }
    for (number, (_, content)) in included(input.found).enumerate() {
        file::create(&directory.join(included_file(number)), 0o600, content)?;
    }
    write_json(&directory.join("plan.json"), plan)?;
    write_json(&directory.join("generation.json"), record)?;
    write_json(&directory.join(Networks::FILE), draft.networks())?;
    let bundles = directory.join("bundles");
    make_directory(&bundles)?;
    for (name, bundle) in draft.bundles() {
        let path = bundles.join(name.as_str());
        make_directory(&path)?;
        write_json(&path.join("config.json"), &bundle.config)?;
        write_json(&path.join("shim.json"), &bundle.shim)?;
        file::sync_directory(&path)?;
    }
    file::sync_directory(&bundles)?;
    Ok(file::sync_directory(directory)?)
}

/// Only root reads them: environments hold passwords.
fn make_directory(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(cannot("make the directory", path))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), GenerationError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|source| GenerationError::Encode { path: path.to_owned(), source })?;
    Ok(file::create(path, 0o600, &text)?)
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn remove_tree(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(cannot("remove", path)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use plan::ServiceName;
    use serde_json::Value;

    use super::*;
    use crate::planner::{Wanted, draft};

    struct Node {
        directory: tempfile::TempDir,
        generations: Generations,
    }

    fn node() -> Node {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let generations = Generations {
            directory: at("generations"),
            containers: at("containers"),
            certificates: at("certificates"),
        };
        Node { directory, generations }
    }

    fn found(user_data: &str) -> Found {
        Found::new(Datasource::NoCloud, "f", user_data.as_bytes().to_vec())
    }

    fn digest(found: &Found, root_hash: &str) -> String {
        Input { found, os_version: "1", root_hash }.digest()
    }

    fn commit(node: &Node, user_data: &str, root_hash: &str) -> Result<Generation, GenerationError> {
        commit_found(node, &found(user_data), root_hash)
    }

    fn commit_found(node: &Node, found: &Found, root_hash: &str) -> Result<Generation, GenerationError> {
        commit_after(node, found, root_hash, None, &BTreeSet::new())
    }

    fn commit_after(
        node: &Node,
        found: &Found,
        root_hash: &str,
        last: Option<&Plan>,
        running: &BTreeSet<ServiceName>,
    ) -> Result<Generation, GenerationError> {
        let certificates = node.generations.certificates.join("used.crt");
        let (desired, _) = config::check("f", &found.user_data);
        let config = images::Config { cmd: vec!["run".to_owned()], ..images::Config::default() };
        let image = images::Image { digest: String::new(), layers: Vec::new(), config };
        let baked = images::Index {
            images: [("docker.io/library/a:latest".to_owned(), image)].into(),
            ..images::Index::default()
        };
        let store = crate::store::Store::of_node();
        let images = crate::store::OnNode {
            baked: &baked,
            store: &store,
            pulled: images::Index::default(),
            imports: &[],
        };
        let wanted = Wanted {
            desired: &desired.unwrap(),
            source: "f",
            hostname: "node",
            os_version: "1",
            images: &images,
            seccomp: &Value::Null,
            certificates: Some(&certificates),
            last,
            running,
            before: &Networks::default(),
            taken: &[],
            commands: None,
        };
        let input = Input { found, os_version: "1", root_hash };
        node.generations.commit(&input, &draft(&wanted).unwrap())
    }

    const WEB: &str =
        "#cloud-config\nservices: {web: {image: a, network_mode: none, environment: {P: secret}}}\n";

    #[test]
    fn a_generation_is_what_pid_1_and_the_shim_read() {
        let node = node();
        commit(&node, WEB, "ab").unwrap();
        let directory = node.directory.path().join("generations/1");
        let plan: Plan =
            plan::read_json(&node.directory.path().join("generations/current-ab/plan.json")).unwrap();
        assert_eq!(plan.generation, 1);
        let service = plan.services.values().next().unwrap();
        assert_eq!(service.bundle, directory.join("bundles/web"));
        plan::read_json::<plan::ShimConfig>(&service.bundle.join("shim.json")).unwrap();
        plan::read_json::<Value>(&service.bundle.join("config.json")).unwrap();
        for secret in ["user-data", "bundles/web/config.json"] {
            let mode = fs::metadata(directory.join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{secret} is for root alone");
        }
        let current = node.generations.current("ab").unwrap().unwrap();
        assert_eq!(current.record.digest, digest(&found(WEB), "ab"));
    }

    #[test]
    fn each_release_has_its_own_current_generation() {
        let node = node();
        assert!(node.generations.current("ab").unwrap().is_none());
        commit(&node, WEB, "ab").unwrap();
        commit(&node, WEB, "cd").unwrap();
        let number = |hash| node.generations.current(hash).unwrap().unwrap().record.number;
        assert_eq!((number("ab"), number("cd"), number("ef")), (1, 2, 2));
    }

    #[test]
    fn the_same_input_has_the_same_digest_and_any_other_another() {
        let meta = |change: fn(&mut MetaData)| {
            let mut found = found(WEB);
            change(&mut found.meta);
            digest(&found, "ab")
        };
        let part = Some(("vendor-data".to_owned(), b"#cloud-config\n".to_vec()));
        let digests: BTreeSet<String> = [
            digest(&found(WEB), "ab"),
            digest(&found(""), "ab"),
            digest(&found(WEB), "cd"),
            Input { found: &found(WEB), os_version: "2", root_hash: "ab" }.digest(),
            digest(&Found { vendor_data: part.clone(), ..found(WEB) }, "ab"),
            digest(&Found { network_config: part, ..found(WEB) }, "ab"),
            meta(|meta| meta.instance_id = Some("i-1".to_owned())),
            meta(|meta| meta.local_fqdn = Some("x".to_owned())),
            meta(|meta| meta.public_keys = vec!["key".to_owned()]),
        ]
        .into();
        assert_eq!(digests.len(), 9);
        let renamed = Found { name: "other".to_owned(), ..found(WEB) };
        assert_eq!(digest(&found(WEB), "ab"), digest(&renamed, "ab"));
        assert_eq!(digest(&found(WEB), "ab"), meta(|meta| meta.random_seed = vec![1]));
    }

    #[test]
    fn what_a_generation_was_made_from_comes_back() {
        let node = node();
        let whole = Found {
            vendor_data: Some(("v".to_owned(), b"#cloud-config\n".to_vec())),
            network_config: Some(("n".to_owned(), b"version: 2\n".to_vec())),
            meta: MetaData { instance_id: Some("i-1".to_owned()), ..MetaData::default() },
            ..found(WEB)
        };
        commit_found(&node, &whole, "ab").unwrap();
        let back = node.generations.current("ab").unwrap().unwrap().found().unwrap();
        assert_eq!(
            (back.user_data, back.vendor_data, back.network_config, back.meta),
            (whole.user_data, whole.vendor_data, whole.network_config, whole.meta)
        );
    }

    #[test]
    fn an_interrupted_commit_leaves_the_old_generation_current() {
        let node = node();
        commit(&node, WEB, "ab").unwrap();
        let generations = node.directory.path().join("generations");
        fs::create_dir_all(generations.join("new/bundles")).unwrap();
        fs::create_dir(generations.join("2")).unwrap();
        symlink("2", generations.join("new-link")).unwrap();
        assert_eq!(node.generations.current("ab").unwrap().unwrap().record.number, 1);
        assert_eq!(commit(&node, "#cloud-config\n", "ab").unwrap().record.number, 3);
        assert_eq!(node.generations.current("ab").unwrap().unwrap().record.number, 3);
    }

    #[test]
    fn a_state_that_cannot_be_written_keeps_the_old_generation() {
        let node = node();
        commit(&node, WEB, "ab").unwrap();
        // A file stands where the new generation's directory must be made.
        fs::write(node.directory.path().join("generations/new"), "").unwrap();
        let error = commit(&node, "#cloud-config\n", "ab").unwrap_err();
        assert!(crate::console::chain(&error).contains("generations/new"), "{error:?}");
        assert_eq!(node.generations.current("ab").unwrap().unwrap().record.number, 1);
    }

    #[test]
    fn old_generations_and_layers_go_and_those_in_use_stay() {
        let node = node();
        let first = commit(&node, WEB, "old").unwrap();
        for n in 0..KEPT + 2 {
            commit(&node, &WEB.replace("secret", &n.to_string()), "ab").unwrap();
        }
        let layers = node.directory.path().join("containers/web");
        let digest = &first.plan.services.values().next().unwrap().digest;
        for layer in [digest.as_str(), "unused"] {
            fs::create_dir_all(layers.join(layer).join("upper")).unwrap();
        }
        let certificates = node.directory.path().join("certificates");
        fs::create_dir(&certificates).unwrap();
        for name in ["used.crt", "unused.crt"] {
            fs::write(certificates.join(name), "").unwrap();
        }
        node.generations.prune().unwrap();
        assert!(certificates.join("used.crt").exists() && !certificates.join("unused.crt").exists());
        let mut expected: Vec<u64> = (4..=13).collect();
        expected.insert(0, 1);
        assert_eq!(node.generations.numbers(), expected, "1 is linked to, the rest is recent");
        assert!(layers.join(digest).exists() && !layers.join("unused").exists());
    }

    #[test]
    fn the_generation_of_a_container_that_waits_for_its_successor_stays() {
        let node = node();
        let first_started = "deploy: {update_config: {order: start-first}}";
        let config = |n: usize| {
            WEB.replace("secret", &n.to_string()).replace("image: a", &format!("image: a, {first_started}"))
        };
        let running = BTreeSet::from([ServiceName::new("web").unwrap()]);
        let mut last = None;
        for n in 0..KEPT + 2 {
            let found = found(&config(n));
            last = Some(commit_after(&node, &found, "ab", last.as_ref(), &running).unwrap().plan);
        }
        node.generations.prune().unwrap();
        let mut expected: Vec<u64> = (3..=12).collect();
        expected.insert(0, 1);
        assert_eq!(node.generations.numbers(), expected);
        commit(&node, WEB, "ab").unwrap();
        node.generations.prune().unwrap();
        assert_eq!(node.generations.numbers(), (4..=13).collect::<Vec<u64>>());
    }
}
