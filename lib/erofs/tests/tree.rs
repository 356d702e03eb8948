//! Trees written by [`erofs::Writer`], read back by erofs-utils.

mod fsck;

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use erofs::{BLOCK_SIZE, Error, Metadata, Options, Problem, Special, Writer};
use proptest::prelude::*;

fn writer(build_time: u64) -> Writer<Cursor<Vec<u8>>> {
    Writer::new(Cursor::new(Vec::new()), Options { uuid: [1; 16], build_time }).unwrap()
}

fn finish(writer: Writer<Cursor<Vec<u8>>>) -> Vec<u8> {
    let (image, summary) = writer.finish().unwrap();
    let image = image.into_inner();
    assert_eq!(image.len() as u64, summary.blocks * BLOCK_SIZE as u64);
    image
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|i| u8::try_from((i * 31 + i / 4096) % 251).unwrap()).collect()
}

#[test]
fn every_kind_of_inode_is_read_back() {
    let mut writer = writer(1000);
    writer.file("usr/bin/tool", Metadata::new(0o755, 1000), &bytes(10_000)[..]).unwrap();
    writer.file("usr/empty", Metadata { uid: 70_000, gid: 7, ..Metadata::new(0o640, 5) }, &b""[..]).unwrap();
    writer.symlink("/bin", Metadata::new(0o777, 1000), "usr/bin").unwrap();
    writer.symlink("long", Metadata::new(0o777, 1000), "x/".repeat(2047)).unwrap();
    writer.special("dev/null", Metadata::new(0o666, 1000), Special::Char { major: 1, minor: 3 }).unwrap();
    writer
        .special("dev/big", Metadata::new(0o660, 1000), Special::Block { major: 259, minor: 70_000 })
        .unwrap();
    writer.special("pipe", Metadata::new(0o600, 1000), Special::Fifo).unwrap();
    writer.hard_link("bin/again", "usr/bin/tool").unwrap();
    writer.directory("usr", Metadata::new(0o711, 1000)).unwrap();
    let folder = fsck::extract(&finish(writer));
    let at = |path: &str| folder.path().join("out").join(path);

    assert_eq!(fs::read(at("usr/bin/tool")).unwrap(), bytes(10_000));
    let (tool, again) = (at("usr/bin/tool").metadata().unwrap(), at("usr/bin/again").metadata().unwrap());
    assert_eq!((tool.size(), again.size(), tool.mtime()), (10_000, 10_000, 1000));
    let empty = at("usr/empty").metadata().unwrap();
    assert_eq!((empty.size(), empty.mode(), empty.mtime()), (0, 0o100_640, 5));
    assert_eq!(fs::read_link(at("bin")).unwrap(), Path::new("usr/bin"));
    assert_eq!(fs::read_link(at("long")).unwrap().as_os_str().len(), 4094);
    assert_eq!(at("usr").metadata().unwrap().permissions().mode() & 0o7777, 0o711);
    assert!(at("pipe").metadata().unwrap().file_type().is_fifo());
}

#[test]
fn large_directories_are_sorted_over_their_blocks() {
    let mut writer = writer(0);
    for n in 0..5000 {
        writer.file(format!("d/{n}-{}", "n".repeat(n % 200)), Metadata::new(0o644, 0), &b"x"[..]).unwrap();
    }
    let folder = fsck::extract(&finish(writer));
    assert_eq!(fs::read_dir(folder.path().join("out/d")).unwrap().count(), 5000);
}

#[test]
fn what_cannot_be_stored_is_an_error() {
    let meta = || Metadata::new(0o644, 0);
    let problem = |result: Result<(), Error>| match result {
        Err(Error::Entry { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    let mut writer = writer(0);
    writer.file("f", meta(), &b""[..]).unwrap();
    assert_eq!(problem(writer.directory("f", meta())), Problem::Exists);
    assert_eq!(problem(writer.directory("f/d", meta())), Problem::NotDirectory);
    assert_eq!(problem(writer.directory("a/../b", meta())), Problem::DotDot);
    assert_eq!(problem(writer.directory("n".repeat(256), meta())), Problem::Name);
    assert_eq!(problem(writer.directory("n/".repeat(2048), meta())), Problem::Name);
    assert_eq!(problem(writer.symlink("/", meta(), "x")), Problem::Root);
    assert_eq!(problem(writer.symlink("s", meta(), "")), Problem::Target);
    assert_eq!(problem(writer.hard_link("h", "none")), Problem::MissingTarget { target: "none".into() });
    assert_eq!(problem(writer.hard_link("h", "/")), Problem::TargetKind { target: "/".into() });
    let device = Special::Char { major: 1 << 12, minor: 0 };
    assert_eq!(problem(writer.special("c", meta(), device)), Problem::Device { major: 1 << 12, minor: 0 });
    writer.symlink("loop", meta(), "loop").unwrap();
    assert_eq!(problem(writer.directory("loop/d", meta())), Problem::SymlinkLoop);
    let xattrs = BTreeMap::from([(b"odd.name".to_vec(), Vec::new())]);
    assert!(matches!(problem(writer.directory("x", Metadata { xattrs, ..meta() })), Problem::Xattr { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(
        files in proptest::collection::btree_map("[a-c]{1,2}/[a-zA-Z!~ -]{1,40}", 0..20_000usize, 0..40),
        xattrs in proptest::collection::btree_map("user\\.[a-z]{1,9}", proptest::collection::vec(any::<u8>(), 0..3000), 0..3),
        build_time in 0..3i64,
    ) {
        let xattrs: BTreeMap<Vec<u8>, Vec<u8>> = xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect();
        let image = || {
            let mut writer = writer(1);
            for (path, size) in &files {
                let meta = Metadata { xattrs: xattrs.clone(), ..Metadata::new(0o644, build_time) };
                writer.file(path, meta, &bytes(*size)[..]).unwrap();
            }
            finish(writer)
        };
        let first = image();
        prop_assert!(first == image(), "the same input gave other bytes");
        let folder = fsck::extract(&first);
        for (path, size) in &files {
            let path = folder.path().join("out").join(path);
            prop_assert!(fs::read(&path).unwrap() == bytes(*size));
            prop_assert_eq!(path.metadata().unwrap().mtime(), build_time);
        }
    }
}
