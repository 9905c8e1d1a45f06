//! What is cut is joined again, octet by octet, and what is joined is cut again.

use edge_tunnel_core::offload::{Coalescer, GsoKind, Joining, Segments, VnetHeader};
use proptest::prelude::*;

/// A large TCP or UDP packet as the kernel gives it: its checksum field holds the pseudo header's sum.
fn large(v6: bool, kind: GsoKind, options: usize, size: u16, payload: &[u8]) -> (VnetHeader, Vec<u8>) {
    let ip = if v6 { 40 } else { 20 };
    let transport = if kind == GsoKind::Tcp { 20 + options } else { 8 };
    let len = ip + transport + payload.len();
    let mut packet = vec![0; ip];
    if v6 {
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        packet[6] = if kind == GsoKind::Tcp { 6 } else { 17 };
        packet[7] = 64;
        packet[8..40].copy_from_slice(&[0xfd; 32]);
    } else {
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[4..6].copy_from_slice(&0xfffeu16.to_be_bytes());
        packet[8] = 64;
        packet[9] = if kind == GsoKind::Tcp { 6 } else { 17 };
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = reference(&packet);
        packet[10..12].copy_from_slice(&sum);
    }
    let mut header = vec![0; transport];
    header[..4].copy_from_slice(&[0x30, 0x39, 0x00, 0x50]);
    if kind == GsoKind::Tcp {
        header[4..8].copy_from_slice(&0xffff_ff00u32.to_be_bytes());
        header[12] = ((transport / 4) << 4) as u8;
        header[13] = 0x18;
        header[14..16].copy_from_slice(&[1, 0]);
        header[20..].fill(1);
    } else {
        header[4..6].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    }
    let mut pseudo = if v6 { packet[8..40].to_vec() } else { packet[12..20].to_vec() };
    pseudo.extend_from_slice(&[0, if kind == GsoKind::Tcp { 6 } else { 17 }]);
    pseudo.extend_from_slice(&((transport + payload.len()) as u32).to_be_bytes());
    let sum = reference(&pseudo).map(|octet| !octet);
    let offset = if kind == GsoKind::Tcp { 16 } else { 6 };
    header[offset..offset + 2].copy_from_slice(&sum);
    packet.extend_from_slice(&header);
    packet.extend_from_slice(payload);
    let vnet = VnetHeader {
        needs_checksum: true,
        gso: Some(kind),
        v6,
        header_len: (ip + transport) as u16,
        gso_size: size,
        checksum_start: ip as u16,
        checksum_offset: offset as u16,
    };
    (vnet, packet)
}

fn reference(octets: &[u8]) -> [u8; 2] {
    let mut sum: u32 = 0;
    for pair in octets.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]
fn cut(header: VnetHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut copy = packet.to_vec();
    let mut segments = Segments::new(header, &mut copy).unwrap();
    let mut all = Vec::new();
    while let Some(segment) = segments.next_segment() {
        all.push(segment.to_vec());
    }
    all
}

fn join(packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut buffer = packets.concat();
    let mut coalescer = Coalescer::default();
    let mut start = 0;
    for packet in packets {
        coalescer.push(&buffer, start..start + packet.len(), Joining { tcp: true, udp: true });
        start += packet.len();
    }
    coalescer.seal(&mut buffer);
    let frames = coalescer.frames().map(|frame| {
        let mut packet = buffer[frame.head.clone()].to_vec();
        let header = frame.header;
        frame.for_each(|part| packet.extend_from_slice(&buffer[part]));
        (header, packet)
    });
    frames.collect()
}

fn checksums_hold(packet: &[u8]) -> bool {
    let (start, protocol, addresses) =
        if packet[0] >> 4 == 6 { (40, packet[6], &packet[8..40]) } else { (20, packet[9], &packet[12..20]) };
    let mut pseudo = addresses.to_vec();
    pseudo.extend_from_slice(&[0, protocol]);
    pseudo.extend_from_slice(&((packet.len() - start) as u32).to_be_bytes());
    pseudo.extend_from_slice(&packet[start..]);
    reference(&pseudo) == [0, 0] && (start == 40 || reference(&packet[..20]) == [0, 0])
}

proptest! {
    #[test]
    fn cut_and_join(v6: bool, tcp: bool, options in 0usize..=10, size in 1u16..1500, len in 2usize..20_000, seed: u8) {
        let size = size.max((len / 60 + 1) as u16);
        let kind = if tcp { GsoKind::Tcp } else { GsoKind::Udp };
        let payload: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        let (header, packet) = large(v6, kind, options * 4, size, &payload);
        let segments = cut(header, &packet);
        prop_assert_eq!(segments.len(), len.div_ceil(usize::from(size)));
        for segment in &segments {
            prop_assert!(checksums_hold(segment));
        }
        let joined = join(&segments);
        if segments.len() > 1 {
            prop_assert_eq!(joined.len(), 1);
            prop_assert_eq!(&joined[0].1, &packet);
            prop_assert_eq!(joined[0].0, header);
        }
    }

    #[test]
    fn damaged_packets_are_passed_on_as_they_are(at in 0usize..4000, bit in 0u8..8) {
        let (header, packet) = large(false, GsoKind::Tcp, 12, 1000, &[7; 4000]);
        let mut segments = cut(header, &packet);
        let len = segments[1].len();
        segments[1][at % len] ^= 1 << bit;
        let joined = join(&segments);
        // Whatever was damaged, each octet comes out where it belongs or in a packet of its own.
        let again: Vec<Vec<u8>> = joined.iter().flat_map(|(header, packet)| cut(*header, packet)).collect();
        prop_assert!(again.contains(&segments[1]), "the damaged packet is passed on unaltered");
        prop_assert_eq!(again.len(), segments.len());
    }

    #[test]
    fn any_octets(octets: Vec<u8>, header: [u8; 10], second: Vec<u8>) {
        if let Some(header) = VnetHeader::parse(&header) {
            let mut copy = octets.clone();
            if let Ok(mut segments) = Segments::new(header, &mut copy) {
                while segments.next_segment().is_some() {}
            }
        }
        join(&[octets, second]);
    }
}

#[test]
fn a_damaged_ip_header_is_not_healed() {
    let (header, packet) = large(false, GsoKind::Tcp, 12, 1000, &[7; 4000]);
    for place in [0, 1] {
        let mut segments = cut(header, &packet);
        segments[place][10] ^= 1;
        let joined = join(&segments);
        let again: Vec<Vec<u8>> = joined.iter().flat_map(|(header, packet)| cut(*header, packet)).collect();
        assert!(again.contains(&segments[place]), "segment {place}");
    }
}

#[test]
fn order_within_a_flow_is_kept() {
    let (header, packet) = large(false, GsoKind::Tcp, 0, 1000, &[7; 3000]);
    let segments = cut(header, &packet);
    let mut acknowledgement = segments[1][..40].to_vec();
    acknowledgement[2..4].copy_from_slice(&40u16.to_be_bytes());
    // A bare acknowledgement between the data: nothing may be joined across it.
    let sent = [segments[0].clone(), acknowledgement.clone(), segments[1].clone(), segments[2].clone()];
    let joined = join(&sent);
    let again: Vec<Vec<u8>> = joined.iter().flat_map(|(header, packet)| cut(*header, packet)).collect();
    assert_eq!(again, sent);
}
