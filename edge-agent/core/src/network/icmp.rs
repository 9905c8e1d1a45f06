//! ICMP echo messages (RFC 792, RFC 4443 §4).

const HEADER: usize = 8;

/// A question. The kernel fills in the checksum of ICMPv6.
#[must_use]
pub fn request(v6: bool, identity: u16, sequence: u16) -> [u8; HEADER] {
    let [i0, i1] = identity.to_be_bytes();
    let [s0, s1] = sequence.to_be_bytes();
    let mut message = [if v6 { 128 } else { 8 }, 0, 0, 0, i0, i1, s0, s1];
    if !v6 {
        let [c0, c1] = checksum(&message).to_be_bytes();
        (message[2], message[3]) = (c0, c1);
    }
    message
}

/// Whether `packet`, as a raw socket gives it (of IPv4 with the IP header), answers that question.
#[must_use]
pub fn is_answer(packet: &[u8], v6: bool, identity: u16, sequence: u16) -> bool {
    let begin = if v6 { 0 } else { packet.first().map_or(0, |first| usize::from(first & 15) * 4) };
    let Some(message) = packet.get(begin..).and_then(|rest| rest.first_chunk::<HEADER>()) else {
        return false;
    };
    let [kind, 0, _, _, i0, i1, s0, s1] = *message else { return false };
    let asked = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]));
    kind == (if v6 { 129 } else { 0 }) && asked == (identity, sequence)
}

/// RFC 1071.
fn checksum(message: &[u8; HEADER]) -> u16 {
    let sum: u32 = message.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    // After one more fold nothing is left above 16 bits.
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_and_answer() {
        // As `ping` sends it.
        assert_eq!(request(false, 0x1234, 1), [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1]);
        assert_eq!(request(true, 0x1234, 1), [128, 0, 0, 0, 0x12, 0x34, 0, 1]);
        let v4 = [&[0x45][..], &[0; 19], &[0, 0, 0xed, 0xca, 0x12, 0x34, 0, 1]].concat();
        assert!(is_answer(&v4, false, 0x1234, 1));
        assert!(!is_answer(&v4, false, 0x1234, 2) && !is_answer(&v4, false, 0x1235, 1));
        assert!(is_answer(&[129, 0, 0, 0, 0x12, 0x34, 0, 1], true, 0x1234, 1));
        let unreachable = [&[0x45][..], &[0; 19], &[3, 0, 0, 0, 0x12, 0x34, 0, 1]].concat();
        assert!(!is_answer(&unreachable, false, 0x1234, 1), "a router's word is no answer");
        for length in 0..v4.len() {
            assert!(!is_answer(&v4[..length], false, 0x1234, 1), "cut off at {length}");
        }
    }
}
