//! Device mapper: one read-only device with one target (linux/dm-ioctl.h).

use std::fs::File;
use std::io;

use crate::ioctl;

/// A device-mapper device that has been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Its number: the node is `/dev/dm-N`.
    pub minor: u32,
}

const VERSION: [u32; 3] = [4, 0, 0];
const DM_READONLY_FLAG: u32 = 1;
const DM_DEV_CREATE: u64 = 0xc138_fd03;
const DM_DEV_REMOVE: u64 = 0xc138_fd04;
const DM_DEV_SUSPEND: u64 = 0xc138_fd06;
const DM_TABLE_LOAD: u64 = 0xc138_fd09;

/// `struct dm_ioctl`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// A header and the room for one target behind it.
#[repr(C)]
struct Request {
    header: Header,
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
    parameters: [u8; 1024],
}

/// Makes the read-only device `name` of `sectors` sectors of 512 bytes, with one target of `target_type`.
pub fn create(name: &str, target_type: &str, sectors: u64, parameters: &str) -> io::Result<Mapped> {
    let control = control()?;
    let mut request = request(name)?;
    call(&control, DM_DEV_CREATE, &mut request)?;
    let minor = minor(request.header.dev);
    let load = || {
        let mut table = self::request(name)?;
        table.header.flags = DM_READONLY_FLAG;
        table.header.target_count = 1;
        table.length = sectors;
        put(&mut table.target_type, target_type)?;
        put(&mut table.parameters, parameters)?;
        call(&control, DM_TABLE_LOAD, &mut table)?;
        // A suspend request without the suspend flag resumes: it makes the loaded table the live one.
        call(&control, DM_DEV_SUSPEND, &mut self::request(name)?)
    };
    load().inspect_err(|_| drop(remove(name)))?;
    Ok(Mapped { minor })
}

/// Removes the device `name`. Fails while it is in use.
pub fn remove(name: &str) -> io::Result<()> {
    call(&control()?, DM_DEV_REMOVE, &mut request(name)?)
}

fn control() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/mapper/control")
}

/// A request for the device `name`, without a table.
fn request(name: &str) -> io::Result<Request> {
    const { assert!(size_of::<Header>() == 312) };
    // SAFETY: both are C structs of integers and bytes, for which all zeroes is valid.
    let mut request: Request = unsafe { std::mem::zeroed() };
    request.header.version = VERSION;
    // Both sizes are those of the structs above and far below 4 GiB.
    request.header.data_size = u32::try_from(size_of::<Request>()).map_err(io::Error::other)?;
    request.header.data_start = u32::try_from(size_of::<Header>()).map_err(io::Error::other)?;
    put(&mut request.header.name, name)?;
    Ok(request)
}

/// Copies `text` with a zero byte behind it.
fn put(field: &mut [u8], text: &str) -> io::Result<()> {
    match field.get_mut(..text.len() + 1) {
        Some(place) => {
            let (text_place, end) = place.split_at_mut(text.len());
            text_place.copy_from_slice(text.as_bytes());
            end.fill(0);
            Ok(())
        }
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn call(control: &File, command: u64, request: &mut Request) -> io::Result<()> {
    // SAFETY: the request begins with a dm_ioctl that says how long the whole is; the kernel stays within it.
    unsafe { ioctl::with(control, command, request) }?;
    Ok(())
}

/// The minor number in the kernel's `huge_encode_dev` form: low 8 bits, and from bit 20 on the rest.
fn minor(dev: u64) -> u32 {
    let low = dev & 0xff;
    let high = (dev >> 12) & 0xf_ff00;
    u32::try_from(low | high).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minor_number_is_put_together_from_its_two_parts() {
        for (dev, expected) in [(0xfe00, 0), (0xfe05, 5), (0x0010_fe02, 0x102)] {
            assert_eq!(minor(dev), expected);
        }
    }

    #[test]
    fn a_text_that_does_not_fit_is_refused() {
        assert!(put(&mut [0; 4], "abc").is_ok());
        assert!(put(&mut [0; 4], "abcd").is_err());
    }
}
