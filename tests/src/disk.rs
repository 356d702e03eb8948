//! A disk image that a test may write to, boot again and damage.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{Build, image_build};
use crate::vm::directory;

/// EROFS puts the data of a file at multiples of this.
const BLOCK: usize = 4096;

/// A disk image of this test's own. It is removed with this value unless the test fails.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

/// An ISO 9660 disk with UDF beside it and these files (paths and contents), as clouds attach them.
pub fn iso(label: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = directory().join(format!("iso-{label}"));
    for (path, content) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory"))
            .expect("directories can be made");
        std::fs::write(path, content).expect("files can be written");
    }
    iso_of(&folder, label)
}

/// An ISO 9660 disk with what is in a folder.
pub fn iso_of(folder: &Path, label: &str) -> PathBuf {
    let image = folder.with_extension("iso");
    let mut command = Command::new("genisoimage");
    command.args(["-quiet", "-udf", "-r", "-J", "-joliet-long", "-V", label, "-o"]);
    command.arg(&image).arg(folder);
    assert!(command.status().expect("genisoimage starts").success(), "an ISO image can be made");
    image
}

impl Disk {
    /// A copy of the disk image of `build`.
    pub fn of(build: &Build) -> Self {
        let path = directory().join("disk.raw");
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always").args([&build.out().join("holdfast.raw"), &path]);
        assert!(copy.status().expect("cp starts").success(), "the disk image can be copied");
        Self { path }
    }

    /// The image's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts `build` into a slot, to be tried so many times (0: not counted).
    pub fn install(&self, slot: &str, build: &Build, tries: u32) {
        let (tries, from) = (tries.to_string(), build.out().display().to_string());
        let disk = self.path.display().to_string();
        image_build(&["install", "--slot", slot, "--from", &from, "--tries", &tries, &disk]);
    }

    /// Flips one bit in the first block of `file`, where it lies in the root of a slot.
    pub fn flip_a_bit_of(&self, file: &Path, slot: &str) {
        let content = std::fs::read(file).expect("the file can be read");
        self.flip_a_bit_in(&content, &format!("root-{slot}"));
    }

    /// Flips one bit in the first block of a file with this content, where it lies in a partition.
    pub fn flip_a_bit_in(&self, content: &[u8], partition: &str) {
        let start = content.get(..16 * BLOCK).expect("the file is no small one");
        let (first, length) = self.partition(partition);
        let at = self.find(start, first, length).expect("the partition holds the file") + 100;
        let flipped: Vec<u8> = self.read(at, 1).into_iter().map(|byte| byte ^ 1).collect();
        self.write(at, &flipped);
    }

    /// The offset of the block between `first` and `first + length` at which `content` begins.
    fn find(&self, content: &[u8], first: u64, length: u64) -> Option<u64> {
        let image = File::open(&self.path).expect("the disk image can be opened");
        let mut blocks = (first..first + length).step_by(BLOCK);
        let (mut block, mut whole) = (vec![0; BLOCK], vec![0; content.len()]);
        blocks.find(|at| {
            image.read_exact_at(&mut block, *at).expect("the disk image can be read");
            content.starts_with(&block) && image.read_exact_at(&mut whole, *at).is_ok() && whole == content
        })
    }

    /// Writes `content` at `offset`, growing the image when it must.
    pub fn write(&self, offset: u64, content: &[u8]) {
        let image = File::options().write(true).open(&self.path).expect("the disk image can be opened");
        image.write_all_at(content, offset).expect("the disk image can be written");
    }

    /// The bytes at `offset`.
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let image = File::open(&self.path).expect("the disk image can be opened");
        let mut content = vec![0; length];
        image.read_exact_at(&mut content, offset).expect("the disk image can be read");
        content
    }

    /// Start and length in bytes of the GPT partition with this name.
    pub fn partition(&self, name: &str) -> (u64, u64) {
        // UEFI 2.10, section 5.3: the header at LBA 1 names the table; an entry has its name at 56, in UTF-16.
        let header = self.read(512, 512);
        let number = |bytes: &[u8], at: usize| {
            u64::from_le_bytes(
                bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).expect("inside the block"),
            )
        };
        let table = self.read(number(&header, 72) * 512, 128 * 128);
        let wanted: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let entry = table.chunks(128).find(|entry| entry.get(56..).is_some_and(|n| n.starts_with(&wanted)));
        let entry = entry.unwrap_or_else(|| panic!("the disk has no partition '{name}'"));
        let (first, last) = (number(entry, 32), number(entry, 40));
        (first * 512, (last + 1 - first) * 512)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::fs::remove_file(&self.path).expect("the disk image can be removed");
        }
    }
}
