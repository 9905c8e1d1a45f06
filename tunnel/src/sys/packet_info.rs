//! The control message that carries a datagram's local address: `in_pktinfo` of ip(7), `in6_pktinfo` of
//! RFC 3542 §6.1. Read and written as octets, so nothing here is unsafe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of a `cmsghdr`: a length of the size of a pointer, a level and a type. Data follow at once,
/// since the sum is a multiple of the alignment on every Linux.
const HEADER: usize = size_of::<libc::cmsghdr>();
const V4: usize = size_of::<libc::in_pktinfo>();
const V6: usize = size_of::<libc::in6_pktinfo>();

/// Room for the larger of the two, with its header and padding.
pub(super) const ROOM: usize = (HEADER + V6).next_multiple_of(align_of::<usize>());

/// Finds the local address in the control messages of one datagram.
pub(super) fn local_address(mut control: &[u8]) -> Option<IpAddr> {
    while control.len() >= HEADER {
        let (length, rest) = control.split_first_chunk::<{ size_of::<usize>() }>()?;
        let length = usize::from_ne_bytes(*length);
        let (level, rest) =
            rest.split_first_chunk().map(|(level, rest)| (i32::from_ne_bytes(*level), rest))?;
        let kind = i32::from_ne_bytes(*rest.first_chunk()?);
        let data = control.get(HEADER..length)?;
        match (level, kind) {
            // ipi_ifindex, ipi_spec_dst, ipi_addr: the second is the local address.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                return Some(Ipv4Addr::from(*data.get(4..)?.first_chunk::<4>()?).into());
            }
            // ipi6_addr, ipi6_ifindex.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                return Some(Ipv6Addr::from(*data.first_chunk::<16>()?).into());
            }
            _ => control = control.get(length.next_multiple_of(align_of::<usize>())..)?,
        }
    }
    None
}

/// Writes a control message that asks for `from` as the source, and returns its length. The interface is
/// left to the routes.
pub(super) fn write(from: IpAddr, control: &mut [u8; ROOM]) -> usize {
    *control = [0; ROOM];
    let (length, level, kind) = match from {
        IpAddr::V4(v4) => {
            control[HEADER + 4..HEADER + 8].copy_from_slice(&v4.octets());
            (HEADER + V4, libc::IPPROTO_IP, libc::IP_PKTINFO)
        }
        IpAddr::V6(v6) => {
            control[HEADER..HEADER + 16].copy_from_slice(&v6.octets());
            (HEADER + V6, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
        }
    };
    control[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
    control[HEADER - 8..HEADER - 4].copy_from_slice(&level.to_ne_bytes());
    control[HEADER - 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
    length.next_multiple_of(align_of::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for address in ["192.0.2.1", "2001:db8::1", "fe80::1"] {
            let address: IpAddr = address.parse().unwrap();
            let mut control = [0xff; ROOM];
            let length = write(address, &mut control);
            assert_eq!(local_address(&control[..length]), Some(address));
        }
    }

    #[test]
    fn other_messages_are_passed_over_and_broken_ones_end_it() {
        let mut control = [0; ROOM];
        let length = write("192.0.2.1".parse().unwrap(), &mut control);
        let mut other = control;
        other[HEADER - 4] = 99;
        let both = [&other[..length], &control[..length]].concat();
        assert_eq!(local_address(&both), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(local_address(&other[..length]), None);
        for cut in 0..HEADER + V4 {
            assert_eq!(local_address(&control[..cut]), None, "{cut}");
        }
        for stated in [0, 1, HEADER - 1, usize::MAX / 2, usize::MAX] {
            control[..size_of::<usize>()].copy_from_slice(&stated.to_ne_bytes());
            assert_eq!(local_address(&control), None, "{stated}");
        }
    }
}
