//! SHA-256 of what does not fit into memory.

use sha2::Digest as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// A checksum in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Takes more octets in.
    pub(crate) fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// The checksum.
    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    /// Of some octets.
    pub(crate) fn of(octets: &[u8]) -> [u8; 32] {
        sha2::Sha256::digest(octets).into()
    }

    /// Of a whole file.
    pub(crate) fn of_file(path: &Path) -> io::Result<[u8; 32]> {
        let mut file = File::open(path)?;
        let mut piece = vec![0; 1 << 20];
        let mut sum = Self::default();
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(sum.finish()),
                length => sum.update(&piece[..length]),
            }
        }
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
