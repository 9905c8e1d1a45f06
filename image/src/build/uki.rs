//! The unified kernel image (UAPI group specification "Unified Kernel Image"): systemd's stub with the kernel,
//! the initramfs and the command line as PE sections behind its own.
//!
//! Written here because objcopy puts the time of the build into the header, and an image must be the same bit
//! for bit whoever builds it. Only what the stub needs of PE/COFF is understood; anything unusual is refused.

/// A section to add.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    /// With its dot, at most 8 octets.
    pub(crate) name: &'static str,
    pub(crate) content: &'a [u8],
}

/// The stub is not a PE file that sections can be added to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the boot stub {0}")]
pub(crate) struct StubError(&'static str);

const COFF_HEADER: usize = 20;
const SECTION_HEADER: usize = 40;
/// IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ.
const READ_ONLY_DATA: u32 = 0x4000_0040;
/// The magic number of a 64-bit image's optional header.
const PE32_PLUS: u16 = 0x20b;

// Offsets in the optional header, the same for PE32 and PE32+.
const AT_INITIALIZED_DATA: usize = 8;
const AT_SECTION_ALIGNMENT: usize = 32;
const AT_FILE_ALIGNMENT: usize = 36;
const AT_IMAGE_SIZE: usize = 56;
const AT_HEADERS_SIZE: usize = 60;
const AT_CHECKSUM: usize = 64;

/// Puts `sections` behind those of `stub`, in their order.
///
/// # Errors
///
/// The stub is malformed, or has no room for the headers.
pub(crate) fn assemble(stub: &[u8], sections: &[Section<'_>]) -> Result<Vec<u8>, StubError> {
    let mut image = Image::parse(stub)?;
    for section in sections {
        image.add(section)?;
    }
    image.finish()
}

struct Image {
    octets: Vec<u8>,
    /// Where the COFF header begins, behind the signature.
    coff: usize,
    optional: usize,
    section_table: usize,
    sections: usize,
    file_alignment: usize,
    section_alignment: u32,
    headers_end: usize,
    /// The end of the last section in memory.
    memory_end: u32,
    added: u32,
}

impl Image {
    fn parse(stub: &[u8]) -> Result<Self, StubError> {
        let short = StubError("is cut off");
        let octets = stub.to_vec();
        let coff = get32(&octets, 0x3c).ok_or(short)? as usize;
        if octets.get(coff..coff + 4).ok_or(StubError("is cut off"))? != b"PE\0\0" {
            return Err(StubError("is no PE file"));
        }
        let coff = coff + 4;
        let cut = || StubError("is cut off");
        let sections = usize::from(get16(&octets, coff + 2).ok_or_else(cut)?);
        let optional_size = usize::from(get16(&octets, coff + 16).ok_or_else(cut)?);
        let optional = coff + COFF_HEADER;
        if get16(&octets, optional) != Some(PE32_PLUS) {
            return Err(StubError("is not for a 64-bit machine"));
        }
        let field = |at| get32(&octets, optional + at).ok_or_else(cut);
        let section_table = optional + optional_size;
        let file_alignment = field(AT_FILE_ALIGNMENT)? as usize;
        let section_alignment = field(AT_SECTION_ALIGNMENT)?;
        if !file_alignment.is_power_of_two() || !section_alignment.is_power_of_two() {
            return Err(StubError("has an alignment that is no power of two"));
        }
        let mut memory_end = 0;
        for number in 0..sections {
            let at = section_table + number * SECTION_HEADER;
            let size = get32(&octets, at + 8).ok_or_else(cut)?;
            let address = get32(&octets, at + 12).ok_or_else(cut)?;
            memory_end = memory_end.max(address.checked_add(size).ok_or_else(cut)?);
        }
        let headers_end = field(AT_HEADERS_SIZE)? as usize;
        Ok(Self {
            coff,
            optional,
            section_table,
            sections,
            file_alignment,
            section_alignment,
            headers_end,
            memory_end,
            added: 0,
            octets,
        })
    }

    fn add(&mut self, section: &Section<'_>) -> Result<(), StubError> {
        let header = self.section_table + self.sections * SECTION_HEADER;
        if header + SECTION_HEADER > self.headers_end {
            return Err(StubError("has no room for another section header"));
        }
        let too_large = StubError("with its sections exceeds 4 GiB");
        let size =
            u32::try_from(section.content.len()).map_err(|_| StubError("with its sections exceeds 4 GiB"))?;
        let address = self.memory_end.checked_next_multiple_of(self.section_alignment).ok_or(too_large)?;
        let start = self.octets.len().next_multiple_of(self.file_alignment);
        let stored = section.content.len().next_multiple_of(self.file_alignment);
        self.octets.resize(start, 0);
        self.octets.extend_from_slice(section.content);
        self.octets.resize(start + stored, 0);

        let mut name = [0; 8];
        name.iter_mut().zip(section.name.bytes()).for_each(|(to, from)| *to = from);
        let header_end = header + SECTION_HEADER;
        let fields = [size, address, stored as u32, start as u32, 0, 0, 0, READ_ONLY_DATA];
        let place = self.octets.get_mut(header..header_end).ok_or(StubError("is cut off"))?;
        let (front, rest) = place.split_at_mut(name.len());
        front.copy_from_slice(&name);
        for (to, from) in rest.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        self.sections += 1;
        self.added += stored as u32;
        self.memory_end = address.checked_add(size).ok_or(StubError("with its sections exceeds 4 GiB"))?;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, StubError> {
        let cut = || StubError("is cut off");
        let data = get32(&self.octets, self.optional + AT_INITIALIZED_DATA).ok_or_else(cut)?;
        let image_size = self.memory_end.next_multiple_of(self.section_alignment);
        let count = u16::try_from(self.sections).map_err(|_| StubError("has too many sections"))?;
        self.put(self.coff + 2, &count.to_le_bytes());
        // The time of the build; nothing reads it.
        self.put(self.coff + 4, &[0; 4]);
        self.put(self.optional + AT_INITIALIZED_DATA, &data.wrapping_add(self.added).to_le_bytes());
        self.put(self.optional + AT_IMAGE_SIZE, &image_size.to_le_bytes());
        // UEFI does not check it, and a signature replaces it.
        self.put(self.optional + AT_CHECKSUM, &[0; 4]);
        Ok(self.octets)
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.octets.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

fn get16(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn get32(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}
