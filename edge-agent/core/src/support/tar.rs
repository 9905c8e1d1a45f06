//! A tar archive (POSIX.1-2001, ustar) of small files, mode 0600, owned by root.

/// Octets of a block.
const BLOCK: usize = 512;

/// The archive of `files`, all of the time `unix_s`. A name longer than 100 octets, which ours are not, is cut.
#[must_use]
pub fn archive(files: &[(String, Vec<u8>)], unix_s: u64) -> Vec<u8> {
    let mut octets = Vec::new();
    for (name, content) in files {
        octets.extend(header(name, content.len() as u64, unix_s));
        octets.extend(content);
        octets.resize(octets.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks end it.
    octets.resize(octets.len() + 2 * BLOCK, 0);
    octets
}

fn header(name: &str, size: u64, unix_s: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
    let name = name.as_bytes();
    put(0, &name[..name.len().min(100)]);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", size.min(0o777_7777_7777)).as_bytes());
    put(136, format!("{:011o}\0", unix_s.min(0o777_7777_7777)).as_bytes());
    // The sum is taken with blanks in its own place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(265, b"root");
    put(297, b"root");
    let sum: u32 = block.iter().map(|&octet| u32::from(octet)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_sums() {
        let octets =
            archive(&[("a/b.txt".into(), b"hello".to_vec()), ("empty".into(), vec![])], 1_767_225_600);
        assert_eq!(octets.len(), 5 * BLOCK);
        assert_eq!(&octets[..8], b"a/b.txt\0");
        assert_eq!(&octets[124..136], b"00000000005\0");
        assert_eq!(&octets[BLOCK..BLOCK + 6], b"hello\0");
        let sum: u32 =
            octets[..148].iter().chain(b"        ").chain(&octets[156..BLOCK]).map(|&o| u32::from(o)).sum();
        assert_eq!(&octets[148..155], format!("{sum:06o}\0").as_bytes());
    }
}
