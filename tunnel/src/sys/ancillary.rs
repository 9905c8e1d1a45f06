//! The control messages of a datagram: its local address (`in_pktinfo` of ip(7), `in6_pktinfo` of RFC 3542
//! §6.1), and the length of each of several datagrams in one buffer (UDP_SEGMENT and UDP_GRO of udp(7)).
//! Read and written as octets, so nothing here is unsafe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of a `cmsghdr`: a length of the size of a pointer, a level and a type. Data follow at once,
/// since the sum is a multiple of the alignment on every Linux.
const HEADER: usize = size_of::<libc::cmsghdr>();
const ALIGN: usize = align_of::<usize>();
/// Data of the longest message.
const LONGEST: usize = size_of::<libc::in6_pktinfo>();

/// Room for the longest message and one integer, each with its header and padding.
pub(super) const ROOM: usize = (HEADER + LONGEST).next_multiple_of(ALIGN) + HEADER + ALIGN;

/// The local address among the control messages of a datagram.
pub(super) fn local_address(control: &[u8]) -> Option<IpAddr> {
    messages(control).find_map(|(level, kind, data)| match (level, kind) {
        // ipi_ifindex, ipi_spec_dst, ipi_addr: the second is the local address.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            Some(Ipv4Addr::from(*data.get(4..)?.first_chunk::<4>()?).into())
        }
        // ipi6_addr, ipi6_ifindex.
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => Some(Ipv6Addr::from(*data.first_chunk::<16>()?).into()),
        _ => None,
    })
}

/// The length of each datagram but the last one, if the kernel has joined several.
pub(super) fn gro_segment(control: &[u8]) -> Option<usize> {
    let message = |level, kind| (level, kind) == (libc::SOL_UDP, libc::UDP_GRO);
    let (_, _, data) = messages(control).find(|&(level, kind, _)| message(level, kind))?;
    usize::try_from(libc::c_int::from_ne_bytes(*data.first_chunk()?)).ok().filter(|&size| size > 0)
}

/// Level, type and data of each message; ends at the first broken one.
fn messages(mut control: &[u8]) -> impl Iterator<Item = (libc::c_int, libc::c_int, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = control.split_first_chunk::<{ size_of::<usize>() }>()?;
        let length = usize::from_ne_bytes(*length);
        let (level, rest) = rest.split_first_chunk()?;
        let kind = rest.first_chunk()?;
        let data = control.get(HEADER..length)?;
        control = control.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data))
    })
}

/// Writes the control messages that ask for `from` as the source, the interface left to the routes, and for
/// datagrams of `segment` octets. Returns their length, 0 if nothing is asked for.
pub(super) fn write(from: Option<IpAddr>, segment: Option<u16>, control: &mut [u8; ROOM]) -> usize {
    *control = [0; ROOM];
    let mut end = 0;
    match from {
        Some(IpAddr::V4(v4)) => {
            let mut data = [0; size_of::<libc::in_pktinfo>()];
            data[4..8].copy_from_slice(&v4.octets());
            push(control, &mut end, libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
        }
        Some(IpAddr::V6(v6)) => {
            let mut data = [0; LONGEST];
            data[..16].copy_from_slice(&v6.octets());
            push(control, &mut end, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
        }
        None => {}
    }
    if let Some(segment) = segment {
        push(control, &mut end, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }
    end
}

fn push(control: &mut [u8; ROOM], end: &mut usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
    let message = &mut control[*end..];
    let length = HEADER + data.len();
    message[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
    message[HEADER - 8..HEADER - 4].copy_from_slice(&level.to_ne_bytes());
    message[HEADER - 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
    message[HEADER..length].copy_from_slice(data);
    *end += length.next_multiple_of(ALIGN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for address in ["192.0.2.1", "2001:db8::1", "fe80::1"] {
            let address: IpAddr = address.parse().unwrap();
            for segment in [None, Some(1452)] {
                let mut control = [0xff; ROOM];
                let length = write(Some(address), segment, &mut control);
                assert_eq!(local_address(&control[..length]), Some(address));
            }
        }
        assert_eq!(write(None, None, &mut [0; ROOM]), 0);
    }

    #[test]
    fn the_length_of_joined_datagrams() {
        let mut control = [0; ROOM];
        let mut end = 0;
        push(&mut control, &mut end, libc::IPPROTO_IP, libc::IP_PKTINFO, &[0; 12]);
        assert_eq!(gro_segment(&control[..end]), None);
        push(&mut control, &mut end, libc::SOL_UDP, libc::UDP_GRO, &1452_i32.to_ne_bytes());
        assert_eq!(gro_segment(&control[..end]), Some(1452));
        let mut none = [0; ROOM];
        push(&mut none, &mut 0, libc::SOL_UDP, libc::UDP_GRO, &0_i32.to_ne_bytes());
        assert_eq!(gro_segment(&none), None, "a length of 0 would never end");
    }

    #[test]
    fn other_messages_are_passed_over_and_broken_ones_end_it() {
        let mut control = [0; ROOM];
        let length = write(Some("192.0.2.1".parse().unwrap()), None, &mut control);
        let mut other = control;
        other[HEADER - 4] = 99;
        let both = [&other[..length], &control[..length]].concat();
        assert_eq!(local_address(&both), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(local_address(&other[..length]), None);
        for cut in 0..HEADER + size_of::<libc::in_pktinfo>() {
            assert_eq!(local_address(&control[..cut]), None, "{cut}");
        }
        for stated in [0, 1, HEADER - 1, usize::MAX / 2, usize::MAX - 8] {
            control[..size_of::<usize>()].copy_from_slice(&stated.to_ne_bytes());
            assert_eq!(local_address(&control), None, "{stated}");
        }
    }
}
