//! Unified kernel images: systemd's EFI stub with kernel, initrd, command line and release as PE sections
//! (UAPI specification "Unified Kernel Image"; the PE format is Microsoft's).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// Offset of the PE header's own offset.
const PE_OFFSET: usize = 0x3c;
/// Bytes of a section header.
const SECTION_HEADER: usize = 40;
/// Our sections begin at pages, even when the stub's alignment is smaller.
const PAGE: usize = 4096;
/// `CNT_INITIALIZED_DATA | MEM_READ`.
const CHARACTERISTICS: u32 = 0x4000_0040;

/// Where the parts of a PE header are.
#[derive(Debug)]
struct Layout {
    section_count: usize,
    /// Offset of the optional header.
    optional: usize,
    /// Offset of the first section header.
    sections: usize,
}

impl Layout {
    fn read(image: &[u8]) -> Result<Self> {
        ensure!(image.starts_with(b"MZ"), "it is no PE image");
        let pe = number(image, PE_OFFSET, 4)?;
        ensure!(image.get(pe..).is_some_and(|rest| rest.starts_with(b"PE\0\0")), "it is no PE image");
        let section_count = number(image, pe + 6, 2)?;
        let optional = pe + 24;
        let sections = optional + number(image, pe + 20, 2)?;
        ensure!(number(image, optional, 2)? == 0x20b, "it is no 64-bit PE image");
        Ok(Self { section_count, optional, sections })
    }

    fn header(&self, section: usize) -> usize {
        self.sections + section * SECTION_HEADER
    }
}

/// Appends `sections` to `stub`, in this order.
pub(crate) fn assemble(stub: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let layout = Layout::read(stub).context("cannot use the EFI stub")?;
    let alignment = number(stub, layout.optional + 32, 4)?.max(PAGE);
    let file_alignment = number(stub, layout.optional + 36, 4)?;
    let header_end = number(stub, layout.optional + 60, 4)?;
    ensure!(
        alignment.is_power_of_two() && file_alignment.is_power_of_two(),
        "the EFI stub has no sane alignment"
    );
    let count = layout.section_count + sections.len();
    ensure!(
        layout.header(count) <= header_end,
        "the EFI stub has no room for {} more sections",
        sections.len()
    );

    let mut image = stub.to_vec();
    let mut address = 0;
    for section in 0..layout.section_count {
        let header = layout.header(section);
        address = address.max(number(stub, header + 12, 4)? + number(stub, header + 8, 4)?);
    }
    for (section, (name, content)) in (layout.section_count..).zip(sections) {
        ensure!(name.len() <= 8, "'{name}' is too long for a section's name");
        address = address.next_multiple_of(alignment);
        image.resize(image.len().next_multiple_of(file_alignment), 0);
        let start = image.len();
        image.extend_from_slice(content);
        image.resize(image.len().next_multiple_of(file_alignment), 0);
        let mut header = name.as_bytes().to_vec();
        header.resize(8, 0);
        for field in [content.len(), address, image.len() - start, start, 0, 0, 0] {
            let field = u32::try_from(field).context("the kernel image is larger than 4 GiB")?;
            header.extend(field.to_le_bytes());
        }
        // The last of the seven fields is two numbers of 16 bits, both 0; then the characteristics.
        header.extend(CHARACTERISTICS.to_le_bytes());
        put(&mut image, layout.header(section), &header)?;
        address += content.len();
    }
    let size = u32::try_from(address.next_multiple_of(alignment))?;
    put(&mut image, layout.optional - 24 + 6, &u16::try_from(count)?.to_le_bytes())?;
    put(&mut image, layout.optional + 56, &size.to_le_bytes())?;
    Ok(image)
}

/// The sections of a PE image by name.
pub(crate) fn sections(image: &[u8]) -> Result<BTreeMap<String, &[u8]>> {
    let layout = Layout::read(image)?;
    let section = |index| -> Result<_> {
        let header = layout.header(index);
        let name = image.get(header..header + 8).context("its section table is cut off")?;
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        let (size, raw, start) =
            (number(image, header + 8, 4)?, number(image, header + 16, 4)?, number(image, header + 20, 4)?);
        let content = image.get(start..).and_then(|rest| rest.get(..size.min(raw)));
        Ok((name, content.context("a section is cut off")?))
    };
    (0..layout.section_count).map(section).collect()
}

/// A little-endian number.
fn number(image: &[u8], offset: usize, bytes: usize) -> Result<usize> {
    let field = image.get(offset..).and_then(|rest| rest.get(..bytes)).context("its header is cut off")?;
    Ok(field.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
}

fn put(image: &mut [u8], offset: usize, bytes: &[u8]) -> Result<()> {
    let place = image.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len()));
    place.context("its header is cut off")?.copy_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A kernel image with this command line and nothing else.
    pub(crate) fn image_with_cmdline(cmdline: &str) -> Vec<u8> {
        assemble(&stub(1), &[(".cmdline", cmdline.as_bytes())]).unwrap()
    }

    /// A PE header with one section `.text` of 16 bytes and room for `room` more.
    fn stub(room: usize) -> Vec<u8> {
        let (pe, optional, sections) = (0x40, 0x58, 0x58 + 112);
        let header_end = sections + 40 * (1 + room);
        let mut image = vec![0; header_end];
        image[..2].copy_from_slice(b"MZ");
        image[PE_OFFSET] = 0x40;
        image[pe..pe + 4].copy_from_slice(b"PE\0\0");
        image[pe + 6] = 1;
        image[pe + 20] = 112;
        image[optional..optional + 2].copy_from_slice(&0x20b_u16.to_le_bytes());
        for (at, value) in [(32, 4096_u32), (36, 512), (60, u32::try_from(header_end).unwrap())] {
            image[optional + at..optional + at + 4].copy_from_slice(&value.to_le_bytes());
        }
        image[sections..sections + 5].copy_from_slice(b".text");
        image[sections + 8] = 16;
        image[sections + 12..sections + 16].copy_from_slice(&8192_u32.to_le_bytes());
        image
    }

    #[test]
    fn sections_are_appended_and_found_again() {
        let linux = vec![7; 5000];
        let image = assemble(&stub(2), &[(".cmdline", b"quiet"), (".linux", &linux)]).unwrap();
        let found = sections(&image).unwrap();
        assert_eq!(found[".cmdline"], b"quiet");
        assert_eq!(found[".linux"], &linux[..]);
        let layout = Layout::read(&image).unwrap();
        let address = |section| number(&image, layout.header(section) + 12, 4).unwrap();
        assert_eq!((address(1), address(2)), (12288, 16384));
        assert_eq!(number(&image, layout.optional + 56, 4).unwrap(), 16384 + 8192);
    }

    #[test]
    fn a_stub_without_room_is_refused() {
        let error = assemble(&stub(1), &[(".a", b""), (".b", b"")]).unwrap_err();
        assert!(error.to_string().contains("no room"), "{error}");
    }

    #[test]
    fn what_is_no_image_or_cut_off_is_an_error() {
        let image = assemble(&stub(1), &[(".a", b"content")]).unwrap();
        assert!(sections(b"MZ").is_err());
        assert!(sections(b"\x7fELF").is_err());
        for end in [0x50, 0x60, 0xd0, image.len() - 512] {
            assert!(sections(&image[..end]).is_err(), "{end}");
        }
    }
}
