//! Which shared libraries a program needs, by its own dynamic section, so that the root holds those and no
//! others.

use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _, ProgramHeader as _};
use std::fs;
use std::path::{Path, PathBuf};

/// An ELF file's own words about what it needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Names of libraries, without folders.
    pub(crate) libraries: Vec<String>,
    /// The dynamic loader; none for a static program and for libraries.
    pub(crate) interpreter: Option<PathBuf>,
}

/// Reads an ELF file's needs; `None` when it is no ELF file of 64 bits.
///
/// # Errors
///
/// The file cannot be read.
pub(crate) fn needs(path: &Path) -> std::io::Result<Option<Needs>> {
    let octets = fs::read(path)?;
    Ok(needs_of(&octets).ok())
}

fn needs_of(octets: &[u8]) -> object::Result<Needs> {
    let file = ElfFile64::<Endianness>::parse(octets)?;
    let (header, endian): (&FileHeader64<Endianness>, _) = (file.elf_header(), file.endian());
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, octets)? {
        if let Some(path) = segment.interpreter(endian, octets)? {
            needs.interpreter = Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()));
        }
    }
    let sections = header.sections(endian, octets)?;
    if let Some((entries, link)) = sections.dynamic(endian, octets)? {
        let strings = sections.strings(endian, octets, link)?;
        for entry in entries.iter().filter(|entry| entry.tag32(endian) == Some(DT_NEEDED)) {
            let name = entry.string(endian, strings)?;
            needs.libraries.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_very_test() {
        let needs = needs(&std::env::current_exe().unwrap()).unwrap().unwrap();
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"), "{needs:?}");
        assert!(needs.interpreter.unwrap().to_string_lossy().contains("ld-linux"));
        assert_eq!(super::needs(Path::new("/etc/passwd")).unwrap(), None);
    }
}
