//! The `inspect` command: what an artifact or a disk holds.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use gpt::{Guid, names};
use serde::Serialize;
use sha2::{Digest, Sha256};
use slots::{Recorder, Slot};
use verity::{BLOCK_SIZE, RootHash, Superblock};

use crate::build::BuildManifest;
use crate::disk::Disk;
use crate::esp::Esp;
use crate::{slot, uki};

/// The newest lines of the recorder that are shown.
const RECORDS: usize = 100;
/// Where an EROFS superblock begins, and what it begins with.
const EROFS: (usize, [u8; 4]) = (1024, 0xe0f5_e1e2_u32.to_le_bytes());

/// Arguments of `inspect`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A disk image, a unified kernel image, root.erofs, root.verity or manifest.json
    artifact: PathBuf,
}

/// What was found.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Found {
    Disk(DiskContent),
    KernelImage {
        sections: BTreeMap<String, usize>,
        cmdline: String,
        os_release: String,
        root_hash: Option<String>,
    },
    Root {
        uuid: String,
        size: u64,
        root_hash: String,
    },
    HashTree {
        uuid: String,
        data_blocks: u64,
        root_hash: String,
    },
    Manifest(BuildManifest),
}

#[derive(Debug, Serialize)]
struct DiskContent {
    id: String,
    partitions: Vec<PartitionContent>,
    slots: BTreeMap<String, SlotContent>,
    recorder: Option<RecorderContent>,
}

#[derive(Debug, Serialize)]
struct PartitionContent {
    number: usize,
    name: String,
    id: String,
    start: u64,
    size: u64,
}

#[derive(Debug, Default, Serialize)]
struct SlotContent {
    root_hash: Option<String>,
    /// File names of the kernel images that boot it, with their counters.
    kernel_images: Vec<String>,
    version: Option<String>,
    /// Whether the hash tree in the slot is the one that its PARTUUIDs promise.
    intact: bool,
}

#[derive(Debug, Serialize)]
struct RecorderContent {
    boots: u64,
    slots: BTreeMap<String, Record>,
    lines: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Record {
    root_hash: Option<String>,
    proven: bool,
    failures: u32,
}

/// Runs the command.
#[expect(clippy::print_stdout, reason = "a command's result")]
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let found =
        look(&args.artifact).with_context(|| format!("cannot inspect {}", args.artifact.display()))?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&found)?),
        false => print!("{found}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn look(path: &Path) -> Result<Found> {
    let mut head = Vec::new();
    File::open(path)?.take(4096).read_to_end(&mut head)?;
    if head.starts_with(b"MZ") {
        return look_at_uki(&fs::read(path)?);
    }
    if head.starts_with(b"{") {
        return Ok(Found::Manifest(plan::read_json(path)?));
    }
    if head.get(512..520) == Some(b"EFI PART") {
        return look_at_disk(&mut Disk::open(path, false)?).map(Found::Disk);
    }
    if Superblock::parse(&head).is_ok() {
        let tree = fs::read(path)?;
        let Superblock { uuid, data_blocks } = Superblock::parse(&tree)?;
        return Ok(Found::HashTree {
            uuid: uuid_text(uuid),
            data_blocks,
            root_hash: top_hash(&tree)?.to_string(),
        });
    }
    if head.get(EROFS.0..EROFS.0 + 4) == Some(&EROFS.1) {
        let uuid = head.get(EROFS.0 + 48..).and_then(|rest| rest.first_chunk().copied()).unwrap_or_default();
        let root_hash = verity::tree(BufReader::new(File::open(path)?), [0; 16])?.root_hash.to_string();
        return Ok(Found::Root { uuid: uuid_text(uuid), size: fs::metadata(path)?.len(), root_hash });
    }
    bail!("it is none of disk image, kernel image, root, hash tree and manifest")
}

fn look_at_uki(image: &[u8]) -> Result<Found> {
    let sections = uki::sections(image)?;
    let text =
        |name| sections.get(name).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
    Ok(Found::KernelImage {
        cmdline: text(".cmdline"),
        os_release: text(".osrel"),
        root_hash: slot::uki_root_hash(image).ok().map(|hash| hash.to_string()),
        sections: sections.iter().map(|(name, content)| (name.clone(), content.len())).collect(),
    })
}

fn look_at_disk(disk: &mut Disk) -> Result<DiskContent> {
    let table = disk.table.clone();
    let partition = |(number, p): (usize, &gpt::Partition)| PartitionContent {
        number,
        name: p.name.clone(),
        id: p.id.to_string(),
        start: table.start_of(p),
        size: table.size_of(p),
    };
    let installed = slot::installed(&Esp::read(disk.read(names::ESP, None)?)?);
    let mut slots = BTreeMap::new();
    for each in [Slot::A, Slot::B] {
        let Some(root_hash) = slot::root_hash(&table, each) else { continue };
        let images: Vec<_> = installed.iter().filter(|image| image.root_hash == Some(root_hash)).collect();
        let intact = top_hash(&disk.read(slot::partitions(each).1, Some(2 * BLOCK_SIZE as u64))?);
        let used = intact.is_ok() || !images.is_empty();
        let content = SlotContent {
            root_hash: used.then(|| root_hash.to_string()),
            version: images.first().map(|image| image.name.version().to_owned()),
            kernel_images: images.iter().map(|image| image.name.to_string()).collect(),
            intact: intact.is_ok_and(|found| found == root_hash),
        };
        slots.insert(each.to_string(), content);
    }
    let recorder = match table.find(names::RECORDER) {
        Some(_) => Some(look_at_recorder(disk.read(names::RECORDER, None)?)?),
        None => None,
    };
    Ok(DiskContent {
        id: table.disk().to_string(),
        partitions: table.partitions().map(partition).collect(),
        slots,
        recorder,
    })
}

fn look_at_recorder(bytes: Vec<u8>) -> Result<RecorderContent> {
    let mut recorder = Recorder::open(Cursor::new(bytes)).context("cannot read the recorder")?;
    let record = |slot: Slot| {
        let record = recorder.slots().get(slot);
        let root_hash = record.root_hash.map(|hash| hash.to_string());
        (slot.to_string(), Record { root_hash, proven: record.proven, failures: record.failures })
    };
    let (boots, slots) = (recorder.slots().boots(), [Slot::A, Slot::B].map(record).into());
    let line = |entry: slots::Entry| {
        let milliseconds = entry.since_boot_ns / 1_000_000;
        format!("boot {} {:>4}.{:03} {}", entry.boot, milliseconds / 1000, milliseconds % 1000, entry.text)
    };
    let lines = recorder.tail(RECORDS).context("cannot read the recorder")?.into_iter().map(line).collect();
    Ok(RecorderContent { boots, slots, lines })
}

/// The root hash of a hash tree: the hash of its top block, which follows the superblock. (A root of one block has a
/// tree of none; ours are larger.)
fn top_hash(tree: &[u8]) -> Result<RootHash> {
    Superblock::parse(tree)?;
    let top = tree.get(BLOCK_SIZE..2 * BLOCK_SIZE).context("the hash tree has no top block")?;
    Ok(RootHash::from_bytes(Sha256::digest(top).into()))
}

fn uuid_text(bytes: [u8; 16]) -> String {
    Guid::from_u128(u128::from_be_bytes(bytes)).to_string()
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(disk) => disk.fmt(f),
            Self::KernelImage { sections, cmdline, os_release, root_hash } => {
                writeln!(f, "unified kernel image, root hash {}", root_hash.as_deref().unwrap_or("absent"))?;
                writeln!(f, "  command line: {cmdline}")?;
                os_release.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
                sections.iter().try_for_each(|(name, size)| writeln!(f, "  {size:>12} {name}"))
            }
            Self::Root { uuid, size, root_hash } => {
                writeln!(f, "root file system, EROFS {uuid}, {size} bytes\n  root hash {root_hash}")
            }
            Self::HashTree { uuid, data_blocks, root_hash } => {
                writeln!(f, "hash tree {uuid} over {data_blocks} blocks\n  root hash {root_hash}")
            }
            Self::Manifest(manifest) => {
                writeln!(f, "build of Holdfast {}, kernel {}", manifest.version, manifest.kernel)?;
                writeln!(f, "  root hash {}", manifest.root_hash)?;
                let artifacts = manifest.artifacts.iter();
                artifacts
                    .map(|(name, a)| (a.size, name))
                    .try_for_each(|(size, name)| writeln!(f, "  {size:>12} {name}"))?;
                manifest.packages.iter().try_for_each(|(name, version)| writeln!(f, "  {name} {version}"))
            }
        }
    }
}

impl fmt::Display for DiskContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "disk {}", self.id)?;
        for PartitionContent { number, name, id, start, size } in &self.partitions {
            writeln!(f, "  {number} {name:<10} {id} {:>8} KiB at {:>8} KiB", size / 1024, start / 1024)?;
        }
        for (name, slot) in &self.slots {
            let Some(root_hash) = &slot.root_hash else {
                writeln!(f, "slot {name}: empty")?;
                continue;
            };
            let version = slot.version.as_deref().unwrap_or("that no kernel image boots");
            writeln!(
                f,
                "slot {name}: Holdfast {version}, {}",
                if slot.intact { "hash tree intact" } else { "DAMAGED" }
            )?;
            writeln!(f, "  root hash {root_hash}")?;
            slot.kernel_images.iter().try_for_each(|image| writeln!(f, "  {image}"))?;
        }
        let Some(recorder) = &self.recorder else { return Ok(()) };
        writeln!(f, "recorder: {} boots", recorder.boots)?;
        for (name, record) in &recorder.slots {
            let root_hash = record.root_hash.as_deref().unwrap_or("never booted");
            let proven = if record.proven { "proven" } else { "not proven" };
            writeln!(f, "  slot {name}: {proven}, {} failures, {root_hash}", record.failures)?;
        }
        recorder.lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
