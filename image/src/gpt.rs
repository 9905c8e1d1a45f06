//! The GUID partition table of a disk or an image (UEFI specification §5.3): finds partitions by name, and lets the
//! last one grow to the end of the disk.
//!
//! Tables are made by sfdisk, with the entries behind the header. Both checksums are checked, since what is found
//! here is written to.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

const SECTOR: u64 = 512;
const HEADER_AT: usize = 512;
const ENTRIES_AT: usize = 1024;
/// Sectors of a MiB.
const ALIGNMENT: u64 = 2048;
/// Octets of the header that its checksum covers.
const HEADER: usize = 92;
/// Octets of an entry; others are allowed but nobody makes them.
const ENTRY: usize = 128;
/// More entries than this is no table that sfdisk made.
const MOST_ENTRIES: usize = 256;

// Offsets in the header.
const AT_SIZE: usize = 12;
const AT_SUM: usize = 16;
const AT_OWN: usize = 24;
const AT_ALTERNATE: usize = 32;
const AT_LAST_USABLE: usize = 48;
const AT_ENTRIES: usize = 72;
const AT_COUNT: usize = 80;
const AT_ENTRY_SIZE: usize = 84;
const AT_ENTRIES_SUM: usize = 88;
/// The length of the one partition of the protective MBR.
const AT_PROTECTIVE_SIZE: usize = 446 + 12;

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) name: String,
    /// Octets from the beginning of the disk.
    pub(crate) start: u64,
    /// Octets.
    pub(crate) size: u64,
}

/// There is no usable table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GptError {
    #[error("reading the partition table")]
    Io(#[from] io::Error),
    #[error("no image of ours: {0}")]
    Rule(&'static str),
    #[error("no image of ours: it has no partition {0}")]
    Missing(&'static str),
}

/// What of a disk's beginning holds the table.
const TABLE: usize = 64 * 1024;

/// Reads the partitions, in the order of the table.
///
/// # Errors
///
/// There is no table, or it is damaged.
pub(crate) fn partitions(disk: &File) -> Result<Vec<Partition>, GptError> {
    let mut head = vec![0; TABLE];
    disk.read_exact_at(&mut head, 0)?;
    partitions_of(&head)
}

/// As [`partitions`], of the first octets of a disk.
///
/// # Errors
///
/// There is no table, or it is damaged.
pub(crate) fn partitions_of(head: &[u8]) -> Result<Vec<Partition>, GptError> {
    let entries = entries(head)?;
    Ok(head[entries].chunks_exact(ENTRY).filter_map(partition).collect())
}

/// The partition of that name.
///
/// # Errors
///
/// There is none.
pub(crate) fn named<'a>(partitions: &'a [Partition], name: &'static str) -> Result<&'a Partition, GptError> {
    partitions.iter().find(|partition| partition.name == name).ok_or(GptError::Missing(name))
}

/// The partition of that name on a disk.
///
/// # Errors
///
/// As of [`partitions`], or there is none.
pub(crate) fn find(disk: &File, name: &'static str) -> Result<Partition, GptError> {
    named(&partitions(disk)?, name).cloned()
}

/// Where the entries lie in a disk's first octets, everything checked.
fn entries(head: &[u8]) -> Result<Range<usize>, GptError> {
    let cut = GptError::Rule("its partition table is cut off");
    let header = head.get(HEADER_AT..HEADER_AT + HEADER).ok_or(cut)?;
    if header.get(..8) != Some(b"EFI PART") {
        return Err(GptError::Rule("it has no GUID partition table"));
    }
    if get32(header, AT_SIZE) != HEADER as u32 || header_sum(header) != get32(header, AT_SUM) {
        return Err(GptError::Rule("the header of its partition table is damaged"));
    }
    let (count, size) = (get32(header, AT_COUNT) as usize, get32(header, AT_ENTRY_SIZE) as usize);
    if count > MOST_ENTRIES || size != ENTRY || get64(header, AT_ENTRIES) != 2 {
        return Err(GptError::Rule("its partition table has an unusual form"));
    }
    let range = ENTRIES_AT..ENTRIES_AT + count * ENTRY;
    let octets = head.get(range.clone()).ok_or(GptError::Rule("its partition table is cut off"))?;
    if crc32fast::hash(octets) != get32(header, AT_ENTRIES_SUM) {
        return Err(GptError::Rule("its partition table is damaged"));
    }
    Ok(range)
}

/// A header's checksum, which is made as if it were zero.
fn header_sum(header: &[u8]) -> u32 {
    let mut covered = header.to_vec();
    covered.iter_mut().skip(AT_SUM).take(4).for_each(|octet| *octet = 0);
    crc32fast::hash(&covered)
}

/// The second copy of a table.
#[derive(Debug)]
pub(crate) struct Backup {
    /// Octets from the beginning of the disk.
    pub(crate) start: u64,
    pub(crate) content: Vec<u8>,
}

/// Lets the table in a disk's first octets end where a disk of `size` octets does, and its last partition with it.
/// Returns the copy that belongs to the end of the disk.
///
/// # Errors
///
/// There is no table, it is damaged, or the disk is too small for it.
pub(crate) fn grow(head: &mut [u8], size: u64) -> Result<Backup, GptError> {
    let range = entries(head)?;
    let copy = range.len() as u64 / SECTOR;
    let sectors = size / SECTOR;
    let too_small = GptError::Rule("its partitions reach behind the end of the disk");
    let usable = sectors.checked_sub(copy + 2).ok_or(too_small)?;
    // Partitions end where a MiB does.
    let end = (usable + 1) / ALIGNMENT * ALIGNMENT;
    let last = head[range.clone()]
        .chunks_exact_mut(ENTRY)
        .filter(|entry| entry[..16].iter().any(|octet| *octet != 0));
    let last = last.max_by_key(|entry| get64(entry, 40)).ok_or(GptError::Rule("it has no partitions"))?;
    if end <= get64(last, 40) {
        return Err(GptError::Rule("its partitions reach behind the end of the disk"));
    }
    put(last, 40, &(end - 1).to_le_bytes());
    let sum = crc32fast::hash(&head[range.clone()]);
    let entries = head[range].to_vec();
    let header = &mut head[HEADER_AT..HEADER_AT + HEADER];
    put(header, AT_ALTERNATE, &(sectors - 1).to_le_bytes());
    put(header, AT_LAST_USABLE, &usable.to_le_bytes());
    put(header, AT_ENTRIES_SUM, &sum.to_le_bytes());
    let mut second = header.to_vec();
    let header_checksum = header_sum(header);
    put(header, AT_SUM, &header_checksum.to_le_bytes());

    put(&mut second, AT_OWN, &(sectors - 1).to_le_bytes());
    put(&mut second, AT_ALTERNATE, &1_u64.to_le_bytes());
    put(&mut second, AT_ENTRIES, &(sectors - 1 - copy).to_le_bytes());
    let second_checksum = header_sum(&second);
    put(&mut second, AT_SUM, &second_checksum.to_le_bytes());
    // The protective MBR says how far the disk goes.
    let covered = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    put(head, AT_PROTECTIVE_SIZE, &covered.to_le_bytes());

    let mut content = entries;
    content.extend_from_slice(&second);
    content.resize(content.len().next_multiple_of(SECTOR as usize), 0);
    Ok(Backup { start: (sectors - 1 - copy) * SECTOR, content })
}

fn put(octets: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = octets.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// An entry in use.
fn partition(entry: &[u8]) -> Option<Partition> {
    if entry[..16].iter().all(|octet| *octet == 0) {
        return None;
    }
    let (first, last) = (get64(entry, 32), get64(entry, 40));
    let units = entry[56..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let name: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    let sectors = last.checked_sub(first)?.checked_add(1)?;
    Some(Partition {
        name: String::from_utf16_lossy(&name),
        start: first.checked_mul(SECTOR)?,
        size: sectors.checked_mul(SECTOR)?,
    })
}

fn get32(octets: &[u8], at: usize) -> u32 {
    octets.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn get64(octets: &[u8], at: usize) -> u64 {
    octets.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A disk with partitions of one MiB each, behind one another.
    pub(crate) fn disk_with(names: &[&str]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut entries = vec![0; 128 * ENTRY];
        for (index, name) in names.iter().enumerate() {
            let entry = &mut entries[index * ENTRY..][..ENTRY];
            entry[..16].fill(0x11);
            let first = 2048 * (index as u64 + 1);
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&(first + 2047).to_le_bytes());
            for (place, unit) in entry[56..].chunks_exact_mut(2).zip(name.encode_utf16()) {
                place.copy_from_slice(&unit.to_le_bytes());
            }
        }
        let mut header = vec![0; HEADER];
        header[..8].copy_from_slice(b"EFI PART");
        header[12..16].copy_from_slice(&(HEADER as u32).to_le_bytes());
        header[72..80].copy_from_slice(&2_u64.to_le_bytes());
        header[80..84].copy_from_slice(&128_u32.to_le_bytes());
        header[84..88].copy_from_slice(&(ENTRY as u32).to_le_bytes());
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        let sum = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        file.as_file().set_len((names.len() as u64 + 2) << 20).unwrap();
        file.as_file().write_all_at(&header, SECTOR).unwrap();
        file.as_file().write_all_at(&entries, 2 * SECTOR).unwrap();
        file
    }

    #[test]
    fn by_name() {
        let disk = disk_with(&["esp", "factory"]);
        let factory = find(disk.as_file(), "factory").unwrap();
        assert_eq!(factory, Partition { name: "factory".into(), start: 2 << 20, size: 1 << 20 });
        let error = |disk: &File| find(disk, "data").unwrap_err().to_string();
        assert_eq!(error(disk.as_file()), "no image of ours: it has no partition data");
        disk.as_file().write_all_at(b"D", 2 * SECTOR + 56).unwrap();
        assert_eq!(error(disk.as_file()), "no image of ours: its partition table is damaged");
        disk.as_file().write_all_at(b"D", SECTOR + 40).unwrap();
        assert_eq!(error(disk.as_file()), "no image of ours: the header of its partition table is damaged");
        disk.as_file().write_all_at(b"D", SECTOR).unwrap();
        assert_eq!(error(disk.as_file()), "no image of ours: it has no GUID partition table");
        disk.as_file().set_len(100).unwrap();
        assert_eq!(error(disk.as_file()), "reading the partition table");
    }

    #[test]
    fn the_last_partition_grows_to_the_end_of_the_disk() {
        let disk = disk_with(&["esp", "data"]);
        let size = 64 << 20;
        let mut head = vec![0; 1 << 20];
        disk.as_file().read_exact_at(&mut head, 0).unwrap();
        let backup = grow(&mut head, size).unwrap();
        disk.as_file().set_len(size).unwrap();
        disk.as_file().write_all_at(&head, 0).unwrap();
        disk.as_file().write_all_at(&backup.content, backup.start).unwrap();
        let data = find(disk.as_file(), "data").unwrap();
        assert_eq!(
            (data.start, data.size),
            (2 << 20, 61 << 20),
            "to the last whole MiB before the second table"
        );
        assert_eq!(backup.start + backup.content.len() as u64, size);
        // What it writes is what the header's own checks take again, and so is its copy.
        let copy = &backup.content[backup.content.len() - 512..][..HEADER];
        assert_eq!(header_sum(copy), get32(copy, AT_SUM));
        assert_eq!(get64(copy, AT_OWN), size / 512 - 1);
        assert_eq!(
            grow(&mut head, 2 << 20).unwrap_err().to_string(),
            "no image of ours: its partitions reach behind the end of the disk"
        );
    }
}
