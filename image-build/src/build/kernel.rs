//! The kernel of a build: its image, its modules, and the index that says what needs what.
//!
//! The modules say themselves what they need and which devices they serve (`.modinfo`), so no depmod is run.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use modules::{Index, Module, Stage};

use super::manifest::{Demand, Manifest};
use crate::glob;
use crate::packages::Package;

/// A kernel with the modules that an image may take.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// `uname -r`.
    pub(crate) release: String,
    /// The bootable image.
    pub(crate) image: Vec<u8>,
    /// The same as an ELF file, for monitors that start it without firmware; only of kernels without modules.
    pub(crate) elf: Option<Vec<u8>>,
    /// How it was configured.
    pub(crate) config: Vec<u8>,
    /// Its modules by name: compressed by xz, as they came.
    packed: BTreeMap<String, Packed>,
    /// Paths of what would be modules and is built in.
    builtin: BTreeMap<String, String>,
}

/// A module as it came.
#[derive(Debug)]
struct Packed {
    /// Below `kernel/`, without `.ko`.
    path: String,
    content: Vec<u8>,
}

/// Files of `/usr/lib/modules`, the index among them.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What a module says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Modinfo {
    depends: Vec<String>,
    aliases: Vec<String>,
}

impl Kernel {
    /// Reads Debian's kernel package.
    pub(crate) fn packaged(package: &Package, image_pattern: &str) -> Result<Self> {
        let (mut image, mut release, mut config, mut files) = (None, None, Vec::new(), Vec::new());
        package.with_data(|tar| {
            for entry in tar::Archive::new(tar).entries()? {
                let mut entry = entry?;
                let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
                let mut content = Vec::new();
                if glob::matches(image_pattern, &path) {
                    entry.read_to_end(&mut content)?;
                    release = glob_rest(image_pattern, &path);
                    image = Some(content);
                } else if path.starts_with(CONFIG) {
                    entry.read_to_end(&mut config)?;
                } else if is_of_modules(&path) {
                    entry.read_to_end(&mut content)?;
                    files.push((path, content));
                }
            }
            Ok(())
        })?;
        let absent = || format!("package {} has no {image_pattern}", package.name);
        let (packed, builtin) = sort(files);
        let (release, image) = (release.with_context(absent)?, image.with_context(absent)?);
        Ok(Self { release, image, elf: None, config, packed, builtin })
    }

    /// Reads what was made of a kernel of our own.
    pub(crate) fn compiled(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let release = String::from_utf8_lossy(&read("release")?).trim().to_owned();
        let modules = folder.join("modules");
        let mut files = Vec::new();
        let elf = if modules.exists() {
            read_modules(&modules, &mut files)?;
            None
        } else {
            Some(read("vmlinux")?)
        };
        let (packed, builtin) = sort(files);
        Ok(Self { release, image: read("vmlinuz")?, elf, config: read("config")?, packed, builtin })
    }

    /// The module files of the root and of the initrd: none at all when everything is built in.
    pub(crate) fn module_files(&self, manifest: &Manifest, demand: &[&Demand]) -> Result<(Files, Files)> {
        if self.packed.is_empty() {
            return Ok((Files::new(), Files::new()));
        }
        let mut stages = manifest.modules.stages.clone();
        for names in stages.values_mut() {
            names.retain(|name| !self.builtin.contains_key(name));
        }
        let initrd = self.resolve(demand.iter().flat_map(|set| &set.initrd))?;
        let of_root = |packed: bool| {
            let sets = demand.iter().filter(move |set| set.packed == packed);
            self.resolve(sets.flat_map(|set| &set.root))
        };
        let (plain, packed) = (of_root(false)?, of_root(true)?);
        let root = self.collect(&stages, initrd.iter().chain(&plain), &packed)?;
        let early = stages.into_iter().filter(|(stage, _)| *stage != Stage::Late).collect();
        Ok((root, self.collect(&early, &initrd, &[])?))
    }

    /// The names of those modules that `wanted` means, by name or by pattern. What is built in is none; what the kernel
    /// does not have at all is an error.
    fn resolve<'a>(&self, wanted: impl IntoIterator<Item = &'a String>) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for wanted in wanted {
            if !wanted.contains('/') {
                names.extend((!self.builtin.contains_key(wanted)).then(|| wanted.clone()));
                continue;
            }
            let fits = |path: &String| glob::matches(wanted, path);
            let found =
                self.packed.iter().filter(|(_, packed)| fits(&packed.path)).map(|(name, _)| name.clone());
            let before = names.len();
            names.extend(found);
            let built_in = self.builtin.values().any(fits);
            ensure!(names.len() > before || built_in, "kernel {} has no module {wanted}", self.release);
        }
        Ok(names)
    }

    /// Files for the modules of `stages`, for those in `demand`, and for what they need; and for those in `packed` as
    /// they came.
    fn collect<'a>(
        &self,
        stages: &'a BTreeMap<Stage, Vec<String>>,
        demand: impl IntoIterator<Item = &'a String>,
        packed: &'a [String],
    ) -> Result<Files> {
        let plain: Vec<_> = stages.values().flatten().chain(demand).collect();
        let infos = self.closure(plain.iter().copied().chain(packed))?;
        let plain = self.closure(plain)?;
        let mut index = Index { kernel: self.release.clone(), stages: stages.clone(), ..Index::default() };
        let mut files = Files::new();
        for (name, info) in &infos {
            let (file, content) = match plain.contains_key(name) {
                true => (format!("{name}.ko"), self.unpack(name)?),
                false => (format!("{name}{PACKED}"), self.packed(name)?.to_vec()),
            };
            files.insert(file.clone(), content);
            let mut needs = Vec::new();
            order(&infos, name, &mut needs);
            needs.retain(|needed| needed != name);
            // What a stage loads anyway need not be found by device.
            let staged = index.stages.values().flatten().any(|staged| staged == name);
            let aliases = if staged { Vec::new() } else { info.aliases.clone() };
            index.modules.insert(name.clone(), Module { file, needs, aliases });
        }
        files.insert("index.json".to_owned(), serde_json::to_vec(&index)?);
        Ok(files)
    }

    /// What each of `names`, and each module that they need, says of itself.
    fn closure<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Result<BTreeMap<String, Modinfo>> {
        let mut infos = BTreeMap::new();
        let mut wanted: Vec<String> = names.into_iter().cloned().collect();
        while let Some(name) = wanted.pop() {
            if infos.contains_key(&name) {
                continue;
            }
            let info = modinfo(&self.unpack(&name)?).with_context(|| format!("cannot read module {name}"))?;
            wanted.extend(info.depends.iter().cloned());
            infos.insert(name, info);
        }
        Ok(infos)
    }

    /// A module as it came.
    fn packed(&self, name: &str) -> Result<&[u8]> {
        let packed = self.packed.get(name).map(|packed| &packed.content[..]);
        packed.with_context(|| format!("kernel {} has no module {name}", self.release))
    }

    fn unpack(&self, name: &str) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        liblzma::read::XzDecoder::new(self.packed(name)?)
            .read_to_end(&mut plain)
            .with_context(|| format!("cannot unpack module {name}"))?;
        Ok(plain)
    }
}

/// How packages of kernels name the configuration.
const CONFIG: &str = "boot/config-";
/// The list of what would be modules and is built in.
const BUILTIN: &str = "modules.builtin";
/// How modules end.
const PACKED: &str = ".ko.xz";

fn is_of_modules(path: &str) -> bool {
    path.ends_with(PACKED) || path.rsplit('/').next() == Some(BUILTIN)
}

/// Reads a directory of modules with everything below it.
fn read_modules(folder: &Path, files: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            read_modules(&path, files)?;
        } else if is_of_modules(&path.to_string_lossy()) {
            files.push((path.to_string_lossy().into_owned(), fs::read(&path)?));
        }
    }
    Ok(())
}

/// Sorts files into the modules and the list of what is built in.
fn sort(files: Vec<(String, Vec<u8>)>) -> (BTreeMap<String, Packed>, BTreeMap<String, String>) {
    let below = |path: &str| path.rsplit_once("/kernel/").map_or(path, |(_, below)| below).to_owned();
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).replace('-', "_");
    let (mut packed, mut builtin) = (BTreeMap::new(), BTreeMap::new());
    for (file, content) in files {
        if let Some(path) = file.strip_suffix(PACKED) {
            packed.insert(name(path), Packed { path: below(path), content });
        } else {
            let text = String::from_utf8_lossy(&content).into_owned();
            let paths = text.lines().filter_map(|line| line.strip_prefix("kernel/")?.strip_suffix(".ko"));
            builtin.extend(paths.map(|path| (name(path), path.to_owned())));
        }
    }
    (packed, builtin)
}

/// What the one `*` at the end of `pattern` stands for in `path`.
fn glob_rest(pattern: &str, path: &str) -> Option<String> {
    path.strip_prefix(pattern.strip_suffix('*')?).map(str::to_owned)
}

/// Adds `name` to `done` behind everything that it needs.
fn order(infos: &BTreeMap<String, Modinfo>, name: &str, done: &mut Vec<String>) {
    for needed in infos.get(name).into_iter().flat_map(|info| &info.depends) {
        if !done.contains(needed) {
            order(infos, needed, done);
        }
    }
    if !done.iter().any(|there| there == name) {
        done.push(name.to_owned());
    }
}

/// Reads the `.modinfo` section of a module: a 64-bit little-endian ELF file with NUL-separated `key=value` texts.
fn modinfo(elf: &[u8]) -> Result<Modinfo> {
    let number = |offset: usize, bytes: usize| -> Result<usize> {
        let field = elf.get(offset..).and_then(|rest| rest.get(..bytes)).context("it is cut off")?;
        let value = field.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).context("it is too large")
    };
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "it is no 64-bit little-endian ELF file");
    let (table, entry, count, names) =
        (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?, number(0x3e, 2)?);
    let section = |i: usize| -> Result<(usize, &[u8])> {
        let header = i.checked_mul(entry).and_then(|at| at.checked_add(table)).context("it is too large")?;
        let (name, start, size) = (number(header, 4)?, number(header + 0x18, 8)?, number(header + 0x20, 8)?);
        Ok((name, elf.get(start..).and_then(|rest| rest.get(..size)).unwrap_or_default()))
    };
    let names = section(names)?.1;
    for i in 0..count {
        let (name, content) = section(i)?;
        if names.get(name..).is_some_and(|name| name.starts_with(b".modinfo\0")) {
            return Ok(parse_modinfo(&String::from_utf8_lossy(content)));
        }
    }
    bail!("it has no .modinfo section")
}

fn parse_modinfo(text: &str) -> Modinfo {
    let mut info = Modinfo::default();
    for (key, value) in text.split('\0').filter_map(|field| field.split_once('=')) {
        match key {
            "depends" => {
                info.depends.extend(value.split(',').filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")))
            }
            "alias" => info.aliases.push(value.to_owned()),
            _ => {}
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_says_of_itself_is_read() {
        let text = "license=GPL\0alias=pci:v*\0depends=dm-mod,reed_solomon\0\0alias=dm-verity\0name=x\0";
        let info = parse_modinfo(text);
        assert_eq!(info.depends, ["dm_mod", "reed_solomon"]);
        assert_eq!(info.aliases, ["pci:v*", "dm-verity"]);
    }

    #[test]
    fn an_elf_section_is_found_by_name() {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let strings = b"\0.modinfo\0";
        let content = b"depends=a\0";
        elf.extend(strings);
        elf.extend(content);
        elf[0x28] = u8::try_from(elf.len()).unwrap();
        (elf[0x3a], elf[0x3c], elf[0x3e]) = (64, 2, 0);
        for (name, start, size) in [(0_u8, 64_u8, strings.len()), (1, 74, content.len())] {
            let mut header = [0; 64];
            (header[0], header[0x18], header[0x20]) = (name, start, u8::try_from(size).unwrap());
            elf.extend(header);
        }
        assert_eq!(modinfo(&elf).unwrap().depends, ["a"]);
        assert!(modinfo(&elf[..80]).is_err());
        assert!(modinfo(b"\x7fELF\x01\x01").is_err());
    }

    #[test]
    fn modules_are_meant_by_name_or_by_path_unless_they_are_built_in() {
        let files = [
            ("lib/modules/6/kernel/drivers/net/a-b.ko.xz", ""),
            ("lib/modules/6/kernel/drivers/net/sub/c.ko.xz", ""),
            ("lib/modules/6/modules.builtin", "kernel/drivers/ata/d-e.ko\nkernel/fs/f.ko\n"),
        ];
        let files = files.map(|(path, content)| (path.to_owned(), content.as_bytes().to_vec()));
        let (packed, builtin) = sort(files.into());
        let (release, image, config) = ("6".to_owned(), Vec::new(), Vec::new());
        let kernel = Kernel { release, image, elf: None, config, packed, builtin };
        for (wanted, expected) in [
            ("drivers/net/*", &["a_b"][..]),
            ("drivers/net/**", &["a_b", "c"]),
            ("drivers/ata/**", &[]),
            ("d_e", &[]),
            ("c", &["c"]),
        ] {
            assert_eq!(kernel.resolve([&wanted.to_owned()]).unwrap(), expected, "{wanted}");
        }
        let error = kernel.resolve([&"drivers/usb/**".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no module drivers/usb/**"), "{error}");
    }

    #[test]
    fn what_is_needed_is_ordered() {
        let info = |depends: &[&str]| Modinfo {
            depends: depends.iter().map(|s| (*s).to_owned()).collect(),
            aliases: Vec::new(),
        };
        let infos = BTreeMap::from([
            ("a".to_owned(), info(&["b", "c"])),
            ("b".to_owned(), info(&["c"])),
            ("c".to_owned(), info(&[])),
        ]);
        let mut done = Vec::new();
        order(&infos, "a", &mut done);
        assert_eq!(done, ["c", "b", "a"]);
    }
}
