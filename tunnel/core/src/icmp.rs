//! What the tunnel says inward about a packet that is too large for the path: ICMP "fragmentation needed"
//! (RFC 792, RFC 1191 §4) and ICMPv6 "packet too big" (RFC 4443 §3.2).
//!
//! The message comes from the address that the packet was for: that route leads into the tunnel, so no filter on
//! the way back finds it out of place, and the engine knows no address of its own. Which packets deserve a
//! message, and how many a second, is decided here; what fits is decided by [`crate::path_mtu`].

use crate::offload::checksum;
use std::time::{Duration, Instant};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Octets of an IPv4 error as a whole (RFC 1812 §4.3.2.3).
const MAX_V4: usize = 576;
/// Octets of an IPv6 error as a whole (RFC 4443 §2.4 (c)).
const MAX_V6: usize = 1280;
/// The longest message.
pub(crate) const MAX_MESSAGE: usize = MAX_V6;
/// Messages that may go out at once, and every how long one more may (Linux: 50 and 1,000 a second).
const BURST: u32 = 50;
const INTERVAL: Duration = Duration::from_millis(1);

/// Bounds the messages of one lane (RFC 4443 §2.4 (f)).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance {
    left: u32,
    /// When some were added last; none before the first message.
    since: Option<Instant>,
}

impl Allowance {
    /// Whether one more message may go out.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = |since| now.saturating_duration_since(since).as_millis() / INTERVAL.as_millis();
        // At most BURST are added, whatever has passed.
        let more = self.since.map_or(BURST, |since| passed(since).min(BURST.into()) as u32);
        if more > 0 {
            self.left = BURST.min(self.left + more);
            self.since = Some(now);
        }
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

/// Writes into `message` that `packet` is too large and `mtu` octets would pass. Returns the length; `None` for a
/// packet that must not be answered: an error itself, a fragment but the first, to or from many.
pub(crate) fn too_big(packet: &[u8], mtu: u16, message: &mut [u8; MAX_MESSAGE]) -> Option<usize> {
    match packet.first()? >> 4 {
        4 => too_big_v4(packet, mtu, message),
        6 => too_big_v6(packet, mtu, message),
        _ => None,
    }
}

fn too_big_v4(packet: &[u8], mtu: u16, message: &mut [u8; MAX_MESSAGE]) -> Option<usize> {
    let header = packet.first_chunk::<20>()?;
    let transport = usize::from(header[0] & 0x0f) * 4;
    let later_fragment = header[6] & 0x1f != 0 || header[7] != 0;
    let (source, destination) = (&header[12..16], &header[16..20]);
    // Multicast, reserved and broadcast above 224; "this network" and loopback as a source.
    let many = destination[0] >= 224 || source[0] >= 224 || matches!(source[0], 0 | 127);
    let is_error = header[9] == ICMP && !matches!(packet.get(transport), Some(0 | 8 | 13..=18 | 42 | 43));
    if later_fragment || many || is_error {
        return None;
    }
    let len = (20 + 8 + packet.len()).min(MAX_V4);
    let (ip, icmp) = message[..len].split_at_mut(20);
    // Network control (RFC 1812 §4.3.2.5), no fragments, 64 hops.
    ip.copy_from_slice(&[0x45, 0xc0, 0, 0, 0, 0, 0x40, 0, 64, ICMP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    ip[12..16].copy_from_slice(destination);
    ip[16..20].copy_from_slice(source);
    let sum = checksum::finish(checksum::add(0, ip));
    ip[10..12].copy_from_slice(&sum);
    // Destination unreachable, fragmentation needed and DF set.
    icmp[..8].copy_from_slice(&[3, 4, 0, 0, 0, 0, 0, 0]);
    icmp[6..8].copy_from_slice(&mtu.to_be_bytes());
    icmp[8..].copy_from_slice(&packet[..len - 28]);
    let sum = checksum::finish(checksum::add(0, icmp));
    icmp[2..4].copy_from_slice(&sum);
    Some(len)
}

fn too_big_v6(packet: &[u8], mtu: u16, message: &mut [u8; MAX_MESSAGE]) -> Option<usize> {
    let header = packet.first_chunk::<40>()?;
    let (source, destination) = (&header[8..24], &header[24..40]);
    let no_sender = source[0] == 0xff || source == [0; 16];
    // Types below 128 are errors. Extension headers may hide one: then the rate bounds the harm.
    let is_error = header[6] == ICMPV6 && packet.get(40).is_none_or(|kind| *kind < 128);
    if no_sender || is_error {
        return None;
    }
    let len = (40 + 8 + packet.len()).min(MAX_V6);
    let (ip, icmp) = message[..len].split_at_mut(40);
    ip[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, ICMPV6, 64]);
    ip[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
    // A multicast group cannot be a source; its sender will do (RFC 4443 §2.2 leaves the choice).
    ip[8..24].copy_from_slice(if destination[0] == 0xff { source } else { destination });
    ip[24..40].copy_from_slice(source);
    icmp[..8].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0]);
    icmp[6..8].copy_from_slice(&mtu.to_be_bytes());
    icmp[8..].copy_from_slice(&packet[..len - 48]);
    let sum = checksum::pseudo_header(&ip[8..40], ICMPV6, len - 40);
    let sum = checksum::finish(checksum::add(sum, icmp));
    icmp[2..4].copy_from_slice(&sum);
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(len: usize, protocol: u8) -> Vec<u8> {
        let mut packet = vec![0x5a; len];
        packet[..20]
            .copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet
    }

    fn v6(len: usize, next: u8) -> Vec<u8> {
        let mut packet = vec![0x5a; len];
        packet[..40].fill(0);
        (packet[0], packet[6], packet[7]) = (0x60, next, 64);
        packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        (packet[8], packet[23], packet[24], packet[39]) = (0xfd, 1, 0xfd, 2);
        packet
    }

    fn written(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
        let mut message = [0xee; MAX_MESSAGE];
        too_big(packet, mtu, &mut message).map(|len| message[..len].to_vec())
    }

    #[test]
    fn fragmentation_needed() {
        for len in [600, 1420] {
            let packet = v4(len, 6);
            let message = written(&packet, 1220).unwrap();
            assert_eq!(message.len(), 576);
            assert_eq!(message[2..4], 576_u16.to_be_bytes());
            assert_eq!(
                message[12..20],
                [10, 0, 0, 2, 10, 0, 0, 1],
                "from where it went, to where it came from"
            );
            assert_eq!(checksum::finish(checksum::add(0, &message[..20])), [0, 0]);
            assert_eq!(checksum::finish(checksum::add(0, &message[20..])), [0, 0]);
            assert_eq!((message[20], message[21], &message[26..28]), (3, 4, &1220_u16.to_be_bytes()[..]));
            assert_eq!(message[28..], packet[..548]);
        }
    }

    #[test]
    fn packet_too_big() {
        let packet = v6(1420, 17);
        let message = written(&packet, 1280).unwrap();
        assert_eq!(message.len(), 1280);
        assert_eq!((message[23], message[39]), (2, 1));
        let sum = checksum::pseudo_header(&message[8..40], ICMPV6, 1240);
        assert_eq!(checksum::finish(checksum::add(sum, &message[40..])), [0, 0]);
        assert_eq!((message[40], message[41], &message[44..48]), (2, 0, &1280_u32.to_be_bytes()[..]));
        assert_eq!(message[48..], packet[..1232]);
    }

    #[test]
    fn what_must_not_be_answered() {
        let with = |mut packet: Vec<u8>, changes: &[(usize, u8)]| {
            for &(at, octet) in changes {
                packet[at] = octet;
            }
            written(&packet, 1280).is_some()
        };
        assert!(with(v4(1420, ICMP), &[(20, 8)]), "an echo request");
        assert!(!with(v4(1420, ICMP), &[(20, 3)]), "an error");
        assert!(!with(v4(1420, ICMP), &[(20, 11)]), "an error");
        assert!(with(v4(1420, 17), &[(6, 0x20)]), "a first fragment");
        assert!(!with(v4(1420, 17), &[(7, 1)]), "a later fragment");
        assert!(!with(v4(1420, 17), &[(16, 224)]), "to many");
        assert!(!with(v4(1420, 17), &[(12, 0)]), "from nobody");
        assert!(with(v6(1420, ICMPV6), &[(40, 128)]), "an echo request");
        assert!(!with(v6(1420, ICMPV6), &[(40, 1)]), "an error");
        assert!(with(v6(1420, 17), &[(24, 0xff)]), "to many: RFC 4443 §2.4 (e) allows this one");
        assert!(!with(v6(1420, 17), &[(8, 0xff)]), "from many");
    }

    #[test]
    fn messages_are_rationed() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let mut now = Instant::now();
        let mut allowance = Allowance::default();
        let granted = (0..1000).filter(|_| allowance.take(now)).count();
        assert_eq!(granted, BURST as usize);
        let mut granted = 0;
        for _ in 0..10_000 {
            now += Duration::from_micros(100);
            granted += usize::from(allowance.take(now));
        }
        assert!((990..=1010).contains(&granted), "{granted} in a second");
        now += Duration::from_secs(3600);
        let granted = (0..1000).filter(|_| allowance.take(now)).count();
        assert_eq!(granted, BURST as usize);
    }

    proptest::proptest! {
        #[test]
        fn any_packet(packet: Vec<u8>, mtu: u16) {
            if let Some(message) = written(&packet, mtu) {
                proptest::prop_assert!(message.len() <= packet.len() + 48);
                proptest::prop_assert!(written(&message, mtu).is_none(), "an answer to an answer");
            }
        }
    }
}
