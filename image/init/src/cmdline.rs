//! What the signed kernel command line tells: which slot holds the root, and the hash tree's root over it.
//!
//! `verona.slot=root-a verona.verity=<data blocks>,<root hash>,<salt>`; the tree lies behind the data in the
//! same partition, its superblock left out.

use crate::disk::Slot;

/// Block size of data and tree, octets.
const BLOCK: u64 = 4096;
/// `dm-verity` counts the length of a device in sectors.
const SECTORS_PER_BLOCK: u64 = BLOCK / 512;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// GPT name of the partition.
    pub(crate) slot: String,
    pub(crate) verity: Verity,
}

/// The verity device's parameters, still as text for the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verity {
    data_blocks: u64,
    root_hash: String,
    salt: String,
}

/// A device-mapper table of one target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) sectors: u64,
    pub(crate) target: &'static str,
    pub(crate) parameters: String,
}

/// The command line lacks something or has it in no usable form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel command line: {key} must be {rule}")]
pub(crate) struct CommandLineError {
    key: &'static str,
    rule: &'static str,
}

const fn error(key: &'static str, rule: &'static str) -> CommandLineError {
    CommandLineError { key, rule }
}

impl CommandLine {
    /// Reads `/proc/cmdline`.
    ///
    /// # Errors
    ///
    /// The first parameter that is missing or malformed.
    pub(crate) fn parse(line: &str) -> Result<Self, CommandLineError> {
        const SLOT: CommandLineError = error("verona.slot", "a GPT partition name of a-z, 0-9 and -");
        let value = |key| {
            let parameters = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
            // The last one wins, as with the kernel's own parameters.
            parameters.filter(|(name, _)| *name == key).map(|(_, value)| value).next_back()
        };
        let slot = value("verona.slot").ok_or(SLOT)?;
        let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        if slot.is_empty() || slot.len() > 36 || !slot.bytes().all(allowed) {
            return Err(SLOT);
        }
        Ok(Self { slot: slot.to_owned(), verity: Verity::parse(value("verona.verity"))? })
    }
}

impl Verity {
    fn parse(value: Option<&str>) -> Result<Self, CommandLineError> {
        const RULE: CommandLineError =
            error("verona.verity", "<data blocks>,<root hash, 64 hex digits>,<salt, hex digits>");
        let mut fields = value.unwrap_or_default().split(',');
        let (Some(blocks), Some(root_hash), Some(salt), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(RULE);
        };
        let is_hex = |text: &str| text.bytes().all(|octet| octet.is_ascii_hexdigit());
        let data_blocks: u64 = blocks.parse().map_err(|_| RULE)?;
        let sound = (1..=u64::from(u32::MAX)).contains(&data_blocks)
            && root_hash.len() == 64
            && is_hex(root_hash)
            && (2..=512).contains(&salt.len())
            && salt.len() % 2 == 0
            && is_hex(salt);
        if !sound {
            return Err(RULE);
        }
        Ok(Self { data_blocks, root_hash: root_hash.to_owned(), salt: salt.to_owned() })
    }

    /// The kernel's table (Documentation/admin-guide/device-mapper/verity.rst). A damaged block restarts the
    /// box, so that the boot chooser takes the other slot.
    pub(crate) fn table(&self, slot: &Slot) -> Table {
        let (blocks, device) = (self.data_blocks, &slot.device);
        // The superblock takes the first block behind the data; the kernel wants the tree itself.
        let tree = blocks + 1;
        let parameters = format!(
            "1 {device} {device} {BLOCK} {BLOCK} {blocks} {tree} sha256 {} {} 1 restart_on_corruption",
            self.root_hash, self.salt
        );
        Table { sectors: blocks * SECTORS_PER_BLOCK, target: "verity", parameters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn a_table_from_a_command_line() {
        let line = format!("console=ttyS0 verona.slot=root-b panic=10 verona.verity=2,{HASH},abcd\n");
        let command_line = CommandLine::parse(&line).unwrap();
        assert_eq!(command_line.slot, "root-b");
        let table = command_line.verity.table(&Slot { device: "254:5".into() });
        assert_eq!((table.sectors, table.target), (16, "verity"));
        assert_eq!(
            table.parameters,
            format!("1 254:5 254:5 4096 4096 2 3 sha256 {HASH} abcd 1 restart_on_corruption")
        );
    }

    #[test]
    fn the_nearest_bad_ones() {
        let good = |slot: &str, verity: &str| {
            CommandLine::parse(&format!("verona.slot={slot} verona.verity={verity}"))
        };
        assert!(good("root-a", &format!("1,{HASH},00")).is_ok());
        for slot in ["", "Root-a", "root_a", "../a", &"a".repeat(37)] {
            assert_eq!(good(slot, &format!("1,{HASH},00")).unwrap_err().key, "verona.slot", "{slot}");
        }
        for verity in [
            String::new(),
            format!("0,{HASH},00"),
            format!("4294967296,{HASH},00"),
            format!("1,{},00", &HASH[1..]),
            format!("1,g{},00", &HASH[1..]),
            format!("1,{HASH}"),
            format!("1,{HASH},"),
            format!("1,{HASH},0"),
            format!("1,{HASH},00,ignore_corruption"),
        ] {
            assert_eq!(good("root-a", &verity).unwrap_err().key, "verona.verity", "{verity}");
        }
        assert!(CommandLine::parse("").is_err());
    }
}
