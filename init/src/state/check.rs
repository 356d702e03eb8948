//! A state partition that is there: whether it is ours, whether it is whole, and mounting it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use plan::paths;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use sys::process::{Spawn, spawn};

use super::{Error, FLAGS, make};
use crate::watchdog::Watchdog;
use crate::{console, random};

/// How long a check may take before it counts as failed: some minutes for terabytes.
const CHECK_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What matters of an ext4 superblock (kernel: Documentation/filesystems/ext4/super.rst).
struct Superblock([u8; 1024]);

impl Superblock {
    fn read(partition: &Path) -> io::Result<Self> {
        let mut bytes = [0; 1024];
        let mut file = File::open(partition)?;
        file.seek(SeekFrom::Start(1024))?;
        file.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    fn number<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
    }

    /// ext4's magic number and our label.
    fn is_ours(&self) -> bool {
        u16::from_le_bytes(self.number(0x38)) == 0xef53 && self.number(0x78) == *b"holdfast-state\0\0"
    }

    /// Whether the kernel has found errors in it that a replay of the journal does not mend.
    fn has_errors(&self) -> bool {
        u16::from_le_bytes(self.number(0x3a)) & 2 != 0
    }

    fn uuid(&self) -> [u8; 16] {
        self.number(0x68)
    }

    fn blocks(&self) -> u64 {
        let (low, high) = (u32::from_le_bytes(self.number(0x4)), u32::from_le_bytes(self.number(0x150)));
        u64::from(high) << 32 | u64::from(low)
    }
}

/// The size of the file system on `partition`, in its blocks of 4 KiB.
pub(crate) fn blocks(partition: &Path) -> io::Result<u64> {
    Superblock::read(partition).map(|superblock| superblock.blocks())
}

/// Gives the mounted file system on `partition` a UUID of its own if it still has the template's.
pub(crate) fn take_identity(partition: &Path, directory: &File) -> io::Result<()> {
    let first = make::open_template().map_err(io::Error::other)?.next();
    let first = first.ok_or(io::ErrorKind::InvalidData)?.map_err(io::Error::other)?;
    let template = first.1.get(1024..2048).and_then(|bytes| Some(Superblock(*bytes.first_chunk()?)));
    if template.is_some_and(|template| Superblock::read(partition).is_ok_and(|s| s.uuid() == template.uuid()))
    {
        return sys::ext4::set_uuid(directory, random::uuid()?.to_be_bytes());
    }
    Ok(())
}

/// Mounts the state partition, checked before if it has errors or the kernel refuses it.
pub(super) fn mount(partition: &Path, watchdog: Option<&Watchdog>) -> Result<(), Error> {
    let read = |source| Error::Read { partition: partition.into(), source };
    let superblock = Superblock::read(partition).map_err(read)?;
    if !superblock.is_ours() {
        return Err(Error::NotOurs { partition: partition.into() });
    }
    let mount = || {
        let options = c"prjquota,errors=remount-ro";
        rustix::mount::mount(partition, paths::STATE, "ext4", FLAGS, Some(options))
            .map_err(|source| Error::Mount { device: partition.into(), source: source.into() })
    };
    if !superblock.has_errors() {
        match mount() {
            Ok(()) => return Ok(()),
            Err(error) => console::warning(console::chain(&error)),
        }
    }
    console::warning(format_args!("checking {}", partition.display()));
    let damaged = |result| Error::Damaged { partition: partition.into(), result };
    repair(partition, watchdog).map_err(damaged)?;
    mount()
}

/// Runs `e2fsck -p`, which mends what it can without a question. An error is what it ended with.
fn repair(partition: &Path, watchdog: Option<&Watchdog>) -> Result<(), String> {
    let args = [OsStr::new("-p"), partition.as_os_str()];
    let program = Path::new(paths::E2FSCK);
    let child = spawn(&Spawn { program, args: &args, env: &[], cgroup: None, stdio: [None; 3] });
    let child = child.map_err(|error| format!("cannot run {}: {error}", paths::E2FSCK))?;
    let pause = Timespec { tv_sec: 5, tv_nsec: 0 };
    let began = Instant::now();
    loop {
        if let Some(watchdog) = watchdog {
            watchdog.pet();
        }
        let ended = poll(&mut [PollFd::new(&child.pidfd, PollFlags::IN)], Some(&pause)).unwrap_or(0) > 0;
        if !ended && began.elapsed() > CHECK_LIMIT {
            // It is reaped below; a child that does not die keeps nothing waiting but this.
            Pid::from_raw(child.pid).map(|pid| kill_process(pid, Signal::KILL).ok());
            return Err(format!("stopped after {} s", CHECK_LIMIT.as_secs()));
        }
        if ended {
            break;
        }
    }
    use std::os::fd::AsFd;
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    // 0: clean, 1: mended (e2fsck(8)).
    match status.ok().flatten().and_then(|status| status.exit_status()) {
        Some(0 | 1) => Ok(()),
        Some(code) => Err(format!("exit code {code}")),
        None => Err("it was killed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_label_on_ext4_is_ours() {
        let mut superblock = Superblock([0; 1024]);
        superblock.0[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        assert!(!superblock.is_ours());
        superblock.0[0x78..0x86].copy_from_slice(b"holdfast-state");
        assert!(superblock.is_ours());
        superblock.0[0x38] = 0;
        assert!(!superblock.is_ours());
    }

    #[test]
    fn the_size_has_two_halves() {
        let mut superblock = Superblock([0; 1024]);
        superblock.0[0x4] = 7;
        superblock.0[0x150] = 1;
        assert_eq!(superblock.blocks(), (1 << 32) + 7);
    }
}
