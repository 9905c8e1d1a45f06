//! What the self-test sends: datagrams of which no two are alike, as they are and as packets of a flow.

use std::net::Ipv4Addr;

use edge_tunnel_core::offload::{GsoKind, Segments, VnetHeader, checksums_hold};

/// The first octet is that of a transport message, which the send queue joins; the last one is shorter.
pub(super) fn datagrams() -> Vec<Vec<u8>> {
    let datagram = |number: usize, length: usize| {
        (0..length).map(|at| if at == 0 { 4 } else { (number * 59 + at * 7 + at / 256) as u8 }).collect()
    };
    (0..6).map(|number| datagram(number, if number == 5 { 333 } else { 1200 })).collect()
}

/// The payload of a UDP packet for `destination`; empty if a checksum is wrong.
pub(super) fn checked_payload(packet: &[u8], destination: Ipv4Addr) -> Option<Vec<u8>> {
    let (headers, payload) = packet.split_at_checked(28)?;
    let ours = headers[0] == 0x45 && headers[9] == 17 && headers[16..20] == destination.octets();
    ours.then(|| if checksums_hold(packet) { payload.to_vec() } else { Vec::new() })
}

/// Whose flow a packet belongs to: addresses, and the destination's port.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) port: u16,
}

/// A flow of packets, one for each of `payloads`.
pub(super) fn segments(kind: GsoKind, v6: bool, payloads: &[Vec<u8>], way: Way) -> Vec<Vec<u8>> {
    let (ip, transport) = (if v6 { 40 } else { 20 }, if kind == GsoKind::Tcp { 20 } else { 8 });
    let mut packet = vec![0; ip];
    let protocol = if kind == GsoKind::Tcp { 6 } else { 17 };
    if v6 {
        packet[0] = 0x60;
        packet[6] = protocol;
        packet[7] = 64;
        // Documentation addresses: the packet is for the checks of the driver, and nobody's.
        packet[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        packet[24..28].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        packet[39] = 1;
    } else {
        packet[0] = 0x45;
        packet[6] = 0x40;
        packet[8] = 64;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&way.from.octets());
        packet[16..20].copy_from_slice(&way.to.octets());
    }
    let mut header = vec![0; transport];
    header[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    header[2..4].copy_from_slice(&way.port.to_be_bytes());
    if kind == GsoKind::Tcp {
        header[12] = 5 << 4;
        header[13] = 0x10;
        header[14] = 1;
    }
    packet.extend(header);
    packet.extend(payloads.iter().flatten());
    let size = payloads.first().map_or(1, Vec::len);
    let vnet = VnetHeader {
        needs_checksum: true,
        gso: Some(kind),
        v6,
        // All far below 64 KiB.
        header_len: (ip + transport) as u16,
        gso_size: size as u16,
        checksum_start: ip as u16,
        checksum_offset: if kind == GsoKind::Tcp { 16 } else { 6 },
    };
    // Lengths and checksums are those of the segments.
    let mut packets = Vec::new();
    if let Ok(mut segments) = Segments::new(vnet, &mut packet) {
        while let Some(segment) = segments.next_segment() {
            packets.push(segment.to_vec());
        }
    }
    packets
}
