//! Reads images with what others wrote: `fsck.erofs` as the judge, the `erofs-rs` crate for the details.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use rustix::fs::FileType;

/// What is known of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// `directory`, `file`, `link TARGET`, `char 1:3`, `block 8:0`, `fifo`.
    pub(crate) kind: String,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) links: u32,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// All nodes by their paths without leading slash; the root is "". Panics when `fsck.erofs` finds fault.
pub(crate) fn read(image: &[u8]) -> BTreeMap<String, Node> {
    check(image);
    let fs = EroFS::new(SliceImage::new(image)).unwrap();
    let root = fs.get_inode(fs.super_block().root_inode_id()).unwrap();
    let below = fs.walk_dir("/").unwrap().map(|entry| {
        let entry = entry.unwrap();
        (String::from_utf8_lossy(entry.dir_entry.path().as_bytes()).into_owned(), entry.inode)
    });
    let all = below.chain([(String::new(), root)]);
    all.map(|(path, inode)| {
        let device = inode.device().map(|(major, minor)| format!("{major}:{minor}")).unwrap_or_default();
        let mut content = Vec::new();
        let kind = match inode.file_type() {
            FileType::Directory => "directory".to_owned(),
            FileType::RegularFile => {
                fs.open_inode_file(inode).unwrap().read_to_end(&mut content).unwrap();
                "file".to_owned()
            }
            FileType::Symlink => format!("link {}", fs.read_link_inode(inode).unwrap().to_string_lossy()),
            FileType::CharacterDevice => format!("char {device}"),
            FileType::BlockDevice => format!("block {device}"),
            FileType::Fifo => "fifo".to_owned(),
            other => panic!("{path}: {other:?}"),
        };
        let node = Node {
            kind,
            content,
            mode: inode.permissions().mode() & 0o7777,
            owner: (inode.uid(), inode.gid()),
            mtime: inode.modified_unix(),
            links: inode.nlink(),
            xattrs: fs.xattrs_inode(inode).unwrap(),
        };
        (path.trim_start_matches('/').to_owned(), node)
    })
    .collect()
}

fn check(image: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), image).unwrap();
    let checked = Command::new("fsck.erofs").arg("--extract").arg(file.path()).output();
    let checked = checked.expect("fsck.erofs does not run: install erofs-utils");
    let said =
        String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "fsck.erofs: {said}");
}
