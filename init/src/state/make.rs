//! A new, empty state: on a partition that was not there before, or in memory.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use gpt::{Guid, Table, names, types};
use plan::paths;
use rustix::fs::{MemfdFlags, memfd_create};
use template::Template;

use super::Error;
use crate::boot::partition_node;
use crate::{console, random};

/// Makes the state partition in the room behind the last one.
///
/// The file system is written first and the partition's entry last, so that a power cut leaves either no partition
/// or a whole one.
pub(super) fn partition(device: &Path) -> Result<PathBuf, Error> {
    let failed = |what| move |source| Error::Make { device: device.into(), what, source };
    let changed = |source| Error::Table { device: device.into(), source };
    let mut disk = File::options().read(true).write(true).open(device).map_err(failed("opening it"))?;
    let size = sys::block::size(&disk).map_err(failed("asking for its size"))?;
    let sector =
        rustix::fs::ioctl_blksszget(&disk).map_err(|e| failed("asking for its sectors")(e.into()))?;
    let (mut table, _) =
        Table::read(&mut disk, size, sector.into()).map_err(|_| Error::NoTable { device: device.into() })?;
    if table.is_behind(size) {
        table.relocate_to(size).map_err(changed)?;
    }
    let template = open_template()?;
    let id = Guid::from_u128(random::uuid().map_err(failed("drawing an id"))?);
    let extent = table.append(types::STATE, id, names::STATE, None);
    let extent = extent.map_err(|error| match error {
        gpt::ChangeError::NoRoom { free, .. } => {
            Error::NoRoom { device: device.into(), free, needed: template.size() }
        }
        error => changed(error),
    })?;
    let bytes = byte_range(&table, extent);
    let (free, needed) = (bytes.end - bytes.start, template.size());
    if free < needed {
        return Err(Error::NoRoom { device: device.into(), free, needed });
    }
    console::notice(format_args!("making the state partition on {}: {} MiB", device.display(), free >> 20));
    // Not every device can discard; what counts is that the file system's own room is zero.
    sys::block::discard(&disk, bytes.clone()).ok();
    sys::block::zero(&disk, bytes.start..bytes.start + needed).map_err(failed("zeroing its start"))?;
    write_template(template, &mut disk, bytes.start, device)?;
    disk.sync_all().map_err(failed("writing the file system"))?;
    write_table(&table, &mut disk).map_err(failed("writing the partition table"))?;

    let number = table.partitions().find(|(_, p)| p.name == names::STATE).map_or(0, |(number, _)| number);
    let kernel_number = u32::try_from(number).unwrap_or(0);
    sys::block::add_partition(&disk, kernel_number, bytes).map_err(failed("telling the kernel"))?;
    Ok(partition_node(device, number))
}

/// Writes both copies of a table, one of which is whole at every moment.
pub(crate) fn write_table(table: &Table, disk: &mut File) -> io::Result<()> {
    table.write_backup(disk)?;
    disk.sync_all()?;
    table.write_primary(disk)?;
    disk.sync_all()
}

/// Where an extent lies, in bytes.
pub(crate) fn byte_range(table: &Table, extent: gpt::Extent) -> Range<u64> {
    let sector = table.sector_size();
    extent.first.saturating_mul(sector)..extent.last.saturating_add(1).saturating_mul(sector)
}

/// Makes the state in memory: a loop device over a file that has no name. It may take half of the memory.
pub(super) fn in_memory() -> Result<PathBuf, Error> {
    let failed = |what| move |source| Error::Memory { what, source };
    let template = open_template()?;
    let file = memfd_create("state", MemfdFlags::CLOEXEC).map_err(|e| failed("making a file")(e.into()))?;
    let mut file = File::from(file);
    let size = (memory_size() / 2).max(template.size()) & !0xfffff;
    file.set_len(size).map_err(failed("giving the file its size"))?;
    write_template(template, &mut file, 0, Path::new("memory"))?;
    sys::loop_device::attach(&file, false).map_err(failed("attaching a loop device"))
}

pub(super) fn open_template() -> Result<Template<File>, Error> {
    let file =
        File::open(paths::STATE_TEMPLATE).map_err(|source| Error::Template(template::Error::Read(source)))?;
    Template::read(file).map_err(Error::Template)
}

fn write_template(blocks: Template<File>, to: &mut File, start: u64, name: &Path) -> Result<(), Error> {
    for block in blocks {
        let (number, content) = block.map_err(Error::Template)?;
        let place = start.saturating_add(number.saturating_mul(template::BLOCK as u64));
        to.seek(SeekFrom::Start(place))
            .and_then(|_| to.write_all(&content))
            .map_err(|source| Error::Make { device: name.into(), what: "writing the file system", source })?;
    }
    Ok(())
}

/// All of the machine's memory, in bytes.
fn memory_size() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    total.unwrap_or(0) << 10
}
