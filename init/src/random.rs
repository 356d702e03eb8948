//! Randomness that outlives a boot.

use std::fs::{self, File};
use std::io::{self, Read};

use rustix::fs::fsync;

/// What the next boot starts its random pool with. Secret, and used once.
const SEED: &str = "/var/lib/holdfast/random-seed";

/// Mixes the last boot's seed into the kernel's pool and replaces it at once, so that no two boots use the same.
pub(crate) fn load_seed() -> io::Result<()> {
    let old = fs::read(SEED).ok();
    save_seed()?;
    match old.as_deref().and_then(<[u8]>::first_chunk) {
        Some(seed) => sys::random::add_entropy(*seed),
        None => Ok(()),
    }
}

/// Replaces the seed.
pub(crate) fn save_seed() -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let new = format!("{SEED}.new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    io::Write::write_all(&mut file, &bytes::<32>()?)?;
    fsync(&file)?;
    fs::rename(new, SEED)
}

/// Random bytes; early in the first boot of a machine without a random number generator not yet secret.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A random UUID: 122 random bits (RFC 9562, version 4).
pub(crate) fn uuid() -> io::Result<u128> {
    let bits = u128::from_le_bytes(bytes()?);
    Ok(bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62)
}
