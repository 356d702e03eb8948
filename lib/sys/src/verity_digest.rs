//! What fs-verity has measured of a sealed file (linux/fsverity.h). The kernel answers from the file's descriptor, without
//! reading its content.

use std::fmt::Write as _;
use std::fs::File;
use std::io;

use crate::ioctl;

const FS_IOC_MEASURE_VERITY: u64 = 0xc004_6686;
const FS_VERITY_HASH_ALG_SHA256: u16 = 1;
const SHA256_SIZE: u16 = 32;

#[repr(C)]
struct Digest {
    algorithm: u16,
    size: u16,
    digest: [u8; SHA256_SIZE as usize],
}

/// The file's fs-verity digest: `sha256:` and 64 hex digits. A file that is not sealed is an error (ENODATA).
pub fn measure(file: &File) -> io::Result<String> {
    let mut argument = Digest { algorithm: 0, size: SHA256_SIZE, digest: [0; SHA256_SIZE as usize] };
    // SAFETY: laid out as struct fsverity_digest, whose size says how many bytes may be written behind it.
    unsafe { ioctl::with(file, FS_IOC_MEASURE_VERITY, &mut argument) }?;
    if (argument.algorithm, argument.size) != (FS_VERITY_HASH_ALG_SHA256, SHA256_SIZE) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "sealed with another hash than SHA-256"));
    }
    let mut text = String::from("sha256:");
    for byte in argument.digest {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").map_err(io::Error::other)?;
    }
    Ok(text)
}
