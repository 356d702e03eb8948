//! Our trees against cryptsetup's `veritysetup`, the reference.

use std::fs;
use std::path::Path;
use std::process::Command;

use verity::{BLOCK_SIZE, Superblock, tree};

const UUID: [u8; 16] = [0x5c, 0x7e, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
const UUID_TEXT: &str = "5c7e0001-0203-0405-0607-08090a0b0c0d";

fn veritysetup(arguments: &[&str], data: &Path, hash: &Path, more: &str) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("veritysetup");
    command.env("PATH", path).args(arguments).arg(data).arg(hash);
    if !more.is_empty() {
        command.arg(more);
    }
    let output = command.output().expect("veritysetup does not run: install cryptsetup-bin");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn trees_are_veritysetups_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (data, theirs, ours) =
        (folder.path().join("data"), folder.path().join("theirs"), folder.path().join("ours"));
    for blocks in [1, 2, 127, 128, 129, 1000, 128 * 128, 128 * 128 + 1] {
        let bytes: Vec<u8> = (0..blocks * BLOCK_SIZE).map(|i| u8::try_from(i / 9 % 256).unwrap()).collect();
        fs::write(&data, &bytes).unwrap();
        fs::write(&theirs, []).unwrap();
        let uuid = format!("--uuid={UUID_TEXT}");
        let said = veritysetup(&["format", "--salt=", &uuid], &data, &theirs, "");
        let tree = tree(&bytes[..], UUID).unwrap();
        let root = tree.root_hash.to_string();
        assert!(said.contains(&root), "{blocks} blocks: {root} is not in {said}");

        let mut expected = fs::read(&theirs).unwrap();
        expected.resize(expected.len().next_multiple_of(BLOCK_SIZE), 0);
        assert_eq!(
            Superblock::parse(&expected).unwrap(),
            Superblock { uuid: UUID, data_blocks: blocks as u64 }
        );
        assert!(tree.image == expected, "{blocks} blocks: hash devices differ");
        fs::write(&ours, &tree.image).unwrap();
        veritysetup(&["verify"], &data, &ours, &root);
    }
}
