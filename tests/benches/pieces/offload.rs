//! Cutting the kernel's large packets, and joining small ones for it.

use divan::Bencher;
use divan::counter::BytesCount;
use edge_tunnel_core::offload::{Coalescer, GsoKind, Joining, Segments, VnetHeader};

/// Payload of a packet that fills the kernel's largest.
const PAYLOAD: usize = 60_000;
/// Payload of one segment.
const SIZE: usize = 1360;

/// What is cut and joined.
const FLOWS: [&str; 4] = ["tcp4", "tcp6", "udp4", "udp6"];

/// A large packet as the kernel gives it, without the pseudo header's sum: what is cut is not looked at.
fn large(flow: &str) -> (VnetHeader, Vec<u8>) {
    let (tcp, v6) = (flow.starts_with("tcp"), flow.ends_with('6'));
    let (ip, transport) = (if v6 { 40 } else { 20 }, if tcp { 20 } else { 8 });
    let len = ip + transport + PAYLOAD;
    let mut packet = vec![0x5a; len];
    packet[..ip + transport].fill(0);
    let protocol = if tcp { 6 } else { 17 };
    if v6 {
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        (packet[6], packet[7]) = (protocol, 64);
        packet[8..40].fill(0xfd);
    } else {
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        (packet[8], packet[9]) = (64, protocol);
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    }
    packet[ip..ip + 4].copy_from_slice(&[0x30, 0x39, 0x00, 0x50]);
    if tcp {
        (packet[ip + 12], packet[ip + 13]) = (0x50, 0x10);
    } else {
        packet[ip + 4..ip + 6].copy_from_slice(&((8 + PAYLOAD) as u16).to_be_bytes());
    }
    // The kernel leaves the pseudo header's sum in the checksum field.
    let mut pseudo = packet[if v6 { 8..40 } else { 12..20 }].to_vec();
    pseudo.extend([0, protocol]);
    pseudo.extend(((transport + PAYLOAD) as u32).to_be_bytes());
    let offset = if tcp { 16 } else { 6 };
    packet[ip + offset..ip + offset + 2].copy_from_slice(&sum(&pseudo).to_be_bytes());
    let header = VnetHeader {
        needs_checksum: true,
        gso: Some(if tcp { GsoKind::Tcp } else { GsoKind::Udp }),
        v6,
        header_len: (ip + transport) as u16,
        gso_size: SIZE as u16,
        checksum_start: ip as u16,
        checksum_offset: offset as u16,
    };
    (header, packet)
}

fn sum(octets: &[u8]) -> u16 {
    let words = octets.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[divan::bench(args = FLOWS)]
fn segment(bencher: Bencher<'_, '_>, flow: &str) {
    let (header, packet) = large(flow);
    bencher.counter(BytesCount::new(PAYLOAD)).with_inputs(|| packet.clone()).bench_local_refs(|packet| {
        let mut segments = Segments::new(header, packet).unwrap();
        let mut count = 0;
        while let Some(segment) = segments.next_segment() {
            count += divan::black_box(segment).len().min(1);
        }
        assert_eq!(count, PAYLOAD.div_ceil(SIZE));
    });
}

#[divan::bench(args = FLOWS)]
fn coalesce(bencher: Bencher<'_, '_>, flow: &str) {
    let (header, mut packet) = large(flow);
    let (mut buffer, mut ranges) = (Vec::new(), Vec::new());
    let mut segments = Segments::new(header, &mut packet).unwrap();
    while let Some(segment) = segments.next_segment() {
        ranges.push(buffer.len()..buffer.len() + segment.len());
        buffer.extend_from_slice(segment);
    }
    let mut coalescer = Coalescer::default();
    bencher.counter(BytesCount::new(PAYLOAD)).with_inputs(|| buffer.clone()).bench_local_refs(|buffer| {
        for range in &ranges {
            coalescer.push(buffer, range.clone(), Joining { tcp: true, udp: true });
        }
        coalescer.seal(buffer);
        assert_eq!(coalescer.frames().count(), 1, "one flow is one frame");
        coalescer.clear();
    });
}
