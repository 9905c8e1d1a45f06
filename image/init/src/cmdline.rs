//! What the signed kernel command line tells of the root: its length, its hash and the salt.
//!
//! `verona.verity=<data blocks>,<root hash>,<salt>`; the hash tree lies behind the data in the same partition,
//! behind a superblock that is not read: nothing but the command line is believed.

use crate::disk::Slot;
use sha2::{Digest as _, Sha256};

/// Block size of data and tree, octets.
pub(crate) const BLOCK: u64 = 4096;
/// `dm-verity` counts the length of a device in sectors.
const SECTORS_PER_BLOCK: u64 = BLOCK / 512;

/// The verity device's parameters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verity {
    data_blocks: u64,
    root_hash: [u8; 32],
    salt: Vec<u8>,
}

/// A device-mapper table of one target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) sectors: u64,
    pub(crate) target: &'static str,
    pub(crate) parameters: String,
}

/// The command line does not name the root, or in no usable form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "kernel command line: verona.verity must be <data blocks>,<root hash, 64 hex digits>,<salt, hex digits>"
)]
pub(crate) struct CommandLineError;

/// Reads the root's parameters in `/proc/cmdline`.
///
/// # Errors
///
/// They are missing or malformed.
pub(crate) fn root_of(line: &str) -> Result<Verity, CommandLineError> {
    let parameters = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
    // The last one wins, as with the kernel's own parameters.
    Verity::parse(parameters.filter(|(name, _)| *name == "verona.verity").map(|(_, value)| value).next_back())
}

impl Verity {
    pub(crate) fn parse(value: Option<&str>) -> Result<Self, CommandLineError> {
        let mut fields = value.unwrap_or_default().split(',');
        let (Some(blocks), Some(hash), Some(salt), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(CommandLineError);
        };
        let data_blocks: u64 = blocks.parse().map_err(|_| CommandLineError)?;
        let root_hash = octets(hash).and_then(|hash| hash.try_into().ok()).ok_or(CommandLineError)?;
        let salt = octets(salt).filter(|salt| (1..=256).contains(&salt.len())).ok_or(CommandLineError)?;
        if !(1..=u64::from(u32::MAX)).contains(&data_blocks) {
            return Err(CommandLineError);
        }
        Ok(Self { data_blocks, root_hash, salt })
    }

    /// The number of the tree's first block, which is its top. The superblock takes the one behind the data.
    pub(crate) fn tree_block(&self) -> u64 {
        self.data_blocks + 1
    }

    /// Whether `block` is the top of the tree (hash type 1: the salt goes first).
    pub(crate) fn is_top(&self, block: &[u8]) -> bool {
        let mut hash = Sha256::new_with_prefix(&self.salt);
        hash.update(block);
        hash.finalize()[..] == self.root_hash
    }

    /// The kernel's table (Documentation/admin-guide/device-mapper/verity.rst). A damaged block restarts the
    /// box, so that the boot chooser takes the other slot.
    pub(crate) fn table(&self, slot: &Slot) -> Table {
        let (blocks, device, tree) = (self.data_blocks, &slot.device, self.tree_block());
        let (hash, salt) = (digits(&self.root_hash), digits(&self.salt));
        let parameters = format!(
            "1 {device} {device} {BLOCK} {BLOCK} {blocks} {tree} sha256 {hash} {salt} 1 restart_on_corruption"
        );
        Table { sectors: blocks * SECTORS_PER_BLOCK, target: "verity", parameters }
    }
}

fn octets(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = digits.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    whole.then(|| pairs.map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

fn digits(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn a_table_from_a_command_line() {
        let line = format!("console=ttyS0 panic=10 verona.verity=9,{HASH},00 verona.verity=2,{HASH},abcd\n");
        let table = root_of(&line).unwrap().table(&Slot { device: "254:5".into() });
        assert_eq!((table.sectors, table.target), (16, "verity"));
        assert_eq!(
            table.parameters,
            format!("1 254:5 254:5 4096 4096 2 3 sha256 {HASH} abcd 1 restart_on_corruption")
        );
    }

    #[test]
    fn the_nearest_bad_ones() {
        let root = |verity: &str| root_of(&format!("quiet verona.verity={verity}"));
        assert!(root(&format!("1,{HASH},00")).is_ok());
        for verity in [
            String::new(),
            format!("0,{HASH},00"),
            format!("4294967296,{HASH},00"),
            format!("1,{},00", &HASH[1..]),
            format!("1,{},00", &HASH[2..]),
            format!("1,g{},00", &HASH[1..]),
            format!("1,{HASH}"),
            format!("1,{HASH},"),
            format!("1,{HASH},0"),
            format!("1,{HASH},00,ignore_corruption"),
        ] {
            assert_eq!(root(&verity), Err(CommandLineError), "{verity}");
        }
        assert_eq!(root_of(""), Err(CommandLineError));
    }
}
