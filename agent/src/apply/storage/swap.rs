//! `swap`: a file on the state partition that the kernel may swap to. The head of a swap space is written here: there is
//! no mkswap on the node.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use config::Swap;
use plan::paths;

use super::uuid;
use crate::console;
use crate::file::{FileError, cannot};

const PAGE: usize = 4096;
/// The kernel takes no smaller one (10 pages; mm/swapfile.c), and nobody wants one.
const SMALLEST: u64 = 1 << 20;
/// What a node takes by itself: as much as it has memory, and no more than this.
const AUTO_MOST: u64 = 2 << 30;

/// How long a new state may take to grow.
const GROWTH_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_secs(1);

/// Why there is no swap file.
#[derive(Debug, thiserror::Error)]
enum SwapError {
    #[error("the state is in memory, where swapping gains nothing")]
    InMemory,
    #[error("{size} bytes are too few")]
    TooSmall { size: u64 },
    #[error(
        "{needed} MiB are needed, and of the {free} MiB that are free on {} a quarter is kept free",
        paths::STATE
    )]
    NoRoom { needed: u64, free: u64 },
    #[error(transparent)]
    File(#[from] FileError),
}

/// Makes the file, unless it is there, and swaps to it. It waits for room: a new state grows while services start.
pub(in crate::apply) fn set_up(swap: &Swap) {
    let begun = Instant::now();
    loop {
        match try_set_up(swap) {
            Ok(()) => return,
            Err(SwapError::NoRoom { .. }) if begun.elapsed() < GROWTH_LIMIT => thread::sleep(POLL),
            Err(error) => return console::warning(format_args!("config swap: {}", console::chain(&error))),
        }
    }
}

fn try_set_up(swap: &Swap) -> Result<(), SwapError> {
    let size = size(swap);
    if size == 0 {
        return Ok(());
    }
    let path = place(&swap.filename);
    if is_active(&path) {
        return Ok(());
    }
    if is_in_memory() {
        return Err(SwapError::InMemory);
    }
    if size < SMALLEST {
        return Err(SwapError::TooSmall { size });
    }
    let kept = fs::metadata(&path).is_ok_and(|data| data.len() == size);
    if !kept {
        let state = rustix::fs::statvfs(paths::STATE)
            .map_err(|error| cannot("ask for the room on", Path::new(paths::STATE))(error.into()))?;
        let free = state.f_bavail * state.f_frsize;
        if size > free / 4 * 3 {
            return Err(SwapError::NoRoom { needed: size >> 20, free: free >> 20 });
        }
        make(&path, size).map_err(cannot("make the swap file", &path))?;
    }
    sys::swap::on(&path).map_err(cannot("swap to", &path))?;
    console::notice(format_args!("swap: {} MiB in {}", size >> 20, path.display()));
    Ok(())
}

/// The size in whole pages; 0: no swap is wanted.
fn size(swap: &Swap) -> u64 {
    let most = swap.max_size.unwrap_or(u64::MAX);
    let wanted = swap.size.unwrap_or_else(|| memory().min(AUTO_MOST));
    wanted.min(most) / PAGE as u64 * PAGE as u64
}

/// Files outside of the state partition cannot be: the usual `/swap.img` is one below `/var`.
fn place(filename: &str) -> PathBuf {
    let path = Path::new(filename);
    if path.starts_with(paths::STATE) {
        return path.to_owned();
    }
    Path::new(paths::STATE).join(path.strip_prefix("/").unwrap_or(path))
}

fn is_active(path: &Path) -> bool {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    swaps.lines().filter_map(|line| line.split_whitespace().next()).any(|active| Path::new(active) == path)
}

/// Whether `/var` lies on a file in memory.
fn is_in_memory() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let state = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut device =
        state.filter(|words| words.get(1) == Some(&paths::STATE)).filter_map(|words| words.first().copied());
    device.next_back().is_none_or(|device| device.starts_with("/dev/loop") || !device.starts_with("/dev/"))
}

/// All of the machine's memory, in bytes.
fn memory() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    total.unwrap_or(0) << 10
}

/// A file without holes, which is what the kernel swaps to.
fn make(path: &Path, size: u64) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let made = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size)
        .map_err(io::Error::from)
        .and_then(|()| write_head(&mut file, size, ""));
    if made.is_err() {
        // Half of a swap file only takes room.
        fs::remove_file(path).ok();
    }
    made
}

/// Makes a swap space of a whole device.
pub(super) fn make_on(device: &Path, label: &str) -> io::Result<()> {
    let mut file = super::open_alone(device).map_err(io::Error::other)?;
    let size = sys::block::size(&file)?;
    write_head(&mut file, size, label)
}

fn write_head(file: &mut File, size: u64, label: &str) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&head(size, uuid()?, label)?)?;
    file.sync_all()
}

/// The first page of a swap space (include/linux/swap.h, `union swap_header`): after 1,024 bytes for a boot loader the
/// version, the number of the last page, the number of bad pages, a UUID and a label; at the end of the page a magic.
fn head(size: u64, uuid: u128, label: &str) -> io::Result<[u8; PAGE]> {
    let mut page = [0; PAGE];
    let last = u32::try_from(size / PAGE as u64).ok().and_then(|pages| pages.checked_sub(1));
    let last = last.ok_or(io::ErrorKind::InvalidInput)?;
    page[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&last.to_le_bytes());
    page[1036..1052].copy_from_slice(&uuid.to_be_bytes());
    let label = label.as_bytes().get(..label.len().min(16)).unwrap_or_default();
    page[1052..1052 + label.len()].copy_from_slice(label);
    page[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::super::probe::{Content, probe};
    use super::*;

    #[test]
    fn the_head_is_what_is_found_again() {
        let size = 1 << 20;
        let mut space = head(size, 0x1234, "swap").unwrap().to_vec();
        space.resize(1 << 20, 0);
        let found = probe(&mut io::Cursor::new(space), size).unwrap();
        let Content::FileSystem(found) = found else { panic!("{found}") };
        let uuid = "00000000-0000-0000-0000-000000001234";
        assert_eq!((found.kind, found.label.as_str(), found.uuid.as_str()), ("swap", "swap", uuid));
        assert_eq!(head(size, 0, "").unwrap()[1028..1032], 255_u32.to_le_bytes());
    }

    #[test]
    fn sizes_are_whole_pages_and_bounded() {
        let swap = |size, max_size| Swap { filename: "/swap.img".to_owned(), size, max_size };
        assert_eq!(size(&swap(Some(10_000), None)), 8192);
        assert_eq!(size(&swap(Some(10 << 20), Some(4 << 20))), 4 << 20);
        assert_eq!(size(&swap(Some(0), None)), 0);
        assert!(size(&swap(None, None)) <= AUTO_MOST);
    }

    #[test]
    fn the_usual_file_is_kept_with_the_state() {
        assert_eq!(place("/swap.img"), Path::new("/var/swap.img"));
        assert_eq!(place("/var/lib/swap"), Path::new("/var/lib/swap"));
    }
}
