//! The disk image that a guest may write to.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::Context;

/// Copies `from` to `to`, leaving out what is zero.
pub(super) fn copy_sparse(from: &Path, to: &Path) -> anyhow::Result<()> {
    const BLOCK: usize = 1 << 16;
    let mut source = File::open(from)
        .with_context(|| format!("cannot open {}: run `image-build build` first", from.display()))?;
    let mut copy = || -> std::io::Result<()> {
        let mut target = File::create(to)?;
        let (mut block, mut hole) = (vec![0; BLOCK], 0);
        loop {
            let read = source.read(&mut block)?;
            let Some(data) = block.get(..read).filter(|data| !data.is_empty()) else { break };
            if data.iter().all(|byte| *byte == 0) {
                hole += i64::try_from(read).unwrap_or_default();
            } else {
                target.seek(SeekFrom::Current(std::mem::take(&mut hole)))?;
                target.write_all(data)?;
            }
        }
        target.set_len(source.metadata()?.len())
    };
    copy().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Makes the file at least `size` bytes long.
pub(super) fn grow(disk: &Path, size: u64) -> anyhow::Result<()> {
    let grow = || -> std::io::Result<()> {
        let file = File::options().write(true).open(disk)?;
        if file.metadata()?.len() < size { file.set_len(size) } else { Ok(()) }
    };
    grow().with_context(|| format!("cannot grow {} to {size} bytes", disk.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_has_the_content_and_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut content = vec![0; 8 << 20];
        content[5 << 20] = 7;
        content.extend([1, 2, 3]);
        std::fs::write(&from, &content).unwrap();
        copy_sparse(&from, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), content);
        assert!(std::fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
        grow(&to, 16 << 20).unwrap();
        grow(&to, 1 << 20).unwrap();
        assert_eq!(std::fs::metadata(&to).unwrap().len(), 16 << 20);
    }
}
