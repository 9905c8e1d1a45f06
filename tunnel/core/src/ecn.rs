//! Congestion marks across the tunnel: RFC 6040 in normal mode, for both ends.
//!
//! On the way out the mark of the inner packet is copied to the datagram that carries it; on the way in the mark
//! of the datagram is merged into the packet by the table of RFC 6040 §4.2, so that a congested router between
//! the ends slows down the flow that congests it. The differentiated-services field stays inside, as with the
//! kernel's WireGuard, unless the shell asks for it: it tells an observer what kind of traffic this is. How the
//! octet gets into and out of the datagram's IP header is left to the shell.

/// The ECN field of an IP header (RFC 3168 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ecn {
    /// The transport does not take marks: congestion is told by loss.
    #[default]
    NotEct,
    /// ECN-capable, with the meaning of RFC 9331 (L4S).
    Ect1,
    /// ECN-capable.
    Ect0,
    /// Congestion experienced.
    Ce,
}

impl Ecn {
    /// The mark in a ToS or traffic-class octet.
    #[must_use]
    pub const fn of_octet(octet: u8) -> Self {
        match octet & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::NotEct => 0b00,
            Self::Ect1 => 0b01,
            Self::Ect0 => 0b10,
            Self::Ce => 0b11,
        }
    }
}

/// What the datagram's mark did to the packet in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// The packet goes on as it is.
    Kept,
    /// The packet goes on, now with the mark of the datagram.
    Marked,
    /// The packet goes on as it is, though no honest path makes this pair: the `(!!!)` of RFC 6040 §4.2.
    Unexpected,
    /// Congestion on a packet that cannot carry the news: it is to be dropped, which its sender will understand.
    Dropped,
}

/// The ToS (IPv4) or traffic class (IPv6) of an inner packet; 0 when it is neither.
#[must_use]
pub(crate) fn octet_of(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 4 => *second,
        [first, second, ..] if first >> 4 == 6 => first << 4 | second >> 4,
        _ => 0,
    }
}

/// The octet for the datagram around a packet with octet `inner` (RFC 6040 §4.1, normal mode). With `copy_dscp`
/// the upper six bits are copied as well, else they are 0.
#[must_use]
pub(crate) const fn outer_octet(inner: u8, copy_dscp: bool) -> u8 {
    if copy_dscp { inner } else { inner & 0b11 }
}

/// Merges the mark of a datagram into the packet that it carried (RFC 6040 §4.2).
#[must_use]
pub(crate) fn merge(outer: Ecn, packet: &mut [u8]) -> Merged {
    let inner = Ecn::of_octet(octet_of(packet));
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => Merged::Dropped,
        (Ecn::NotEct, Ecn::Ect0 | Ecn::Ect1) | (Ecn::Ce, Ecn::Ect1) => Merged::Unexpected,
        (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) | (Ecn::Ect0, Ecn::Ect1) => {
            set(packet, outer);
            Merged::Marked
        }
        _ => Merged::Kept,
    }
}

/// Writes the mark of a packet, and keeps the checksum of an IPv4 header what it was: right or wrong.
fn set(packet: &mut [u8], mark: Ecn) {
    let Some(header) = packet.first_chunk_mut::<20>() else { return };
    if header[0] >> 4 == 6 {
        header[1] = header[1] & 0b1100_1111 | mark.bits() << 4;
        return;
    }
    let word = |header: &[u8; 20]| u32::from(u16::from_be_bytes([header[0], header[1]]));
    let before = word(header);
    header[1] = header[1] & 0b1111_1100 | mark.bits();
    // HC' = ~(~HC + ~m + m') (RFC 1624 §3).
    let checksum = u32::from(!u16::from_be_bytes([header[10], header[11]]));
    let sum = checksum + (!before & 0xffff) + word(header);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::checksum;
    use Ecn::{Ce, Ect0, Ect1, NotEct};
    use Merged::{Dropped, Kept, Marked, Unexpected};

    fn v4(octet: u8) -> Vec<u8> {
        let mut packet =
            vec![0x45, octet, 0, 24, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let checksum = checksum::finish(checksum::add(0, &packet));
        packet[10..12].copy_from_slice(&checksum);
        packet.extend([1, 2, 3, 4]);
        packet
    }

    fn v6(octet: u8) -> Vec<u8> {
        let mut packet = vec![0; 44];
        (packet[0], packet[1]) = (0x60 | octet >> 4, octet << 4 | 0x0a);
        packet
    }

    /// RFC 6040 §4.2, figure 4: inner mark, outer mark, mark that arrives.
    const TABLE: [(Ecn, Ecn, Ecn, Merged); 16] = [
        (NotEct, NotEct, NotEct, Kept),
        (NotEct, Ect0, NotEct, Unexpected),
        (NotEct, Ect1, NotEct, Unexpected),
        (NotEct, Ce, NotEct, Dropped),
        (Ect0, NotEct, Ect0, Kept),
        (Ect0, Ect0, Ect0, Kept),
        (Ect0, Ect1, Ect1, Marked),
        (Ect0, Ce, Ce, Marked),
        (Ect1, NotEct, Ect1, Kept),
        (Ect1, Ect0, Ect1, Kept),
        (Ect1, Ect1, Ect1, Kept),
        (Ect1, Ce, Ce, Marked),
        (Ce, NotEct, Ce, Kept),
        (Ce, Ect0, Ce, Kept),
        (Ce, Ect1, Ce, Unexpected),
        (Ce, Ce, Ce, Kept),
    ];

    #[test]
    fn the_table_of_the_way_in() {
        for (inner, outer, arriving, merged) in TABLE {
            for dscp in [0, 0b1011_1000] {
                for make in [v4, v6] {
                    let mut packet = make(dscp | inner.bits());
                    assert_eq!(merge(outer, &mut packet), merged, "{inner:?} in {outer:?}");
                    // The checksum of v4() is computed anew here, by addition over the whole header.
                    assert_eq!(packet, make(dscp | arriving.bits()), "{inner:?} in {outer:?}");
                }
            }
        }
    }

    #[test]
    fn the_way_out_copies_the_mark_and_the_rest_when_asked() {
        for octet in 0..=255 {
            assert_eq!(octet_of(&v4(octet)), octet);
            assert_eq!(octet_of(&v6(octet)), octet);
            assert_eq!(outer_octet(octet, false), octet & 3);
            assert_eq!(outer_octet(octet, true), octet);
        }
        assert_eq!(octet_of(&[]), 0);
        assert_eq!(octet_of(&[0x45]), 0);
        assert_eq!(octet_of(&[0x50, 0xff]), 0);
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let mut packet = v4(Ect0.bits());
        packet[11] ^= 0x40;
        assert_eq!(merge(Ce, &mut packet), Marked);
        let mut right = v4(Ce.bits());
        right[11] ^= 0x40;
        assert_ne!(packet[10..12], v4(Ce.bits())[10..12]);
        assert_ne!(checksum::finish(checksum::add(0, &packet[..20])), [0, 0]);
    }

    proptest::proptest! {
        #[test]
        fn any_octets(mut packet: Vec<u8>, outer: u8) {
            let before = packet.clone();
            let merged = merge(Ecn::of_octet(outer), &mut packet);
            if merged != Marked {
                proptest::prop_assert_eq!(packet, before);
            }
        }
    }
}
