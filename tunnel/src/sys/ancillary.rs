//! The control messages of a datagram: its local address and interface (`in_pktinfo` of ip(7), `in6_pktinfo` of
//! RFC 3542 §6.1), its ToS or traffic class (RFC 3542 §6.5), the length of each of several datagrams in one
//! buffer (UDP_SEGMENT and UDP_GRO of udp(7)), and errors from the path (IP_RECVERR of ip(7)).
//! Read and written as octets, so nothing here is unsafe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of a `cmsghdr`: a length of the size of a pointer, a level and a type. Data follow at once,
/// since the sum is a multiple of the alignment on every Linux.
const HEADER: usize = size_of::<libc::cmsghdr>();
const ALIGN: usize = align_of::<usize>();

/// Room for a message with this much data.
const fn room(data: usize) -> usize {
    HEADER + data.next_multiple_of(ALIGN)
}

/// Room for all that comes with one datagram: where it arrived, its ToS, the length of its parts, and an error
/// with the address of who reported it.
pub(super) const ROOM: usize = room(size_of::<libc::in6_pktinfo>())
    + 2 * room(4)
    + room(EXTENDED_ERROR + size_of::<libc::sockaddr_in6>());

/// Octets of `struct sock_extended_err` (linux/errqueue.h).
const EXTENDED_ERROR: usize = 16;

/// An address of ours, and the interface by which datagrams come to it and leave from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) address: IpAddr,
    /// Number of the interface; 0 leaves it to the routes.
    pub(crate) interface: u32,
}

/// What the kernel tells of a datagram on the fast path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    /// The length of each datagram but the last one, if the kernel has joined several.
    pub(super) segment: Option<usize>,
    /// ToS or traffic class; 0 unless the socket asked for it.
    pub(super) tos: u8,
}

/// Reads what every datagram is asked for.
pub(super) fn arrival(control: &[u8]) -> Arrival {
    let mut arrival = Arrival::default();
    for (level, kind, data) in messages(control) {
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = integer(data).and_then(|size| usize::try_from(size).ok());
                arrival.segment = size.filter(|&size| size > 0);
            }
            // An octet in IPv4, an integer in IPv6.
            (libc::IPPROTO_IP, libc::IP_TOS) => arrival.tos = data.first().copied().unwrap_or_default(),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => arrival.tos = integer(data).unwrap_or_default() as u8,
            _ => {}
        }
    }
    arrival
}

/// The address and interface that a datagram came to.
pub(super) fn local(control: &[u8]) -> Option<Local> {
    messages(control).find_map(|(level, kind, data)| match (level, kind) {
        // ipi_ifindex, ipi_spec_dst, ipi_addr: the second is the local address.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let interface = u32::from_ne_bytes(*data.first_chunk()?);
            let address = Ipv4Addr::from(*data.get(4..)?.first_chunk::<4>()?).into();
            Some(Local { address, interface })
        }
        // ipi6_addr, ipi6_ifindex.
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let address = Ipv6Addr::from(*data.first_chunk::<16>()?).into();
            let interface = u32::from_ne_bytes(*data.get(16..)?.first_chunk()?);
            Some(Local { address, interface })
        }
        _ => None,
    })
}

/// Who found that a datagram of ours is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    /// Our own host: the device's MTU.
    Host,
    /// Somebody who sent an ICMP message.
    Router,
}

/// The size of IP packet that would pass, if the error says that one was too large.
pub(super) fn too_big(control: &[u8]) -> Option<(Witness, u16)> {
    let (_, _, data) = messages(control).find(|&(level, kind, _)| {
        matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        )
    })?;
    // ee_errno, ee_origin, ee_type, ee_code, ee_pad, ee_info, ee_data.
    let error = data.first_chunk::<EXTENDED_ERROR>()?;
    let witness = match error[4] {
        libc::SO_EE_ORIGIN_LOCAL => Witness::Host,
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => Witness::Router,
        _ => return None,
    };
    let mtu = u32::from_ne_bytes([error[8], error[9], error[10], error[11]]);
    let too_big = i32::from_ne_bytes([error[0], error[1], error[2], error[3]]) == libc::EMSGSIZE;
    too_big.then_some((witness, u16::try_from(mtu).unwrap_or(u16::MAX)))
}

fn integer(data: &[u8]) -> Option<libc::c_int> {
    Some(libc::c_int::from_ne_bytes(*data.first_chunk()?))
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

/// What the kernel is asked for when a datagram is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Departure {
    /// Where to leave from; the kernel chooses if there is none.
    pub(super) from: Option<Local>,
    /// Octets of each datagram but the last one, if there are several to cut.
    pub(super) segment: Option<u16>,
    /// ToS or traffic class; 0 is what it is unasked.
    pub(super) tos: u8,
    /// Whether it goes to an IPv6 address.
    pub(super) v6: bool,
}

/// Writes the control messages for `departure`. Returns their length, 0 if nothing is asked for.
pub(super) fn write(departure: Departure, control: &mut [u8; ROOM]) -> usize {
    let mut end = 0;
    if let Some(Local { address, interface }) = departure.from {
        match address {
            IpAddr::V4(v4) => {
                let mut data = [0; size_of::<libc::in_pktinfo>()];
                data[..4].copy_from_slice(&interface.to_ne_bytes());
                data[4..8].copy_from_slice(&v4.octets());
                push(control, &mut end, libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
            }
            IpAddr::V6(v6) => {
                let mut data = [0; size_of::<libc::in6_pktinfo>()];
                data[..16].copy_from_slice(&v6.octets());
                data[16..].copy_from_slice(&interface.to_ne_bytes());
                push(control, &mut end, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
        }
    }
    if departure.tos != 0 {
        let v4 = (libc::IPPROTO_IP, libc::IP_TOS);
        let (level, kind) = if departure.v6 { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) } else { v4 };
        push(control, &mut end, level, kind, &libc::c_int::from(departure.tos).to_ne_bytes());
    }
    if let Some(segment) = departure.segment {
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
    let padded = length.next_multiple_of(ALIGN);
    message[length..padded].fill(0);
    *end += padded;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str, interface: u32) -> Departure {
        let address: IpAddr = address.parse().unwrap();
        Departure { from: Some(Local { address, interface }), v6: address.is_ipv6(), ..Departure::default() }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for address in ["192.0.2.1", "2001:db8::1", "fe80::1"] {
            for segment in [None, Some(1452)] {
                for tos in [0, 1, 0xff] {
                    let departure = Departure { segment, tos, ..from(address, 7) };
                    let mut control = [0xff; ROOM];
                    let length = write(departure, &mut control);
                    assert_eq!(local(&control[..length]), departure.from);
                    assert_eq!(arrival(&control[..length]), Arrival { segment: None, tos });
                }
            }
        }
        assert_eq!(write(Departure::default(), &mut [0; ROOM]), 0);
    }

    #[test]
    fn the_length_of_joined_datagrams() {
        let mut control = [0; ROOM];
        let mut end = 0;
        push(&mut control, &mut end, libc::IPPROTO_IP, libc::IP_PKTINFO, &[0; 12]);
        assert_eq!(arrival(&control[..end]).segment, None);
        push(&mut control, &mut end, libc::SOL_UDP, libc::UDP_GRO, &1452_i32.to_ne_bytes());
        assert_eq!(arrival(&control[..end]).segment, Some(1452));
        push(&mut control, &mut end, libc::IPPROTO_IP, libc::IP_TOS, &[3]);
        assert_eq!(arrival(&control[..end]), Arrival { segment: Some(1452), tos: 3 });
        let mut none = [0; ROOM];
        push(&mut none, &mut 0, libc::SOL_UDP, libc::UDP_GRO, &0_i32.to_ne_bytes());
        assert_eq!(arrival(&none).segment, None, "a length of 0 would never end");
    }

    #[test]
    fn only_errors_of_size_are_told() {
        let told = |errno: i32, origin: u8, mtu: u32| {
            let mut error = [0; EXTENDED_ERROR];
            error[..4].copy_from_slice(&errno.to_ne_bytes());
            error[4] = origin;
            error[8..12].copy_from_slice(&mtu.to_ne_bytes());
            let mut control = [0; ROOM];
            let mut end = 0;
            push(&mut control, &mut end, libc::IPPROTO_IP, libc::IP_RECVERR, &error);
            too_big(&control[..end])
        };
        assert_eq!(told(libc::EMSGSIZE, libc::SO_EE_ORIGIN_ICMP, 1400), Some((Witness::Router, 1400)));
        assert_eq!(told(libc::EMSGSIZE, libc::SO_EE_ORIGIN_LOCAL, 1300), Some((Witness::Host, 1300)));
        assert_eq!(told(libc::EMSGSIZE, libc::SO_EE_ORIGIN_ICMP6, 70_000), Some((Witness::Router, u16::MAX)));
        assert_eq!(told(libc::ECONNREFUSED, libc::SO_EE_ORIGIN_ICMP, 0), None);
        assert_eq!(told(libc::EMSGSIZE, 4, 1400), None, "a time stamp or the like");
        assert_eq!(too_big(&[]), None);
    }

    #[test]
    fn other_messages_are_passed_over_and_broken_ones_end_it() {
        let mut control = [0; ROOM];
        let length = write(from("192.0.2.1", 3), &mut control);
        let mut other = control;
        other[HEADER - 4] = 99;
        let both = [&other[..length], &control[..length]].concat();
        assert_eq!(local(&both), from("192.0.2.1", 3).from);
        assert_eq!(local(&other[..length]), None);
        for cut in 0..HEADER + size_of::<libc::in_pktinfo>() {
            assert_eq!(local(&control[..cut]), None, "{cut}");
        }
        for stated in [0, 1, HEADER - 1, usize::MAX / 2, usize::MAX - 8] {
            control[..size_of::<usize>()].copy_from_slice(&stated.to_ne_bytes());
            assert_eq!(local(&control), None, "{stated}");
        }
    }
}
