//! The few header fields of an inner IP packet that routing needs (RFC 791 §3.1, RFC 8200 §3).
//!
//! Nothing is believed about a packet beyond its own length; options and upper layers are not looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Destination of a packet from the TUN device; `None` when it is no complete IPv4 or IPv6 header.
#[must_use]
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => Some(v4(packet.get(16..20)?)?.into()),
        6 if packet.len() >= 40 => Some(v6(packet.get(24..40)?)?.into()),
        _ => None,
    }
}

fn v4(octets: &[u8]) -> Option<Ipv4Addr> {
    Some(<[u8; 4]>::try_from(octets).ok()?.into())
}

fn v6(octets: &[u8]) -> Option<Ipv6Addr> {
    Some(<[u8; 16]>::try_from(octets).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn destinations() {
        let mut packet = [0; 40];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&[10, 8, 0, 1]);
        assert_eq!(destination(&packet), Some("10.8.0.1".parse().unwrap()));
        assert_eq!(destination(&packet[..19]), None);
        packet[0] = 0x60;
        packet[24] = 0xfd;
        assert_eq!(destination(&packet), Some("fd00::".parse().unwrap()));
        assert_eq!(destination(&packet[..39]), None);
        packet[0] = 0x50;
        assert_eq!(destination(&packet), None);
        assert_eq!(destination(&[]), None);
    }

    proptest! {
        #[test]
        fn any_octets(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            let version = packet.first().map(|first| first >> 4);
            if let Some(address) = destination(&packet) {
                prop_assert_eq!(address.is_ipv4(), version == Some(4));
            }
        }
    }
}
