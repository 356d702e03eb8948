//! `init grow-state [DISK]`: lets the state take the room there is, while services run.
//!
//! A child of PID 1, because growing a large file system takes minutes.

use std::fs::File;
use std::io;
use std::path::Path;

use gpt::{Table, names};
use plan::paths;

use crate::{console, state};

/// File-system blocks (4 KiB) to grow by at once: 128 GiB, some tenths of a second, so that others get their turn.
const STEP: u64 = 128 << 18;

/// Grows partition and file system as far as the disk allows. A new state gets an identity of its own.
pub(crate) fn run(disk: Option<&Path>) -> io::Result<()> {
    let Some(name) = state::device_name() else { return Ok(()) };
    if let Some(disk) = disk {
        grow_partition(disk)?;
    }
    let device = Path::new("/dev").join(name);
    let room = sys::block::size(&File::open(&device)?)? / 4096;
    let mut blocks = state::blocks(&device)?;
    let before = blocks;
    let directory = File::open(paths::STATE)?;
    while blocks < room {
        blocks = (blocks / STEP).saturating_add(1).saturating_mul(STEP).min(room);
        sys::ext4::resize(&directory, blocks)?;
    }
    state::take_identity(&device, &directory)?;
    if blocks > before {
        console::notice(format_args!("state grown from {} to {} MiB", before >> 8, blocks >> 8));
    }
    Ok(())
}

/// Gives the state partition what has been added behind it.
fn grow_partition(device: &Path) -> io::Result<()> {
    let mut disk = File::options().read(true).write(true).open(device)?;
    let size = sys::block::size(&disk)?;
    let sector = rustix::fs::ioctl_blksszget(&disk)?;
    let (mut table, _) = Table::read(&mut disk, size, sector.into()).map_err(io::Error::other)?;
    let before = table.clone();
    if table.is_behind(size) {
        table.relocate_to(size).map_err(io::Error::other)?;
    }
    let extent = table.grow_last(names::STATE).map_err(io::Error::other)?;
    if table == before {
        return Ok(());
    }
    state::write_table(&table, &mut disk)?;
    let number = table.partitions().find(|(_, p)| p.name == names::STATE).map_or(0, |(number, _)| number);
    let number = u32::try_from(number).map_err(io::Error::other)?;
    sys::block::resize_partition(&disk, number, state::byte_range(&table, extent))
}
