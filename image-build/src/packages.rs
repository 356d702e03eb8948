//! Debian packages: fetched by apt, which verifies them against the signed lists, and read without dpkg.
//!
//! A lock file records which versions a build took, so that the next build takes the same ones. A version that
//! has gone from the mirror is replaced by the newest one with a warning; the same version with another content is
//! an error. Nothing is installed and no package script runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::hash;

/// A package in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// SHA-256 of the `.deb`, hex.
    pub(crate) sha256: String,
    /// The `.deb`.
    pub(crate) path: PathBuf,
}

impl Package {
    /// Hands the package's files to `read` as an uncompressed tar stream.
    pub(crate) fn with_data<T>(&self, read: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
        let file = File::open(&self.path).with_context(|| format!("cannot open {}", self.path.display()))?;
        let mut archive = ar::Archive::new(BufReader::new(file));
        while let Some(member) = archive.next_entry() {
            let member = member.with_context(|| format!("cannot read {}", self.path.display()))?;
            let mut tar: Box<dyn Read> = match member.header().identifier() {
                b"data.tar" => Box::new(member),
                b"data.tar.xz" => Box::new(liblzma::read::XzDecoder::new(member)),
                b"data.tar.gz" => Box::new(flate2::read::GzDecoder::new(member)),
                b"data.tar.zst" => Box::new(zstd::Decoder::new(member)?),
                _ => continue,
            };
            return read(&mut tar).with_context(|| format!("package {} {}", self.name, self.version));
        }
        bail!("{} is not a Debian package: it has no data.tar", self.path.display())
    }

    /// The content of those regular files among `paths` (without `./`) that the package has.
    pub(crate) fn files(&self, paths: &[&str]) -> Result<BTreeMap<String, Vec<u8>>> {
        self.with_data(|tar| {
            let mut files = BTreeMap::new();
            for entry in tar::Archive::new(tar).entries()? {
                let mut entry = entry?;
                let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
                if entry.header().entry_type().is_file() && paths.contains(&path.as_str()) {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content)?;
                    files.insert(path, content);
                }
            }
            Ok(files)
        })
    }
}

/// One line of the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locked {
    name: String,
    version: String,
    sha256: String,
    /// The meta package that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meta: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    #[serde(default)]
    package: Vec<Locked>,
}

/// A package as apt's lists describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    name: String,
    version: String,
    sha256: String,
    depends: String,
}

/// The package cache with its lock file.
#[derive(Debug)]
pub(crate) struct Packages {
    cache: PathBuf,
    lock_path: PathBuf,
    locked: BTreeMap<String, Locked>,
}

impl Packages {
    /// Opens the cache directory (made when absent) and the lock file (empty when absent).
    pub(crate) fn open(cache: &Path, lock_path: &Path) -> Result<Self> {
        let cache = cache.join("packages");
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let lock = match fs::read_to_string(lock_path) {
            Ok(text) => {
                toml::from_str(&text).with_context(|| format!("cannot read {}", lock_path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => LockFile::default(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", lock_path.display())),
        };
        let locked = lock.package.into_iter().map(|p| (p.name.clone(), p)).collect();
        Ok(Self { cache, lock_path: lock_path.to_owned(), locked })
    }

    /// The packages of these names, in this order: from the cache, else from the mirror.
    pub(crate) fn fetch<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Package>> {
        let names: Vec<&str> = names.into_iter().collect();
        let missing: Vec<&str> = names.iter().copied().filter(|name| self.cached(name).is_none()).collect();
        if !missing.is_empty() {
            self.download(&missing)?;
        }
        let found =
            |name: &&str| self.cached(name).with_context(|| format!("apt did not deliver package {name}"));
        names.iter().map(found).collect()
    }

    /// The package that the meta package `meta` depends on and whose name begins with `prefix`.
    pub(crate) fn fetch_behind(&mut self, meta: &str, prefix: &str) -> Result<Package> {
        let locked = self.locked.values().find(|p| p.meta.as_deref() == Some(meta));
        if let Some(package) = locked.and_then(|p| self.cached(&p.name)) {
            return Ok(package);
        }
        let known = locked.map(|p| p.name.clone());
        let name = match known {
            Some(name) if !offers(&[&name])?.is_empty() => name,
            known => {
                let offers = offers(&[meta])?;
                let name = dependency(&newest(&offers, meta)?.depends, prefix)
                    .with_context(|| format!("package {meta} depends on no {prefix}*"))?;
                if let Some(gone) = known {
                    eprintln!("warning: {gone} is gone from the mirror: taking {name}");
                    self.locked.remove(&gone);
                }
                name
            }
        };
        self.fetch([name.as_str()])?;
        if let Some(entry) = self.locked.get_mut(&name) {
            entry.meta = Some(meta.to_owned());
        }
        self.write_lock()?;
        self.cached(&name).with_context(|| format!("apt did not deliver package {name}"))
    }

    /// The locked version of `name`, when its file is in the cache and has the locked content.
    fn cached(&self, name: &str) -> Option<Package> {
        let Locked { name, version, sha256, .. } = self.locked.get(name)?.clone();
        let path = self.path(&name, &version);
        let same = hash::sha256_file(&path).is_ok_and(|found| found == sha256);
        same.then_some(Package { name, version, sha256, path })
    }

    fn path(&self, name: &str, version: &str) -> PathBuf {
        self.cache.join(format!("{name}_{}.deb", version.replace(':', "%3a")))
    }

    /// Downloads `names` in the locked or the newest version and records what came.
    fn download(&mut self, names: &[&str]) -> Result<()> {
        let offers = offers(names)?;
        let chosen = names.iter().map(|name| self.choose(&offers, name)).collect::<Result<Vec<_>>>()?;
        let wanted = chosen.iter().map(|offer| format!("{}={}", offer.name, offer.version));
        eprintln!("fetching {} of Debian's packages", chosen.len());
        // A directory of its own: two builds may fill the same cache at the same time.
        let inbox = tempfile::tempdir_in(&self.cache)?;
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "-o", "APT::Sandbox::User=root", "download"]).args(wanted).current_dir(inbox.path());
        output(&mut apt)?;
        let mut arrived = BTreeMap::new();
        for entry in fs::read_dir(inbox.path())? {
            let path = entry?.path();
            arrived.insert(hash::sha256_file(&path)?, path);
        }
        for offer in chosen {
            let from = arrived
                .get(&offer.sha256)
                .with_context(|| format!("apt did not deliver package {} {}", offer.name, offer.version))?;
            fs::rename(from, self.path(&offer.name, &offer.version))?;
            let meta = self.locked.get(&offer.name).and_then(|p| p.meta.clone());
            let Offer { name, version, sha256, .. } = offer;
            self.locked.insert(name.clone(), Locked { name, version, sha256, meta });
        }
        self.write_lock()
    }

    /// The locked version of `name` when the mirror has it, else the newest one.
    fn choose(&self, offers: &[Offer], name: &str) -> Result<Offer> {
        let newest = newest(offers, name)?;
        let Some(locked) = self.locked.get(name) else { return Ok(newest.clone()) };
        match offers.iter().find(|offer| offer.name == name && offer.version == locked.version) {
            Some(offer) => {
                ensure!(
                    offer.sha256 == locked.sha256,
                    "package {name} {} has SHA-256 {} on the mirror but {} in {}: one of them was altered",
                    offer.version,
                    offer.sha256,
                    locked.sha256,
                    self.lock_path.display()
                );
                Ok(offer.clone())
            }
            None => {
                let (gone, new) = (&locked.version, &newest.version);
                eprintln!("warning: {name} {gone} is gone from the mirror: taking {new}");
                Ok(newest.clone())
            }
        }
    }

    /// Writes the lock file when it changed.
    fn write_lock(&self) -> Result<()> {
        let lock = LockFile { package: self.locked.values().cloned().collect() };
        let head = "# Versions that the last build took, kept by image-build. Delete a block to take the newest one.\n\n";
        let text = format!("{head}{}", toml::to_string(&lock)?);
        if fs::read_to_string(&self.lock_path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        fs::write(&self.lock_path, text).with_context(|| format!("cannot write {}", self.lock_path.display()))
    }
}

/// Every version of `names` that the mirror offers, newest first within a name. Names that it does not know are left out.
fn offers(names: &[&str]) -> Result<Vec<Offer>> {
    // apt-cache fails when one name is unknown, but prints the others: `newest` says which one is missing.
    let shown = run(Command::new("apt-cache").arg("show").arg("--").args(names))?;
    Ok(parse_offers(&String::from_utf8_lossy(&shown.stdout)))
}

/// The first offer of `name`.
fn newest<'a>(offers: &'a [Offer], name: &str) -> Result<&'a Offer> {
    offers.iter().find(|offer| offer.name == name).with_context(|| {
        format!(
            "apt offers no package {name}: run 'apt-get update', and see that Debian 12's sources hold it"
        )
    })
}

/// Reads `apt-cache show`. Stanzas without a file on the mirror (installed long ago) are left out.
fn parse_offers(text: &str) -> Vec<Offer> {
    let parse = |stanza: &str| {
        let fields: BTreeMap<&str, &str> = stanza.lines().filter_map(|line| line.split_once(": ")).collect();
        fields.get("Filename")?;
        Some(Offer {
            name: (*fields.get("Package")?).to_owned(),
            version: (*fields.get("Version")?).to_owned(),
            sha256: (*fields.get("SHA256")?).to_owned(),
            depends: fields.get("Depends").copied().unwrap_or_default().to_owned(),
        })
    };
    text.split("\n\n").filter_map(parse).collect()
}

/// The first name in a `Depends` field that begins with `prefix`.
fn dependency(depends: &str, prefix: &str) -> Option<String> {
    let names = depends.split([',', '|']).filter_map(|clause| clause.split_whitespace().next());
    names.into_iter().find(|name| name.starts_with(prefix)).map(str::to_owned)
}

/// Runs an apt command, with an error that says what to do when there is none.
fn run(command: &mut Command) -> Result<std::process::Output> {
    command.env("LC_ALL", "C").output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            anyhow::anyhow!("cannot find {}: images are built on Debian 12", command.get_program().display())
        }
        _ => anyhow::Error::new(error).context(format!("cannot run {command:?}")),
    })
}

/// Like `run`, and a failure of the command is an error with its own words.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = run(command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {}", command.get_program().display(), said.trim());
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "Package: a\nVersion: 2\nFilename: pool/a\nSHA256: aa\nDepends: libc6 (>= 2), a-6.12.1-x (= 2)\n\n\
                         Package: a\nVersion: 1\nStatus: install ok installed\n\n\
                         Package: b\nVersion: 1:3\nFilename: pool/b\nSHA256: bb\n";

    fn packages(locked: &[(&str, &str, &str)]) -> (tempfile::TempDir, Packages) {
        let folder = tempfile::tempdir().unwrap();
        let mut packages = Packages::open(folder.path(), &folder.path().join("lock")).unwrap();
        for (name, version, sha256) in locked {
            let (name, version, sha256) = ((*name).to_owned(), (*version).to_owned(), (*sha256).to_owned());
            packages.locked.insert(name.clone(), Locked { name, version, sha256, meta: None });
        }
        (folder, packages)
    }

    #[test]
    fn apts_answer_is_read_and_what_has_no_file_is_left_out() {
        let offers = parse_offers(SHOWN);
        let found: Vec<_> = offers.iter().map(|o| (o.name.as_str(), o.version.as_str())).collect();
        assert_eq!(found, [("a", "2"), ("b", "1:3")]);
        assert_eq!(dependency(&offers[0].depends, "a-6.12.").as_deref(), Some("a-6.12.1-x"));
        assert_eq!(dependency(&offers[0].depends, "z"), None);
    }

    #[test]
    fn a_version_gone_from_the_mirror_is_replaced() {
        let (_folder, packages) = packages(&[("a", "1", "old")]);
        assert_eq!(packages.choose(&parse_offers(SHOWN), "a").unwrap().version, "2");
    }

    #[test]
    fn the_same_version_with_another_content_is_refused() {
        let (_folder, packages) = packages(&[("a", "2", "other")]);
        let error = packages.choose(&parse_offers(SHOWN), "a").unwrap_err().to_string();
        assert!(error.contains("was altered"), "{error}");
    }

    #[test]
    fn the_lock_file_outlives_the_build() {
        let (folder, packages) = packages(&[("a", "2", "aa")]);
        packages.write_lock().unwrap();
        let again = Packages::open(folder.path(), &folder.path().join("lock")).unwrap();
        assert_eq!(again.locked, packages.locked);
    }

    #[test]
    fn a_cached_file_with_another_content_is_not_taken() {
        let (_folder, packages) = packages(&[("a", "2", "aa")]);
        fs::write(packages.path("a", "2"), "altered").unwrap();
        assert_eq!(packages.cached("a"), None);
    }

    impl Package {
        /// A package at `path` with these files.
        pub(crate) fn from_files(path: &Path, files: &[(&str, &str)]) -> Self {
            let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
            for (name, content) in files {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len().try_into().unwrap());
                tar.append_data(&mut header, name, content.as_bytes()).unwrap();
            }
            let data = tar.into_inner().unwrap().finish().unwrap();
            let mut archive = ar::Builder::new(File::create(path).unwrap());
            for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("data.tar.zst", &data)] {
                let header = ar::Header::new(name.into(), content.len().try_into().unwrap());
                archive.append(&header, content).unwrap();
            }
            Self { name: "p".into(), version: "1".into(), sha256: String::new(), path: path.to_owned() }
        }
    }

    #[test]
    fn a_package_is_read_without_dpkg() {
        let folder = tempfile::tempdir().unwrap();
        let package =
            Package::from_files(&folder.path().join("x.deb"), &[("./usr/bin/x", "hello"), ("./y", "")]);
        let files = package.files(&["usr/bin/x", "z"]).unwrap();
        assert_eq!(files, BTreeMap::from([("usr/bin/x".to_owned(), b"hello".to_vec())]));
        fs::write(&package.path, "no archive").unwrap();
        assert!(package.files(&[]).is_err());
    }
}
