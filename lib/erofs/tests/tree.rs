//! Trees written by [`erofs::Writer`], read back by others.

mod read;

use std::collections::BTreeMap;
use std::io::Cursor;

use erofs::{BLOCK_SIZE, Error, Metadata, Options, Problem, Special, Writer};
use proptest::prelude::*;
use read::read;

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
    writer.file("usr/bin/tool", Metadata::new(0o4755, 1000), &bytes(10_000)[..]).unwrap();
    let owned = Metadata { uid: 70_000, gid: 7, mtime_nsec: 9, ..Metadata::new(0o640, -5) };
    writer.file("usr/empty", owned, &b""[..]).unwrap();
    writer.symlink("/bin", Metadata::new(0o777, 1000), "usr/bin").unwrap();
    let target = "x/".repeat(2047);
    writer.symlink("long", Metadata::new(0o777, 1000), &target).unwrap();
    writer.special("dev/null", Metadata::new(0o666, 1000), Special::Char { major: 1, minor: 3 }).unwrap();
    writer
        .special("dev/big", Metadata::new(0o660, 1000), Special::Block { major: 259, minor: 70_000 })
        .unwrap();
    writer.special("pipe", Metadata::new(0o600, 1000), Special::Fifo).unwrap();
    writer.hard_link("bin/again", "usr/bin/tool").unwrap();
    writer.directory("usr", Metadata::new(0o711, 1000)).unwrap();
    let nodes = read(&finish(writer));

    let tool = &nodes["usr/bin/tool"];
    assert_eq!((tool.mode, tool.mtime, tool.links), (0o4755, (1000, 0), 2));
    assert!(tool.content == bytes(10_000) && nodes["usr/bin/again"] == *tool);
    let empty = &nodes["usr/empty"];
    assert_eq!((empty.mode, empty.mtime, empty.owner), (0o640, (-5, 9), (70_000, 7)));
    for (path, kind) in [
        ("usr", "directory"),
        ("usr/empty", "file"),
        ("bin", "link usr/bin"),
        ("long", &format!("link {target}")),
        ("dev/null", "char 1:3"),
        ("dev/big", "block 259:70000"),
        ("pipe", "fifo"),
    ] {
        assert_eq!(nodes[path].kind, kind);
    }
    assert_eq!((nodes["usr"].mode, nodes["usr"].links, nodes[""].links), (0o711, 3, 4));
    assert_eq!(nodes.len(), 12);
}

#[test]
fn large_directories_are_sorted_over_their_blocks() {
    let mut writer = writer(0);
    let paths: Vec<String> = (0..5000).map(|n| format!("d/{n}-{}", "n".repeat(n % 200))).collect();
    for path in &paths {
        writer.file(path, Metadata::new(0o644, 0), path.as_bytes()).unwrap();
    }
    let nodes = read(&finish(writer));
    assert_eq!(nodes.len(), 5002);
    paths.iter().for_each(|path| assert_eq!(nodes[path].content, path.as_bytes()));
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
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(
        files in proptest::collection::btree_map("[a-c]{1,2}/[a-zA-Z!~ -]{1,40}", 0..20_000usize, 0..40),
        xattrs in proptest::collection::btree_map(
            "(user|trusted|security)\\.[a-z]{1,9}", proptest::collection::vec(any::<u8>(), 0..3000), 0..4),
        mtime in 0..3i64,
    ) {
        let xattrs: BTreeMap<Vec<u8>, Vec<u8>> = xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect();
        let image = || {
            let mut writer = writer(1);
            for (path, size) in &files {
                let meta = Metadata { xattrs: xattrs.clone(), ..Metadata::new(0o644, mtime) };
                writer.file(path, meta, &bytes(*size)[..]).unwrap();
            }
            finish(writer)
        };
        let first = image();
        prop_assert!(first == image(), "the same input gave other bytes");
        let nodes = read(&first);
        prop_assert_eq!(nodes.values().filter(|node| node.kind == "file").count(), files.len());
        for (path, size) in &files {
            let node = &nodes[path];
            prop_assert!(node.content == bytes(*size) && node.xattrs == xattrs);
            prop_assert_eq!(node.mtime, (mtime, 0));
        }
    }
}
