//! The `install` command: another build into a slot of a disk, from outside.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use gpt::{Guid, names};
use slots::{Counter, Slot, UkiName};
use verity::RootHash;

use crate::build::BuildManifest;
use crate::disk::Disk;
use crate::esp::Esp;
use crate::{hash, slot};

/// Arguments of `install`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The slot to fill
    #[arg(long, value_parser = parse_slot, value_name = "a|b")]
    slot: Slot,
    /// The build to install
    #[arg(long, value_name = "OUTDIR")]
    from: PathBuf,
    /// How often it may be booted before it has to have proven itself; 0: it counts as proven
    #[arg(long, value_name = "N", default_value_t = slots::MAX_FAILURES)]
    tries: u32,
    /// The disk: a raw image, or a block device
    disk: PathBuf,
}

fn parse_slot(text: &str) -> Result<Slot, String> {
    match text {
        "a" => Ok(Slot::A),
        "b" => Ok(Slot::B),
        _ => Err("it is a or b".to_owned()),
    }
}

/// A build whose artifacts are what its manifest says.
struct Build {
    version: String,
    root_hash: RootHash,
    root: PathBuf,
    verity: PathBuf,
    uki: Vec<u8>,
}

/// Runs the command.
#[expect(clippy::print_stdout, reason = "a command's result")]
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let build = read_build(&args.from)?;
    let counter = (args.tries > 0).then_some(Counter { left: args.tries, done: 0 });
    let name = UkiName::new(&build.version, counter)?;
    let mut disk = Disk::open(&args.disk, true)?;
    install(&mut disk, args.slot, &build, &name)
        .with_context(|| format!("cannot install into {}", args.disk.display()))?;
    println!("slot {} of {}: Holdfast {} as {name}", args.slot, args.disk.display(), build.version);
    Ok(ExitCode::SUCCESS)
}

/// Reads a build's output directory and compares it with its manifest.
fn read_build(folder: &Path) -> Result<Build> {
    let path = folder.join("manifest.json");
    let manifest: BuildManifest = plan::read_json(&path).context("run 'image-build build' first")?;
    let artifact = |name: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        let expected = manifest.artifacts.get(name).with_context(|| format!("the build made no {name}"))?;
        let found = hash::sha256_file(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(found == expected.sha256, "{} is not what manifest.json says: build again", path.display());
        Ok(path)
    };
    let root_hash = manifest.root_hash.parse()?;
    let uki = fs::read(artifact("holdfast.efi")?)?;
    ensure!(slot::uki_root_hash(&uki)? == root_hash, "holdfast.efi boots another root than root.erofs");
    Ok(Build {
        root: artifact("root.erofs")?,
        verity: artifact("root.verity")?,
        version: manifest.version,
        root_hash,
        uki,
    })
}

/// Fills the slot: first no kernel image leads to it any more, then it is written, then the new one leads to it.
fn install(disk: &mut Disk, target: Slot, build: &Build, name: &UkiName) -> Result<()> {
    let (root, verity) = slot::partitions(target);
    let other = slot::root_hash(&disk.table, target.other());
    let mut esp = Esp::read(disk.read(names::ESP, None)?)?;
    let esp_size = disk.table.size_of(disk.partition(names::ESP)?);
    let (kept, removed): (Vec<_>, Vec<_>) =
        slot::installed(&esp).into_iter().partition(|image| other.is_some() && image.root_hash == other);
    if !kept.iter().any(|image| image.name.counter().is_none()) {
        bail!(
            "slot {} holds no proven system, so slot {target} may be the only one: use --slot {}",
            target.other(),
            target.other()
        );
    }
    if kept.iter().any(|image| image.name.version() == build.version) {
        bail!(
            "slot {} holds version {} already: give this build another --version",
            target.other(),
            build.version
        );
    }
    for (partition, path) in [(root, &build.root), (verity, &build.verity)] {
        let (room, size) = (disk.table.size_of(disk.partition(partition)?), fs::metadata(path)?.len());
        ensure!(
            size <= room,
            "{} of {size} bytes does not fit in {partition} of {room} bytes",
            path.display()
        );
    }
    for image in &removed {
        esp.remove_image(&image.name.to_string());
    }
    let without = esp.to_bytes(esp_size)?;
    esp.add_image(&name.to_string(), &build.uki);
    let with = esp.to_bytes(esp_size)?;

    disk.write(names::ESP, &without[..])?;
    disk.sync()?;
    disk.write(root, File::open(&build.root)?)?;
    disk.write(verity, File::open(&build.verity)?)?;
    disk.sync()?;
    let (root_id, verity_id) = Guid::halves(build.root_hash.as_bytes());
    disk.table.set_id(root, root_id)?;
    disk.table.set_id(verity, verity_id)?;
    disk.write_table()?;
    disk.write(names::ESP, &with[..])?;
    disk.sync()
}

#[cfg(test)]
mod tests {
    use gpt::{Table, types};

    use super::*;
    use crate::disk::SECTOR;
    use crate::uki::tests::image_with_cmdline;

    const MIB: u64 = 1 << 20;

    fn build(folder: &Path, version: &str, digit: u8) -> Build {
        let root_hash = RootHash::from_bytes([digit; 32]);
        let (root, verity) = (folder.join(format!("root{digit}")), folder.join(format!("verity{digit}")));
        fs::write(&root, vec![digit; 8192]).unwrap();
        fs::write(&verity, vec![digit; 4096]).unwrap();
        let uki = image_with_cmdline(&format!("quiet holdfast.root={root_hash}"));
        Build { version: version.to_owned(), root_hash, root, verity, uki }
    }

    /// A disk whose slot a holds version 1.
    fn disk(folder: &Path) -> (Disk, PathBuf) {
        let path = folder.join("disk");
        let first = build(folder, "1", 1);
        let (root, verity) = Guid::halves(first.root_hash.as_bytes());
        let mut table = Table::new(Guid::from_u128(1), 90 * MIB, SECTOR).unwrap();
        for (name, kind, id, size) in [
            (names::ESP, types::ESP, Guid::from_u128(2), 70 * MIB),
            (names::ROOT_A, types::ROOT, root, MIB),
            (names::VERITY_A, types::ROOT_VERITY, verity, MIB),
            (names::ROOT_B, types::ROOT, Guid::from_u128(3), MIB),
            (names::VERITY_B, types::ROOT_VERITY, Guid::from_u128(4), MIB),
        ] {
            table.append(kind, id, name, Some(size)).unwrap();
        }
        let mut disk = Disk::create(&path, 90 * MIB, table).unwrap();
        let mut esp = Esp::new(1, b"loader");
        esp.add_image("holdfast_1.efi", &first.uki);
        disk.write(names::ESP, &esp.to_bytes(70 * MIB).unwrap()[..]).unwrap();
        (disk, path)
    }

    fn images(path: &Path) -> Vec<String> {
        let mut disk = Disk::open(path, false).unwrap();
        let esp = Esp::read(disk.read(names::ESP, None).unwrap()).unwrap();
        slot::installed(&esp).iter().map(|image| image.name.to_string()).collect()
    }

    fn install_as(disk: &mut Disk, target: Slot, build: &Build, counter: Option<Counter>) -> Result<()> {
        install(disk, target, build, &UkiName::new(&build.version, counter).unwrap())
    }

    #[test]
    fn a_slot_is_filled_and_what_was_in_it_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (mut disk, path) = disk(folder.path());
        let trial = Some(Counter { left: 3, done: 0 });
        install_as(&mut disk, Slot::B, &build(folder.path(), "2", 2), trial).unwrap();
        assert_eq!(images(&path), ["holdfast_1.efi", "holdfast_2+3.efi"]);
        install_as(&mut disk, Slot::B, &build(folder.path(), "3", 3), trial).unwrap();
        assert_eq!(images(&path), ["holdfast_1.efi", "holdfast_3+3.efi"]);
        let mut disk = Disk::open(&path, false).unwrap();
        assert_eq!(slot::root_hash(&disk.table, Slot::B), Some(RootHash::from_bytes([3; 32])));
        assert_eq!(disk.read(names::ROOT_B, Some(8192)).unwrap(), vec![3; 8192]);
    }

    #[test]
    fn the_only_proven_system_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (mut disk, path) = disk(folder.path());
        let (second, third) = (build(folder.path(), "2", 2), build(folder.path(), "3", 3));
        let error = install_as(&mut disk, Slot::A, &second, None).unwrap_err().to_string();
        assert!(error.contains("--slot b"), "{error}");
        install_as(&mut disk, Slot::B, &second, Some(Counter { left: 3, done: 0 })).unwrap();
        install_as(&mut disk, Slot::A, &third, None).unwrap_err();
        assert_eq!(images(&path), ["holdfast_1.efi", "holdfast_2+3.efi"]);
        install_as(&mut disk, Slot::B, &second, None).unwrap();
        install_as(&mut disk, Slot::A, &third, None).unwrap();
        assert_eq!(images(&path), ["holdfast_2.efi", "holdfast_3.efi"]);
    }

    #[test]
    fn two_builds_of_one_version_and_too_large_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (mut disk, path) = disk(folder.path());
        let error =
            install_as(&mut disk, Slot::B, &build(folder.path(), "1", 2), None).unwrap_err().to_string();
        assert!(error.contains("version 1 already"), "{error}");
        let large = build(folder.path(), "2", 2);
        fs::write(&large.root, vec![2; 2 << 20]).unwrap();
        let error = install_as(&mut disk, Slot::B, &large, None).unwrap_err().to_string();
        assert!(error.contains("does not fit in root-b"), "{error}");
        assert_eq!(images(&path), ["holdfast_1.efi"]);
    }
}
