//! Layers written by [`erofs::layer`], read back by others.

mod read;

use std::collections::BTreeMap;
use std::io::Cursor;

use erofs::{Error, Options, Problem, layer};
use proptest::prelude::*;
use read::{Node, read};
use tar::{Builder, EntryType, Header};

/// An entry: path, type, link target or content.
type Entry<'a> = (&'a str, EntryType, &'a str);

const FILE: EntryType = EntryType::Regular;
const DIRECTORY: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Link;
const SYMLINK: EntryType = EntryType::Symlink;

/// A tar stream; paths go in as they are, even bad ones.
fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for &(path, kind, text) in entries {
        let linked = matches!(kind, LINK | SYMLINK);
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if linked {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_entry_type(kind);
        header.set_mode(0o750);
        header.set_uid(33);
        header.set_gid(34);
        header.set_mtime(77);
        let content = if kind == FILE || kind == EntryType::GNUSparse { text.as_bytes() } else { &[][..] };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn convert(tar: &[u8]) -> Result<BTreeMap<String, Node>, Error> {
    let (image, _) = layer(tar, Cursor::new(Vec::new()), Options::default())?;
    Ok(read(&image.into_inner()))
}

/// What the layer holds: paths and kinds, the root left out.
fn kinds(entries: &[Entry<'_>]) -> Vec<(String, String)> {
    let nodes = convert(&tar(entries)).unwrap();
    nodes.into_iter().skip(1).map(|(path, node)| (path, node.kind)).collect()
}

fn problem(entries: &[Entry<'_>]) -> Problem {
    match convert(&tar(entries)) {
        Err(Error::Entry { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

fn is_opaque(node: &Node) -> bool {
    node.xattrs.get(&b"trusted.overlay.opaque"[..]).is_some_and(|value| value == b"y")
}

#[test]
fn entries_keep_what_they_are() {
    let nodes = convert(&tar(&[
        ("./", DIRECTORY, ""),
        ("a/b/file", FILE, "content"),
        ("a/again", LINK, "./a/b/file"),
        ("a/sym", SYMLINK, "/anywhere/../at/all"),
        ("a/fifo", EntryType::Fifo, ""),
    ]))
    .unwrap();
    let file = &nodes["a/b/file"];
    assert_eq!((file.content.as_slice(), file.mode, file.owner), (&b"content"[..], 0o750, (33, 34)));
    assert_eq!((file.mtime, file.links), ((77, 0), 2));
    assert_eq!(nodes["a/sym"].kind, "link /anywhere/../at/all");
    assert_eq!((nodes["a"].mode, nodes["a"].owner, nodes["a"].mtime), (0o755, (0, 0), (0, 0)));
    assert_eq!((nodes[""].mode, nodes[""].owner), (0o750, (33, 34)));
    assert_eq!(nodes["a/fifo"].kind, "fifo");
}

#[test]
fn whiteouts_become_overlayfs_marks() {
    let entries = [
        ("etc/.wh.gone", FILE, ""),
        ("opaque/.wh..wh..opq", FILE, ""),
        ("opaque/new", FILE, "n"),
        ("opaque", DIRECTORY, ""),
        (".wh..wh.plnk/1.2", FILE, "aufs"),
    ];
    let nodes = convert(&tar(&entries)).unwrap();
    assert_eq!(nodes["etc/gone"].kind, "char 0:0");
    assert!(is_opaque(&nodes["opaque"]) && !is_opaque(&nodes["etc"]));
    assert_eq!(nodes["opaque"].mode, 0o750);
    assert_eq!(nodes.len(), 5);
}

#[test]
fn whiteouts_leave_their_own_layer_alone() {
    let before = [(".wh.f", FILE, ""), ("f", FILE, "x"), (".wh.d", FILE, ""), ("d/f", FILE, "")];
    let after = [("f", FILE, "x"), (".wh.f", FILE, ""), ("d/f", FILE, ""), (".wh.d", FILE, "")];
    for entries in [before, after] {
        let nodes = convert(&tar(&entries)).unwrap();
        assert_eq!((nodes["f"].kind.as_str(), nodes["d"].kind.as_str()), ("file", "directory"));
        assert!(is_opaque(&nodes["d"]) && nodes.contains_key("d/f"));
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    let entries = [
        ("a", FILE, "1"),
        ("a", FILE, "22"),
        ("d/x", FILE, ""),
        ("d", SYMLINK, "a"),
        ("s", SYMLINK, "a"),
        ("s", DIRECTORY, ""),
        ("k/x", FILE, ""),
        ("k", DIRECTORY, ""),
    ];
    let nodes = convert(&tar(&entries)).unwrap();
    assert_eq!(nodes["a"].content, b"22");
    let seen: Vec<(&str, &str)> =
        nodes.iter().map(|(path, node)| (path.as_str(), node.kind.as_str())).collect();
    let expected = [("", "directory"), ("a", "file"), ("d", "link a"), ("k", "directory"), ("k/x", "file")];
    assert_eq!(seen[..5], expected);
    assert_eq!(seen[5..], [("s", "directory")]);
}

#[test]
fn nothing_leads_out_of_a_layer() {
    assert_eq!(problem(&[("../f", FILE, "")]), Problem::DotDot);
    assert_eq!(problem(&[("a/../../f", FILE, "")]), Problem::DotDot);
    assert_eq!(problem(&[("l", LINK, "../../etc/passwd")]), Problem::DotDot);
    let target = "/etc/passwd".to_owned();
    assert_eq!(problem(&[("l", LINK, "/etc/passwd")]), Problem::MissingTarget { target });
    assert_eq!(problem(&[("a", SYMLINK, "a"), ("a/f", FILE, "")]), Problem::SymlinkLoop);
    assert_eq!(problem(&[("a", FILE, ""), ("a/f", FILE, "")]), Problem::NotDirectory);
    assert_eq!(problem(&[(".wh.", FILE, "")]), Problem::Whiteout);
    assert_eq!(problem(&[("d/.wh...", FILE, "")]), Problem::Whiteout);
    assert_eq!(problem(&[(".wh.d/f", FILE, "")]), Problem::Whiteout);
    assert_eq!(problem(&[("/", SYMLINK, "x")]), Problem::Root);
    let absolute = kinds(&[("/abs", FILE, "")]);
    assert_eq!(absolute, [("abs".to_owned(), "file".to_owned())]);
    let through = kinds(&[("up", SYMLINK, "../../../etc"), ("up/f", FILE, "")]);
    assert_eq!(through.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["etc", "etc/f", "up"]);
}

#[test]
fn a_layer_can_be_named_when_it_is_known() {
    let tar = tar(&[("etc", DIRECTORY, ""), ("etc/file", FILE, "content")]);
    let write = |uuid| {
        let options = Options { uuid, build_time: 0 };
        erofs::layer(&tar[..], Cursor::new(Vec::new()), options).unwrap().0
    };
    let mut named = write([0; 16]);
    erofs::set_uuid(&mut named, [7; 16]).unwrap();
    assert!(named.into_inner() == write([7; 16]).into_inner());
}

#[test]
fn long_names_come_as_gnu_or_pax() {
    let long = format!("{}/{}", "d".repeat(180), "f".repeat(200));
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(1);
    builder.append_data(&mut header, &long, &b"g"[..]).unwrap();
    header.set_entry_type(SYMLINK);
    header.set_size(0);
    builder.append_link(&mut header, "s", format!("/{long}")).unwrap();
    let records = [
        ("path", long.replace('d', "p").into_bytes()),
        ("mtime", b"12.5".to_vec()),
        ("uid", b"3000000".to_vec()),
        ("SCHILY.xattr.security.capability", vec![1, 0, 0, 2, b'\n']),
        ("SCHILY.xattr.com.apple.quarantine", b"mac".to_vec()),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/elsewhere".to_vec()),
    ];
    builder.append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_slice()))).unwrap();
    header.set_entry_type(FILE);
    header.set_size(3);
    builder.append_data(&mut header, "short", &b"pax"[..]).unwrap();
    let nodes = convert(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(nodes[&long].content, b"g");
    assert_eq!(nodes["s"].kind, format!("link /{long}"));
    let pax = &nodes[&long.replace('d', "p")];
    assert_eq!((pax.content.as_slice(), pax.mtime, pax.owner.0), (&b"pax"[..], (12, 500_000_000), 3_000_000));
    assert_eq!(pax.xattrs, BTreeMap::from([(b"security.capability".to_vec(), vec![1, 0, 0, 2, b'\n'])]));
}

#[test]
fn damaged_streams_are_errors() {
    let good = tar(&[("f", FILE, "content")]);
    assert!(matches!(convert(&good[..100]), Err(Error::Tar { .. })));
    assert!(matches!(convert(&good[..515]), Err(Error::Read { .. })));
    let mut bad = good.clone();
    bad[0] = b'g';
    assert!(matches!(convert(&bad), Err(Error::Tar { reason, .. }) if reason.contains("checksum")));
    assert!(matches!(convert(&tar(&[("f", EntryType::GNUSparse, "")])), Err(Error::Tar { .. })));
    assert_eq!(convert(&[]).unwrap().len(), 1);
}

/// Some entry, with names that meet each other.
fn any_entry() -> impl Strategy<Value = (String, EntryType, String)> {
    let path =
        "(/|\\./|\\.\\./)?([a-c]|\\.wh\\.[a-c]|\\.wh\\.\\.wh\\.\\.opq)(/([a-c]|\\.wh\\.[a-c]|\\.)){0,3}/?";
    let kinds = [FILE, DIRECTORY, LINK, SYMLINK, EntryType::Char, EntryType::Fifo];
    (path, proptest::sample::select(kinds.to_vec()), "(/|\\.\\./)?[a-c](/[a-c]){0,2}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_entries_give_a_sound_image_or_an_error(entries in proptest::collection::vec(any_entry(), 0..12)) {
        let entries: Vec<Entry<'_>> = entries.iter().map(|(p, kind, text)| (p.as_str(), *kind, text.as_str())).collect();
        match convert(&tar(&entries)) {
            Ok(nodes) => prop_assert!(nodes.keys().all(|path| !path.contains(".wh."))),
            Err(error) => prop_assert!(matches!(error, Error::Entry { .. }), "{error}"),
        }
    }

    #[test]
    fn any_bytes_give_an_image_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        at in 0..4000usize,
    ) {
        // Behind a sound entry, so that more than the first checksum is reached.
        let mut stream = tar(&[("f", FILE, "content"), ("d", DIRECTORY, "")]);
        stream.truncate(at.min(1536));
        stream.extend(bytes);
        match convert(&stream) {
            Ok(nodes) => prop_assert!(nodes.contains_key("")),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn mutated_headers_give_a_sound_image_or_an_error(
        field in 0..512usize,
        values in proptest::collection::vec(any::<u8>(), 1..12),
        which in 0..4usize,
    ) {
        let mut stream = tar(&[("a", FILE, "one"), ("b/c", FILE, "two"), ("l", LINK, "a"), ("s", SYMLINK, "b")]);
        let starts = [0, 1024, 2048, 2560];
        let header = &mut stream[starts[which]..][..512];
        for (byte, value) in header[field..].iter_mut().zip(values) {
            *byte = value;
        }
        let mut sound = Header::new_old();
        sound.as_mut_bytes().copy_from_slice(header);
        sound.set_cksum();
        header.copy_from_slice(sound.as_bytes());
        if let Ok(nodes) = convert(&stream) {
            prop_assert!(nodes.contains_key(""));
        }
    }
}

/// A tar stream that says the same header for ever.
struct Endless(Vec<u8>);

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.copy_from_slice(&self.0[..buffer.len()]);
        Ok(buffer.len())
    }
}

#[test]
fn a_layer_that_never_ends_does_not_fill_the_memory() {
    let header = tar(&[("file", FILE, "")])[..512].to_vec();
    let result = layer(Endless(header), Cursor::new(Vec::new()), Options::default());
    assert!(matches!(result, Err(Error::TooManyEntries)), "{result:?}");
}
