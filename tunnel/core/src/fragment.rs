//! Cuts an IPv4 packet that is too large for the path and may be cut (RFC 791 §2.3).
//!
//! Inner packets are cut before they are sealed, as a router in front of a narrow link does it: the fragments
//! then travel in whole datagrams, which no filter on the way drops for being fragments.

use crate::offload::checksum;

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
const DONT_FRAGMENT: u8 = 0x40;
/// An option is in all fragments if its highest bit is set, else in the first one only (RFC 791 §3.1).
const COPIED: u8 = 0x80;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Whether `packet` is IPv4 and may be cut.
pub(crate) fn may_be_cut(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
        && packet.get(6).is_some_and(|flags| flags & DONT_FRAGMENT == 0)
}

/// Gives the fragments of an IPv4 `packet`, each of at most `mtu` octets, one after the other in `room`, which is
/// at least as long as `mtu`. False if it is not a whole packet, or `mtu` leaves no room for a payload.
pub(crate) fn cut(packet: &[u8], mtu: usize, room: &mut [u8], mut take: impl FnMut(&[u8])) -> bool {
    let Some((header, payload)) = parts(packet) else { return false };
    let field = u16::from_be_bytes([header[6], header[7]]);
    let mut later = [0; 60];
    let Some(later_len) = later_header(header, &mut later) else { return false };
    let mut rest = payload;
    let mut offset = field & OFFSET;
    while !rest.is_empty() {
        let first = rest.len() == payload.len();
        let header = if first { header } else { &later[..later_len] };
        let Some(space) = mtu.checked_sub(header.len()).filter(|space| *space >= 8) else { return false };
        let len = if rest.len() <= space { rest.len() } else { space & !7 };
        let (now, after) = rest.split_at(len);
        let Some(fragment) = room.get_mut(..header.len() + len) else { return false };
        let (head, body) = fragment.split_at_mut(header.len());
        head.copy_from_slice(header);
        body.copy_from_slice(now);
        let more = if after.is_empty() { field & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        let total = (header.len() + len) as u16;
        head[2..4].copy_from_slice(&total.to_be_bytes());
        head[6..8].copy_from_slice(&(offset | more).to_be_bytes());
        head[10..12].fill(0);
        let sum = checksum::finish(checksum::add(0, head));
        head[10..12].copy_from_slice(&sum);
        take(fragment);
        // A packet of 64 KiB has 8,192 units of 8 octets.
        offset = (offset + (len / 8) as u16) & OFFSET;
        rest = after;
    }
    true
}

/// Header and payload, without what may follow the packet.
fn parts(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = packet.first_chunk::<20>().filter(|start| start[0] >> 4 == 4)?;
    let header_len = usize::from(start[0] & 0x0f) * 4;
    let whole = packet.get(..usize::from(u16::from_be_bytes([start[2], start[3]])))?;
    let parts = whole.split_at_checked(header_len).filter(|_| header_len >= 20)?;
    // A wrong checksum must not be healed by the new ones.
    (checksum::finish(checksum::add(0, parts.0)) == [0, 0]).then_some(parts)
}

/// The header of all fragments but the first: without the options that are not for them.
fn later_header(header: &[u8], later: &mut [u8; 60]) -> Option<usize> {
    later[..20].copy_from_slice(&header[..20]);
    let mut len = 20;
    let mut options = &header[20..];
    while let [kind, after @ ..] = options {
        let option = match *kind {
            END => break,
            NO_OPERATION => 1,
            _ => usize::from(*after.first()?).max(2),
        };
        let (option, rest) = options.split_at_checked(option)?;
        if kind & COPIED != 0 {
            later[len..len + option.len()].copy_from_slice(option);
            len += option.len();
        }
        options = rest;
    }
    // Padded by END, which is 0.
    len = len.next_multiple_of(4);
    later[0] = 0x40 | (len / 4) as u8;
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(options: &[u8], payload: usize, field: u16) -> Vec<u8> {
        let header = 20 + options.len();
        let mut packet = vec![0x40 | (header / 4) as u8, 0, 0, 0, 0x77, 0x77, 0, 0, 64, 17, 0, 0];
        packet[2..4].copy_from_slice(&((header + payload) as u16).to_be_bytes());
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(options);
        let sum = checksum::finish(checksum::add(0, &packet));
        packet[10..12].copy_from_slice(&sum);
        packet.extend((0..payload).map(|at| (at * 7) as u8));
        packet
    }

    fn pieces(packet: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
        let (mut pieces, mut room) = (Vec::new(), vec![0; mtu]);
        cut(packet, mtu, &mut room, |piece| pieces.push(piece.to_vec())).then_some(pieces)
    }

    /// Payload by offset, as a receiver puts it together; the last fragment must say so.
    fn joined(pieces: &[Vec<u8>]) -> (Vec<u8>, bool) {
        let mut payload = Vec::new();
        let mut more = true;
        let base = u16::from_be_bytes([pieces[0][6], pieces[0][7]]) & OFFSET;
        for piece in pieces {
            assert!(more, "something after the last fragment");
            let (header, body) = parts(piece).unwrap();
            let field = u16::from_be_bytes([header[6], header[7]]);
            assert_eq!(usize::from((field & OFFSET) - base) * 8, payload.len());
            more = field & MORE_FRAGMENTS != 0;
            payload.extend(body);
        }
        (payload, more)
    }

    #[test]
    fn fragments_fit_and_join_again() {
        for (mtu, payload, count) in
            [(1220, 1400, 2), (1220, 1201, 2), (1220, 1200, 1), (68, 480, 10), (28, 9, 2)]
        {
            let packet = packet(&[], payload, 0);
            let pieces = pieces(&packet, mtu).unwrap();
            assert_eq!(pieces.len(), count, "{payload} in {mtu}");
            assert!(pieces.iter().all(|piece| piece.len() <= mtu));
            assert_eq!(joined(&pieces), (packet[20..].to_vec(), false));
        }
    }

    #[test]
    fn a_fragment_is_cut_further() {
        let packet = packet(&[], 1400, MORE_FRAGMENTS | 100);
        let pieces = pieces(&packet, 1220).unwrap();
        assert_eq!(joined(&pieces), (packet[20..].to_vec(), true));
    }

    #[test]
    fn options_go_where_they_belong() {
        // Record route (not copied), no operation, router alert (copied).
        let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0];
        let packet = packet(&options, 1400, 0);
        let pieces = pieces(&packet, 1220).unwrap();
        assert_eq!(pieces[0][20..32], options);
        assert_eq!(pieces[1][0], 0x46);
        assert_eq!(pieces[1][20..24], [148, 4, 0, 0]);
        assert_eq!(joined(&pieces), (packet[32..].to_vec(), false));
    }

    #[test]
    fn what_is_not_whole_is_not_cut() {
        let good = packet(&[], 1400, 0);
        assert!(may_be_cut(&good));
        assert!(!may_be_cut(&packet(&[], 1400, 0x4000)));
        assert!(!may_be_cut(&[0x60; 40]));
        let mut damaged = good.clone();
        damaged[10] ^= 1;
        assert_eq!(pieces(&damaged, 1220), None, "a wrong checksum");
        assert_eq!(pieces(&good[..1000], 1220), None, "less than it claims");
        assert_eq!(pieces(&good, 27), None, "no room");
        assert_eq!(pieces(&packet(&[7, 60, 4, 0], 1400, 0), 1220), None, "an option beyond the header");
    }

    proptest::proptest! {
        #[test]
        fn any_packet(octets: Vec<u8>, options: Vec<u8>, payload in 0usize..3000, mtu in 0usize..2000) {
            pieces(&octets, mtu);
            let mut options = options;
            options.resize(options.len().min(40).next_multiple_of(4), 0);
            if let Some(pieces) = pieces(&packet(&options, payload, 0), mtu) {
                proptest::prop_assert!(pieces.iter().all(|piece| piece.len() <= mtu));
            }
        }
    }
}
