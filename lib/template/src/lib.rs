//! A sparse file-system image as one small file: only the blocks that are not all zero.
//!
//! image-build writes it from what mkfs made; PID 1 writes its blocks to a partition it has just added. All numbers
//! are little endian: magic `HFSPARSE`, u32 version (1), u32 block size (4096), u64 blocks of the whole image, u64
//! number of records, then that many records of a u64 block number (ascending) and 4096 bytes.
//!
//! It must never panic, whatever a file holds. Blocks that are not recorded are zero in the image, and have to be zero
//! on the device: an old journal in that place could be taken for one of the new file system and be replayed.

#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes of a block.
pub const BLOCK: usize = 4096;
const MAGIC: &[u8; 8] = b"HFSPARSE";
const VERSION: u32 = 1;

/// One block of the image.
pub type Block = [u8; BLOCK];

/// What went wrong with a template.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or ends too early.
    #[error("cannot read the template")]
    Read(#[source] io::Error),
    /// It is something else, or made by another version.
    #[error("not a template of version {VERSION} with blocks of {BLOCK} bytes")]
    Format,
    /// Its block numbers do not ascend or lie outside the image.
    #[error("the template's block {number} is out of order or outside its {blocks} blocks")]
    Order {
        /// The block's number.
        number: u64,
        /// Blocks of the image.
        blocks: u64,
    },
}

/// Writes the blocks of `image` that are not zero to `out`. The image's size must be a multiple of the block size.
pub fn write(image: &mut (impl Read + Seek), out: &mut impl Write) -> io::Result<()> {
    let size = image.seek(SeekFrom::End(0))?;
    if size % BLOCK as u64 != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the image is not a whole number of blocks"));
    }
    image.seek(SeekFrom::Start(0))?;
    let mut records = Vec::new();
    let mut count: u64 = 0;
    let mut block = [0; BLOCK];
    for number in 0..size / BLOCK as u64 {
        image.read_exact(&mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            records.extend(number.to_le_bytes());
            records.extend(block);
            count = count.saturating_add(1);
        }
    }
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&4096_u32.to_le_bytes())?;
    out.write_all(&(size / BLOCK as u64).to_le_bytes())?;
    out.write_all(&count.to_le_bytes())?;
    out.write_all(&records)
}

/// A template that is being read: an iterator of block numbers and blocks. It ends after the first error.
#[derive(Debug)]
pub struct Template<R> {
    file: R,
    blocks: u64,
    left: u64,
    /// The lowest number that the next block may have.
    next: u64,
}

impl<R: Read> Template<R> {
    /// Reads the head of a template.
    pub fn read(mut file: R) -> Result<Self, Error> {
        if take(&mut file)? != *MAGIC
            || u32::from_le_bytes(take(&mut file)?) != VERSION
            || u32::from_le_bytes(take(&mut file)?) != 4096
        {
            return Err(Error::Format);
        }
        let blocks = u64::from_le_bytes(take(&mut file)?);
        let left = u64::from_le_bytes(take(&mut file)?);
        Ok(Self { file, blocks, left, next: 0 })
    }

    /// Blocks of the whole image.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of the whole image.
    pub fn size(&self) -> u64 {
        self.blocks.saturating_mul(BLOCK as u64)
    }

    fn record(&mut self) -> Result<(u64, Block), Error> {
        let number = u64::from_le_bytes(take(&mut self.file)?);
        if number < self.next || number >= self.blocks {
            return Err(Error::Order { number, blocks: self.blocks });
        }
        self.next = number.saturating_add(1);
        Ok((number, take(&mut self.file)?))
    }
}

impl<R: Read> Iterator for Template<R> {
    type Item = Result<(u64, Block), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.record();
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

fn take<const N: usize>(file: &mut impl Read) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map_err(Error::Read)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn template(image: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        write(&mut Cursor::new(image), &mut file).unwrap();
        file
    }

    fn image(numbers: &[usize], blocks: usize) -> Vec<u8> {
        let mut image = vec![0; blocks * BLOCK];
        for number in numbers {
            image[number * BLOCK + number % BLOCK] = 0xa5;
        }
        image
    }

    #[test]
    fn only_blocks_with_content_are_kept() {
        let file = template(&image(&[1, 7], 9));
        assert_eq!(file.len(), 32 + 2 * (8 + BLOCK));
        let template = Template::read(&file[..]).unwrap();
        assert_eq!((template.blocks(), template.size()), (9, 9 * 4096));
        let numbers: Vec<_> = template.map(|record| record.unwrap().0).collect();
        assert_eq!(numbers, [1, 7]);
    }

    #[test]
    fn half_a_block_is_refused() {
        assert!(write(&mut Cursor::new([0; 4097]), &mut Vec::new()).is_err());
    }

    #[test]
    fn something_else_and_a_cut_off_file_are_errors() {
        let file = template(&image(&[0], 1));
        assert!(matches!(Template::read(&b"HFSPARSE\x02\0\0\0\0\x10\0\0"[..]), Err(Error::Format)));
        assert!(matches!(Template::read(&file[..20]), Err(Error::Read(_))));
        let mut cut = Template::read(&file[..file.len() - 1]).unwrap();
        assert!(matches!(cut.next(), Some(Err(Error::Read(_)))));
        assert!(cut.next().is_none());
    }

    #[test]
    fn a_block_outside_or_out_of_order_is_refused() {
        let mut file = template(&image(&[0, 1], 2));
        let second = 32 + 8 + BLOCK;
        for number in [0_u64, 2, u64::MAX] {
            file[second..second + 8].copy_from_slice(&number.to_le_bytes());
            let last = Template::read(&file[..]).unwrap().last().unwrap();
            assert!(matches!(last, Err(Error::Order { blocks: 2, .. })), "{number}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_image_comes_back(numbers in proptest::collection::vec(0..40_usize, 0..10)) {
            let before = image(&numbers, 40);
            let mut after = vec![0; before.len()];
            for record in Template::read(&template(&before)[..]).unwrap() {
                let (number, block) = record.unwrap();
                let start = usize::try_from(number).unwrap() * BLOCK;
                after[start..start + BLOCK].copy_from_slice(&block);
            }
            prop_assert!(before == after);
        }
    }
}
