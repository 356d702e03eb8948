//! Writes initramfs archives: cpio in its `newc` form (the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::io::{self, Read, Write};

/// An archive that is being written. Every entry belongs to root and has no time: the bytes depend on the content only.
#[derive(Debug)]
pub(crate) struct Cpio<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Cpio<W> {
    /// Begins an archive.
    pub(crate) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// Adds a directory. Its parents come first.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.head(path, 0o040_755, 0)
    }

    /// Adds a file with `size` bytes of `content`.
    pub(crate) fn file(
        &mut self,
        path: &str,
        executable: bool,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let too_large =
            |_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{path} does not fit in an initrd"));
        let bytes = u32::try_from(size).map_err(too_large)?;
        self.head(path, if executable { 0o100_755 } else { 0o100_644 }, bytes)?;
        if io::copy(&mut content.take(size), &mut self.out)? != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{path} is shorter than it was"),
            ));
        }
        self.pad(size)
    }

    /// Ends the archive and gives the writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.head("TRAILER!!!", 0, 0)?;
        Ok(self.out)
    }

    fn head(&mut self, path: &str, mode: u32, size: u32) -> io::Result<()> {
        self.inode = self.inode.wrapping_add(1);
        let name_bytes = u32::try_from(path.len() + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
        // Inode, mode, owner, group, links, time, size, device and special device (major, minor), name, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_bytes, 0];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        // The head has 110 bytes: with the name it fills whole groups of four.
        self.pad(110 + u64::from(name_bytes))
    }

    fn pad(&mut self, written: u64) -> io::Result<()> {
        let zeros = [0; 3];
        let count = written.next_multiple_of(4) - written;
        self.out.write_all(zeros.get(..usize::try_from(count).unwrap_or_default()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn archive() -> Vec<u8> {
        let mut cpio = Cpio::new(Vec::new());
        cpio.directory("usr").unwrap();
        cpio.file("usr/init", true, 5, &b"hello"[..]).unwrap();
        cpio.file("a", false, 0, &b""[..]).unwrap();
        cpio.finish().unwrap()
    }

    #[test]
    fn entries_are_aligned_and_the_trailer_ends_it() {
        let archive = archive();
        assert_eq!(archive.len() % 4, 0);
        assert!(archive.starts_with(b"070701"));
        let heads: Vec<_> =
            archive.windows(6).enumerate().filter(|(_, w)| w == b"070701").map(|(i, _)| i).collect();
        assert_eq!(heads.len(), 4);
        assert!(heads.iter().all(|at| at % 4 == 0), "{heads:?}");
        assert_eq!(&archive[heads[3] + 110..heads[3] + 121], b"TRAILER!!!\0");
    }

    #[test]
    fn a_file_that_shrank_is_an_error() {
        assert!(Cpio::new(Vec::new()).file("a", false, 2, &b"1"[..]).is_err());
    }

    #[test]
    fn other_tools_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut tool = Command::new("cpio");
        tool.args(["-i", "--quiet"]).current_dir(folder.path()).stdin(Stdio::piped());
        let Ok(mut child) = tool.spawn() else {
            eprintln!("cpio is not installed: not compared");
            return;
        };
        child.stdin.take().unwrap().write_all(&archive()).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(std::fs::read(folder.path().join("usr/init")).unwrap(), b"hello");
    }
}
