//! The Internet checksum (RFC 1071): ones' complement sums of 16-bit words.

/// Adds `octets` to a running sum; every call but the last must bring an even number. The sum is kept in the
/// host's byte order, which ones' complement arithmetic allows (RFC 1071 §2 (B)), and is not folded.
pub(crate) fn add(mut sum: u64, octets: &[u8]) -> u64 {
    let mut carry_sum: u64 = 0;
    let mut chunks = octets.chunks_exact(32);
    for chunk in &mut chunks {
        // Four 64-bit words a turn, each split into halves so that no carry is lost.
        for word in chunk.chunks_exact(8) {
            let word =
                u64::from_ne_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
            carry_sum += (word & 0xffff_ffff) + (word >> 32);
        }
    }
    sum += carry_sum;
    let mut pairs = chunks.remainder().chunks_exact(2);
    for pair in &mut pairs {
        sum += u64::from(u16::from_ne_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    sum
}

/// Folds a running sum into the two octets as they stand in a packet, not complemented.
pub(crate) fn fold(sum: u64) -> [u8; 2] {
    let mut sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    (sum as u16).to_ne_bytes()
}

/// The checksum itself: the complement.
pub(crate) fn finish(sum: u64) -> [u8; 2] {
    let [high, low] = fold(sum);
    [!high, !low]
}

/// Sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1): addresses, protocol, transport length.
pub(crate) fn pseudo_header(addresses: &[u8], protocol: u8, len: usize) -> u64 {
    let sum = add(0, addresses);
    let sum = add(sum, &[0, protocol]);
    // A packet is shorter than 2^17, so 32 bits hold it.
    add(sum, &(len as u32).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, two octets at a time.
    fn reference(octets: &[u8]) -> [u8; 2] {
        let mut sum: u32 = 0;
        for pair in octets.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_definition(octets: Vec<u8>) {
            proptest::prop_assert_eq!(finish(add(0, &octets)), reference(&octets));
        }
    }

    #[test]
    fn rfc_1071_example() {
        assert_eq!(fold(add(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), [0xdd, 0xf2]);
        assert_eq!(finish(add(0, &vec![0xff; 65_536])), [0, 0]);
    }
}
