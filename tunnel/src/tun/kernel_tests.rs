//! Our cutting and joining beside the kernel's own: a namespace that forwards from one interface, which takes
//! large packets, to another, which gives none, so that the kernel must cut with its software GSO.

use std::process::Command;
use std::thread;
use std::time::Duration;

use edge_tunnel_core::offload::{GsoKind, Segments, VnetHeader};
use nix::sched::{CloneFlags, unshare};

use super::*;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// A router of two interfaces. Made in a thread of its own, with which the namespace goes.
struct Router {
    inward: Tun,
    outward: Tun,
}

impl Router {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let tun = |without: &str| {
            let offloads = Arc::new(Offloads::new(without.parse().unwrap()));
            Queues::create(&"fwd%d".parse().unwrap(), 1500, 1, &offloads).unwrap().first
        };
        let router = Self { inward: tun(""), outward: tun("tun-tso,tun-uso") };
        for (number, tun) in [(1, &router.inward), (2, &router.outward)] {
            let name = tun.name();
            for line in [
                format!("addr add 10.{number}.0.1 peer 10.{number}.0.2 dev {name}"),
                format!("-6 addr add fd0{number}::1/64 dev {name} nodad"),
                format!("link set {name} up"),
            ] {
                // A child of this thread is in this thread's namespace.
                let status = Command::new("ip").args(line.split(' ')).status().unwrap();
                assert!(status.success(), "ip {line}");
            }
        }
        // So is what /proc/sys/net shows.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        router
    }

    /// The next packets that are forwarded, `count` of them or those that come within a second.
    fn forwarded(&self, count: usize) -> Vec<Vec<u8>> {
        let mut came = Vec::new();
        let mut batch = PacketBatch::new();
        let mut idle = 0;
        while came.len() < count && idle < 100 {
            batch.read(&self.outward).unwrap();
            idle += 1;
            let uncut = batch.for_each(|packet| {
                // The kernel sends some of its own: router solicitations, reports of groups.
                if source(packet) == Some(FROM_V4.as_slice()) || source(packet) == Some(&from_v6()) {
                    came.push(packet.to_vec());
                    idle = 0;
                }
            });
            assert_eq!(uncut, 0);
            if idle > 0 {
                thread::sleep(Duration::from_millis(10));
            }
        }
        came
    }
}

const FROM_V4: [u8; 4] = [10, 1, 0, 2];

fn from_v6() -> [u8; 16] {
    [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
}

fn source(packet: &[u8]) -> Option<&[u8]> {
    match packet.first()? >> 4 {
        4 => packet.get(12..16),
        _ => packet.get(8..24),
    }
}

fn sum(octets: &[u8]) -> [u8; 2] {
    let words = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// What a router makes of a packet: one hop less.
fn one_hop_on(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[8] -= 1;
        packet[10..12].fill(0);
        let header = usize::from(packet[0] & 15) * 4;
        let checksum = sum(&packet[..header]);
        packet[10..12].copy_from_slice(&checksum);
    } else {
        packet[7] -= 1;
    }
    packet
}

#[derive(Clone, Debug)]
struct Case {
    kind: GsoKind,
    v6: bool,
    /// Octets of IPv4 options, or of one IPv6 destination options header.
    ip_options: usize,
    tcp_options: usize,
    flags: u8,
    /// IPv4: DF.
    whole: bool,
    size: usize,
    payload: usize,
    port: u16,
    sequence: u32,
}

const CASE: Case = Case {
    kind: GsoKind::Tcp,
    v6: false,
    ip_options: 0,
    tcp_options: 12,
    flags: ACK,
    whole: true,
    size: 1000,
    payload: 5500,
    port: 1,
    sequence: 0xffff_f000,
};

impl Case {
    /// The large packet and its header, as the kernel would hand it over.
    fn large(&self) -> (VnetHeader, Vec<u8>) {
        let tcp = self.kind == GsoKind::Tcp;
        let protocol = if tcp { 6 } else { 17 };
        let ip = self.ip_options + if self.v6 { 40 } else { 20 };
        let transport = if tcp { 20 + self.tcp_options } else { 8 };
        let mut packet = vec![0; ip + transport];
        let len = packet.len() + self.payload;
        if self.v6 {
            packet[..8].copy_from_slice(&[0x61, 0x23, 0x45, 0x67, 0, 0, protocol, 64]);
            packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            packet[8..24].copy_from_slice(&from_v6());
            packet[24..40].copy_from_slice(&from_v6());
            packet[25] = 2;
            if self.ip_options > 0 {
                packet[6] = 60;
                // Next header, length, PadN.
                let pad = [protocol, (self.ip_options / 8 - 1) as u8, 1, (self.ip_options - 4) as u8];
                packet[40..44].copy_from_slice(&pad);
            }
        } else {
            packet[..10].copy_from_slice(&[0x45, 0x02, 0, 0, 0xff, 0xfe, 0, 0, 64, protocol]);
            packet[0] += (self.ip_options / 4) as u8;
            packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            packet[6] = if self.whole { 0x40 } else { 0 };
            packet[12..16].copy_from_slice(&FROM_V4);
            packet[16..20].copy_from_slice(&[10, 2, 0, 2]);
            packet[20..ip].fill(1);
            let checksum = sum(&packet[..ip]);
            packet[10..12].copy_from_slice(&checksum);
        }
        let header = &mut packet[ip..];
        header[..2].copy_from_slice(&self.port.to_be_bytes());
        header[2..4].copy_from_slice(&9_u16.to_be_bytes());
        if tcp {
            header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
            header[12] = ((transport / 4) << 4) as u8;
            header[13] = self.flags;
            header[14..16].copy_from_slice(&[1, 2]);
            header[18..20].copy_from_slice(&[0, if self.flags & URG != 0 { 7 } else { 0 }]);
            header[20..].fill(1);
        } else {
            header[4..6].copy_from_slice(&((transport + self.payload) as u16).to_be_bytes());
        }
        let field = if tcp { 16 } else { 6 };
        let mut pseudo = if self.v6 { packet[8..40].to_vec() } else { packet[12..20].to_vec() };
        pseudo.extend([0, protocol]);
        pseudo.extend(((transport + self.payload) as u16).to_be_bytes());
        let partial = sum(&pseudo).map(|octet| !octet);
        packet[ip + field..ip + field + 2].copy_from_slice(&partial);
        packet.extend((0..self.payload).map(|at| (at * 31 + at / 251) as u8));
        let gso = (self.payload > self.size).then_some(self.kind);
        let vnet = VnetHeader {
            needs_checksum: true,
            gso,
            v6: self.v6,
            header_len: (ip + transport) as u16,
            gso_size: if gso.is_some() { self.size as u16 } else { 0 },
            checksum_start: ip as u16,
            checksum_offset: field as u16,
        };
        (vnet, packet)
    }

    fn cut(&self) -> Vec<Vec<u8>> {
        let (header, mut packet) = self.large();
        let mut segments = Segments::new(header, &mut packet).unwrap();
        let mut all = Vec::new();
        while let Some(segment) = segments.next_segment() {
            all.push(segment.to_vec());
        }
        all
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for v6 in [false, true] {
        for flags in [ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR | ECE, ACK | ECE, ACK | URG | PSH] {
            cases.push(Case { v6, flags, ..CASE });
        }
        for (size, payload, tcp_options) in
            [(1, 60, 0), (7, 40, 40), (1428, 64_000, 12), (1000, 1000, 12), (999, 1001, 0)]
        {
            cases.push(Case { v6, size, payload, tcp_options, ..CASE });
        }
        for (size, payload) in [(1, 64), (64, 4096), (1472 - 20, 60_000), (1001, 5003), (1200, 1200), (3, 4)]
        {
            cases.push(Case { v6, size, payload, kind: GsoKind::Udp, ..CASE });
        }
        for kind in [GsoKind::Tcp, GsoKind::Udp] {
            cases.push(Case { v6, kind, ip_options: 8, ..CASE });
            cases.push(Case { v6, kind, whole: false, ..CASE });
        }
    }
    cases
}

/// Runs `work` with a router in a namespace of its own.
fn with_router(work: impl FnOnce(&Router) + Send + 'static) {
    thread::spawn(move || work(&Router::new())).join().unwrap();
}

#[test]
fn the_kernel_cuts_as_we_do() {
    with_router(|router| {
        for case in cases() {
            let (header, packet) = case.large();
            router.inward.write(&[IoSlice::new(&header.to_octets()), IoSlice::new(&packet)]).unwrap();
            let ours: Vec<Vec<u8>> = case.cut().iter().map(|segment| one_hop_on(segment)).collect();
            let kernels = router.forwarded(ours.len());
            assert_eq!(kernels.len(), ours.len(), "{case:?}");
            for (number, (kernels, ours)) in kernels.iter().zip(&ours).enumerate() {
                assert!(
                    kernels == ours,
                    "{case:?}: segment {number}:\n{:02x?}\n{:02x?}",
                    &kernels[..80.min(kernels.len())],
                    &ours[..80.min(ours.len())]
                );
            }
        }
    });
}

/// What we join, in any mixture of flows and of packets that must not be joined, the kernel takes apart into the
/// very packets that came.
#[test]
fn the_kernel_takes_apart_what_we_join() {
    with_router(|router| {
        let mut random = Random(1);
        for round in 0..60 {
            let packets = mixture(&mut random);
            let mut queue = WriteQueue::new();
            for packet in &packets {
                assert!(queue.has_room(packet.len()));
                queue.space(packet.len()).copy_from_slice(packet);
                queue.push(packet.len());
            }
            assert_eq!(queue.flush(&router.inward), 0);
            let came = router.forwarded(packets.len());
            for flow in 0..4 {
                let of_flow = |packet: &&Vec<u8>| port(packet) == Some(flow);
                let sent: Vec<Vec<u8>> =
                    packets.iter().filter(of_flow).map(|packet| one_hop_on(packet)).collect();
                let came: Vec<&Vec<u8>> = came.iter().filter(of_flow).collect();
                assert_eq!(came.len(), sent.len(), "round {round}, flow {flow}");
                for (number, (came, sent)) in came.into_iter().zip(&sent).enumerate() {
                    assert!(
                        came == sent,
                        "round {round}, flow {flow}, packet {number}:\n{:02x?}\n{:02x?}",
                        &came[..60.min(came.len())],
                        &sent[..60.min(sent.len())]
                    );
                }
            }
        }
        for offload in [Offload::TunTcpGro, Offload::TunUdpGro] {
            assert_eq!(router.inward.offloads().reason(offload), None);
        }
    });
}

/// SplitMix64: rounds that can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Packets of four flows, told apart by their source port, some altered so that joining them would be wrong.
fn mixture(random: &mut Random) -> Vec<Vec<u8>> {
    let mut flows: Vec<Vec<Vec<u8>>> = (0..4)
        .map(|flow| {
            let size = 1 + random.below(1300) as usize;
            let case = Case {
                kind: if flow % 2 == 0 { GsoKind::Tcp } else { GsoKind::Udp },
                v6: flow / 2 == 0,
                ip_options: if random.below(8) == 0 { 8 } else { 0 },
                tcp_options: random.below(4) as usize * 4,
                flags: ACK | if random.below(2) == 0 { PSH } else { 0 },
                whole: random.below(2) == 0,
                size,
                payload: size * (1 + random.below(10) as usize) + random.below(size as u64) as usize,
                port: flow as u16,
                sequence: random.below(1 << 32) as u32,
            };
            let mut packets = case.cut();
            for packet in &mut packets {
                if random.below(6) == 0 {
                    alter(packet, case.ip_options + if case.v6 { 40 } else { 20 }, random);
                }
            }
            packets.reverse();
            packets
        })
        .collect();
    let mut all = Vec::new();
    while !flows.is_empty() {
        let flow = random.below(flows.len() as u64) as usize;
        match flows[flow].pop() {
            Some(packet) => all.push(packet),
            None => drop(flows.swap_remove(flow)),
        }
    }
    all
}

/// Alters a header field or the payload; mostly the checksum is wrong then, which joining must not hide.
fn alter(packet: &mut [u8], transport: usize, random: &mut Random) {
    let last = packet.len() - 1;
    match random.below(4) {
        // TCP: acknowledgement number, flags or window. UDP: into the payload.
        0 if packet.len() > transport + 16 => packet[transport + 8 + random.below(8) as usize] ^= 0x40,
        1 => packet[last] ^= 1,
        // The checksum itself, or an octet of UDP's payload.
        2 => {
            let field = if packet.len() > transport + 17 { 16 } else { 6 };
            packet[transport + field] ^= 1;
        }
        // Traffic class, or DSCP with its checksum.
        _ if packet[0] >> 4 == 6 => packet[1] ^= 0x10,
        _ => {
            packet[1] ^= 0x20;
            packet[10..12].fill(0);
            let checksum = sum(&packet[..usize::from(packet[0] & 15) * 4]);
            packet[10..12].copy_from_slice(&checksum);
        }
    }
}

fn port(packet: &[u8]) -> Option<u16> {
    let ip = match packet[0] >> 4 {
        4 => usize::from(packet[0] & 15) * 4,
        _ if packet[6] == 60 => 40 + (usize::from(packet[41]) + 1) * 8,
        _ => 40,
    };
    Some(u16::from_be_bytes([*packet.get(ip)?, *packet.get(ip + 1)?]))
}
