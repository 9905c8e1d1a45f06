//! The command line inside a unified kernel image (UAPI "Unified Kernel Image"; Microsoft PE/COFF §3): it names the
//! root that belongs to the kernel.
//!
//! Who signs the kernel image signs its command line; here it is only read, to see before a restart that kernel and
//! root fit together.

const COFF_HEADER: usize = 20;
const SECTION_HEADER: usize = 40;
/// Longest command line of the kernel on x86-64 is 2048.
const MAX_COMMAND_LINE: usize = 4096;

/// The image has no command line that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel image: {0}")]
pub struct KernelImageError(&'static str);

/// The text of the section `.cmdline`.
///
/// # Errors
///
/// [`KernelImageError`].
pub fn command_line(image: &[u8]) -> Result<&str, KernelImageError> {
    let none = KernelImageError("it is no PE file");
    let word = |at: usize| -> Option<usize> {
        let octets = image.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(octets.try_into().ok()?)).ok()
    };
    let half = |at: usize| -> Option<usize> {
        Some(usize::from(u16::from_le_bytes(image.get(at..at.checked_add(2)?)?.try_into().ok()?)))
    };
    let signature = word(0x3c).ok_or(none)?;
    if image.get(signature..signature.saturating_add(4)) != Some(b"PE\0\0") {
        return Err(none);
    }
    let coff = signature + 4;
    let (sections, optional) = (half(coff + 2).ok_or(none)?, half(coff + 16).ok_or(none)?);
    let table = coff + COFF_HEADER + optional;
    for number in 0..sections {
        let at = table + number * SECTION_HEADER;
        let name = image.get(at..at + 8).ok_or(KernelImageError("its section table is cut off"))?;
        if name != b".cmdline" {
            continue;
        }
        let (Some(size), Some(start)) = (word(at + 8), word(at + 20)) else { return Err(none) };
        let octets = image.get(start..start.saturating_add(size.min(MAX_COMMAND_LINE)));
        let octets = octets.ok_or(KernelImageError("its command line is cut off"))?;
        let text =
            std::str::from_utf8(octets).map_err(|_| KernelImageError("its command line is no text"))?;
        return Ok(text.trim_end_matches(['\0', '\n', ' ']));
    }
    Err(KernelImageError("it has no command line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &[u8; 8], text: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x200];
        image[0x3c] = 0x40;
        image[0x40..0x44].copy_from_slice(b"PE\0\0");
        image[0x46] = 2;
        let table = 0x58;
        image[table..table + 8].copy_from_slice(b".osrel\0\0");
        let entry = table + SECTION_HEADER;
        image[entry..entry + 8].copy_from_slice(name);
        image[entry + 8..entry + 12].copy_from_slice(&(text.len() as u32).to_le_bytes());
        image[entry + 20..entry + 24].copy_from_slice(&0x200_u32.to_le_bytes());
        image.extend_from_slice(text);
        image
    }

    #[test]
    fn the_section_is_found() {
        let good = image(b".cmdline", b"quiet verona.verity=1,ab,cd\n\0");
        assert_eq!(command_line(&good), Ok("quiet verona.verity=1,ab,cd"));
        assert!(command_line(&image(b".linux\0\0", b"quiet")).is_err());
        assert!(command_line(&image(b".cmdline", b"\xff")).is_err());
        for cut in 0..good.len() {
            assert!(command_line(&good[..cut]).is_err(), "{cut}");
        }
    }
}
