//! dm-verity's hash tree (format 1): the root hash of a device's data, computed block by block.
//!
//! The kernel checks blocks as they are read, so a root that was written wrongly would be noticed only after the
//! restart. Computing the tree's root over what the disk holds notices it before.

use aws_lc_rs::digest::{Context, SHA256};

/// Octets of a block of data and of the tree.
pub const BLOCK: usize = 4096;

/// Octets of a SHA-256.
const DIGEST: usize = 32;

/// `verona.verity=<data blocks>,<root hash>,<salt>` of a kernel command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Length of the data in blocks.
    pub data_blocks: u64,
    /// The hash of the tree's top block.
    pub root_hash: [u8; DIGEST],
    /// Goes before each block.
    pub salt: Vec<u8>,
}

/// The command line does not say, or not in this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "kernel command line: verona.verity must be <data blocks>,<root hash, 64 hex digits>,<salt, hex digits>"
)]
pub struct ParametersError;

impl Parameters {
    /// Reads them from a command line; the last word counts, as with the kernel's own.
    ///
    /// # Errors
    ///
    /// [`ParametersError`].
    pub fn of_command_line(line: &str) -> Result<Self, ParametersError> {
        let mut words = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("verona.verity="));
        let mut fields = words.next_back().ok_or(ParametersError)?.split(',');
        let (Some(blocks), Some(hash), Some(salt), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(ParametersError);
        };
        let data_blocks = blocks.parse().ok().filter(|blocks| (1..=u64::from(u32::MAX)).contains(blocks));
        let salt = hex(salt).filter(|salt| (1..=256).contains(&salt.len()));
        Ok(Self {
            data_blocks: data_blocks.ok_or(ParametersError)?,
            root_hash: hex(hash).and_then(|hash| hash.try_into().ok()).ok_or(ParametersError)?,
            salt: salt.ok_or(ParametersError)?,
        })
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// A tree that is growing. Holds one block a level.
#[derive(Clone, Debug)]
pub struct Tree {
    salt: Vec<u8>,
    /// The unfinished block of each level, the lowest first.
    levels: Vec<Vec<u8>>,
}

impl Tree {
    /// An empty one.
    #[must_use]
    pub const fn new(salt: Vec<u8>) -> Self {
        Self { salt, levels: Vec::new() }
    }

    /// The next block of data, [`BLOCK`] octets.
    pub fn push(&mut self, block: &[u8]) {
        let digest = self.digest(block);
        self.add(0, digest);
    }

    /// The root hash. Nothing was pushed: all zeros.
    #[must_use]
    pub fn root_hash(mut self) -> [u8; DIGEST] {
        let mut level = 0;
        loop {
            let Some(block) = self.levels.get_mut(level).map(std::mem::take) else { return [0; DIGEST] };
            let highest = level + 1 == self.levels.len();
            if highest && block.len() == DIGEST {
                // The digest of the top block, or of the only data block.
                let mut root = [0; DIGEST];
                root.copy_from_slice(&block);
                return root;
            }
            if !block.is_empty() {
                let digest = self.digest(&padded(block));
                self.add(level + 1, digest);
            }
            level += 1;
        }
    }

    fn add(&mut self, level: usize, digest: [u8; DIGEST]) {
        if self.levels.len() == level {
            self.levels.push(Vec::with_capacity(BLOCK));
        }
        // Passed on only when the next digest comes: one full block may be the top.
        if self.levels[level].len() == BLOCK {
            let full = std::mem::take(&mut self.levels[level]);
            let above = self.digest(&full);
            self.add(level + 1, above);
        }
        self.levels[level].extend_from_slice(&digest);
    }

    fn digest(&self, block: &[u8]) -> [u8; DIGEST] {
        let mut context = Context::new(&SHA256);
        context.update(&self.salt);
        context.update(block);
        let mut digest = [0; DIGEST];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }
}

fn padded(mut block: Vec<u8>) -> Vec<u8> {
    block.resize(BLOCK, 0);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The root hashes are what `veritysetup format --salt=abcd` of cryptsetup 2.6.1 says of the same data.
    #[test]
    fn as_veritysetup_does() {
        for (blocks, expected) in EXPECTED {
            let mut tree = Tree::new(vec![0xab, 0xcd]);
            for number in 0..*blocks {
                let mut block = vec![0_u8; BLOCK];
                block[..4].copy_from_slice(&number.to_le_bytes());
                tree.push(&block);
            }
            let root: String = tree.root_hash().iter().map(|octet| format!("{octet:02x}")).collect();
            assert_eq!(root, *expected, "{blocks} blocks");
        }
    }

    const EXPECTED: &[(u32, &str)] = &[
        (1, "322bc2ff2a60ff74b8b9953e3aa0e73b43d1f73c6c68b00ceaa539c832f76460"),
        (2, "32b051904dbe2de99dbbfa129c300279553425a32bfff20b78bdb97f5e25c036"),
        (128, "137e8053b3068f9169cc9500cd0581db1907b893988b87cb59bb8c97eb8c19e9"),
        (129, "708383e92c5a735b378ec338089f8d1904618a7ac91ca6ea27d2b9b79ee7e9a0"),
        (16_384, "55c0f75dbdf060b2048e41256c3d6aeff9cc638bb771addc94ac36b7b51db865"),
        (16_385, "0514c8fbc2874f4074c3085932b0b8d4c05b12bf1fe9e44bec1c762dad790c2f"),
    ];

    #[test]
    fn parameters() {
        let hash = "0a".repeat(32);
        let line = format!("quiet verona.verity=1,{hash},ff panic=10 verona.verity=3,{hash},abcd\n");
        let parameters = Parameters::of_command_line(&line).unwrap();
        assert_eq!((parameters.data_blocks, parameters.root_hash), (3, [10; 32]));
        assert_eq!(parameters.salt, [0xab, 0xcd]);
        for bad in [
            String::new(),
            "verona.verity=".into(),
            format!("verona.verity=0,{hash},ab"),
            format!("verona.verity=1,{},ab", &hash[2..]),
            format!("verona.verity=1,{hash},"),
            format!("verona.verity=1,{hash},abc"),
            format!("verona.verity=1,{hash},zz"),
            format!("verona.verity=1,{hash},ab,ignore_corruption"),
        ] {
            assert_eq!(Parameters::of_command_line(&bad), Err(ParametersError), "{bad}");
        }
    }
}
