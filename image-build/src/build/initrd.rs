//! The initrds: init with the modules that opening the root may take; for netboot with the root itself.
//!
//! Init and modules are compressed by LZ4: 6.2 MB become 2.3 MB for 21 million instructions of the kernel's, where zstd
//! takes 97 million. The root in a netboot initrd is left as it is.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use lz4::block::{CompressionMode, compress};
use plan::paths;

use super::kernel::Files;
use crate::cpio::Cpio;

/// The frame that kernels unpack: LZ4's legacy one, of blocks behind their compressed size.
const LZ4_MAGIC: u32 = 0x184c_2102;
/// What a block holds when it is unpacked (`LZ4_DEFAULT_UNCOMPRESSED_CHUNK_SIZE` of the kernel).
const LZ4_BLOCK: usize = 8 << 20;

/// Init and modules.
pub(crate) fn make(init: &[u8], modules: &Files) -> io::Result<Vec<u8>> {
    let mut cpio = Cpio::new(Vec::new());
    let folder = paths::MODULES.trim_start_matches('/');
    cpio.file("init", true, init.len() as u64, init)?;
    for (end, _) in folder.match_indices('/').chain([(folder.len(), "")]) {
        cpio.directory(&folder[..end])?;
    }
    for (name, content) in modules {
        cpio.file(&format!("{folder}/{name}"), false, content.len() as u64, &content[..])?;
    }
    pack(&cpio.finish()?)
}

/// Root and hash tree as `/root.erofs` and `/root.verity`, then `initrd`: the kernel takes several archives in a row.
pub(crate) fn write_netboot(out: impl Write, initrd: &[u8], root: &Path, verity: &Path) -> io::Result<()> {
    let mut cpio = Cpio::new(out);
    for (name, path) in [("root.erofs", root), ("root.verity", verity)] {
        let file = File::open(path)?;
        cpio.file(name, false, file.metadata()?.len(), file)?;
    }
    cpio.finish()?.write_all(initrd)
}

fn pack(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = Vec::from(LZ4_MAGIC.to_le_bytes());
    for block in plain.chunks(LZ4_BLOCK) {
        let block = compress(block, Some(CompressionMode::HIGHCOMPRESSION(12)), false)?;
        let size = u32::try_from(block.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        packed.extend(size.to_le_bytes());
        packed.extend(block);
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_framed_and_unpack() {
        let plain: Vec<u8> = (0..LZ4_BLOCK + 1000).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let packed = pack(&plain).unwrap();
        let mut rest = packed.strip_prefix(&LZ4_MAGIC.to_le_bytes()).unwrap();
        let mut unpacked = Vec::new();
        while let Some((size, tail)) = rest.split_first_chunk() {
            let (block, tail) = tail.split_at(usize::try_from(u32::from_le_bytes(*size)).unwrap());
            let most = i32::try_from(LZ4_BLOCK).unwrap();
            unpacked.extend(lz4::block::decompress(block, Some(most)).unwrap());
            rest = tail;
        }
        assert!(unpacked == plain);
    }
}
