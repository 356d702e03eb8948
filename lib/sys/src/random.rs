//! The kernel's random pool (random(4)).

use std::fs::File;
use std::io;

use crate::ioctl;

const RNDADDENTROPY: u64 = 0x4008_5203;

#[repr(C)]
struct RandPoolInfo {
    entropy_bits: i32,
    size: i32,
    seed: [u8; 32],
}

/// Mixes `seed` into the pool and counts it as 256 bits that nobody can know.
pub fn add_entropy(seed: [u8; 32]) -> io::Result<()> {
    let pool = File::options().write(true).open("/dev/urandom")?;
    let mut info = RandPoolInfo { entropy_bits: 256, size: 32, seed };
    // SAFETY: laid out as struct rand_pool_info with `size` bytes behind it.
    unsafe { ioctl::with(&pool, RNDADDENTROPY, &mut info) }?;
    Ok(())
}
