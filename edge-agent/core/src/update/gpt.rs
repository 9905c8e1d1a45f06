//! Finds partitions by their name in a GUID partition table (UEFI 2.10 §5.3): for a disk image, where no kernel has
//! read it.

use std::ops::Range;

/// Octets at the beginning of a disk that hold the table as every tool writes it.
pub const HEAD: usize = 34 * SECTOR;

const SECTOR: usize = 512;
const AT_NAME: usize = 56;

/// Why octets are no such table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("partition table: {0}")]
pub struct GptError(&'static str);

/// Where the partition called `name` lies on the disk that begins with `head`, in octets; none = there is none.
///
/// # Errors
///
/// [`GptError`].
pub fn partition(head: &[u8], name: &str) -> Result<Option<Range<u64>>, GptError> {
    let header = head.get(SECTOR..2 * SECTOR).ok_or(GptError("it is cut off"))?;
    if &header[..8] != b"EFI PART" {
        return Err(GptError("there is no GPT"));
    }
    let word = |octets: &[u8], at: usize| -> u64 {
        octets[at..at + 8].iter().rev().fold(0, |value, octet| value << 8 | u64::from(*octet))
    };
    let mut sealed = header[..92].to_vec();
    sealed[16..20].fill(0);
    if header[12..16] != [92, 0, 0, 0] || crc32fast::hash(&sealed).to_le_bytes() != header[16..20] {
        return Err(GptError("the checksum of its header is wrong"));
    }
    let count = u32::from_le_bytes([header[80], header[81], header[82], header[83]]) as usize;
    if word(header, 72) != 2 || header[84..88] != [128, 0, 0, 0] || count > 128 {
        return Err(GptError("it is not laid out as usual"));
    }
    let entries = head.get(2 * SECTOR..2 * SECTOR + count * 128).ok_or(GptError("it is cut off"))?;
    if crc32fast::hash(entries).to_le_bytes() != header[88..92] {
        return Err(GptError("the checksum of its entries is wrong"));
    }
    let wanted: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let found = entries.chunks_exact(128).find(|entry| entry[AT_NAME..].starts_with(&wanted));
    let Some(entry) = found else { return Ok(None) };
    let (first, last) = (word(entry, 32), word(entry, 40));
    let octets = |sectors: u64| sectors.checked_mul(SECTOR as u64);
    match (octets(first), last.checked_add(1).and_then(octets)) {
        (Some(start), Some(end)) if start < end => Ok(Some(start..end)),
        _ => Err(GptError("an entry runs backwards")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Vec<u8> {
        let mut head = vec![0; HEAD];
        for (index, (name, first, last)) in
            [("esp", 2048_u64, 4095_u64), ("root-b", 4096, 8191)].iter().enumerate()
        {
            let entry = &mut head[1024 + index * 128..][..128];
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            for (place, unit) in entry[56..].chunks_exact_mut(2).zip(name.encode_utf16()) {
                place.copy_from_slice(&unit.to_le_bytes());
            }
        }
        seal(&mut head);
        head
    }

    fn seal(head: &mut [u8]) {
        let entries = crc32fast::hash(&head[1024..1024 + 128 * 128]);
        let header = &mut head[512..1024];
        header[..8].copy_from_slice(b"EFI PART");
        header[12] = 92;
        header[72] = 2;
        header[80] = 128;
        header[84] = 128;
        header[88..92].copy_from_slice(&entries.to_le_bytes());
        header[16..20].fill(0);
        let checksum = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
    }

    #[test]
    fn by_the_whole_name() {
        let head = disk();
        assert_eq!(partition(&head, "root-b"), Ok(Some(4096 * 512..8192 * 512)));
        assert_eq!(partition(&head, "root-"), Ok(None));
        assert_eq!(partition(&head, "esp"), Ok(Some(2048 * 512..4096 * 512)));
    }

    #[test]
    fn damage_is_an_error() {
        let good = disk();
        for at in [512, 520 + 16, 512 + 40, 1024 + 40, 1024 + 128 * 127] {
            let mut head = good.clone();
            head[at] ^= 1;
            assert!(partition(&head, "esp").is_err(), "{at}");
        }
        assert!(partition(&good[..HEAD - 1], "esp").is_err());
        let mut backwards = good;
        backwards[1024 + 40..1024 + 48].fill(0);
        seal(&mut backwards);
        assert!(partition(&backwards, "esp").is_err());
    }
}
