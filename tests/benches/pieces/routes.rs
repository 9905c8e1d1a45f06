//! Finding the peer of a packet among few and many: the look-up must stay flat.
//!
//! The peers have no endpoint, so that what is measured ends right behind the look-up.

use crate::edge::Out;
use divan::Bencher;
use edge_tunnel_core::{AllowedIpUpdate, DeviceUpdate, Engine, Now, PeerUpdate, Secret};
use std::net::Ipv4Addr;
use std::time::{Instant, SystemTime};
use verona_contract::key::PublicKey;

const PEERS: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];
/// Destinations that take turns, so that the nearest cache does not answer for all.
const DESTINATIONS: u32 = 4096;

fn address(number: u32) -> Ipv4Addr {
    // Spread over 10.0.0.0/8 by an odd factor.
    Ipv4Addr::from(0x0a00_0000 | (number.wrapping_mul(2_654_435_761) & 0x00ff_ffff))
}

fn key(number: u32) -> PublicKey {
    let mut octets = [9; 32];
    octets[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey::new(octets).unwrap()
}

#[divan::bench(args = PEERS)]
fn packet_to_a_peer(bencher: Bencher<'_, '_>, peers: u32) {
    let now = Now { mono: Instant::now(), wall: SystemTime::now() };
    let (mut engine, mut out) = (Engine::new([7; 32], now), Out::default());
    let peer = |number| PeerUpdate {
        allowed_ips: vec![AllowedIpUpdate::Add(format!("{}/32", address(number)).parse().unwrap())],
        ..PeerUpdate::new(key(number))
    };
    let private_key = Some(Some(Secret::new([1; 32])));
    let peers_update = (0..peers).map(peer).collect();
    let update = DeviceUpdate { private_key, peers: peers_update, ..DeviceUpdate::default() };
    engine.configure(now, update, &mut out).unwrap();
    let packets: Vec<[u8; 28]> = (0..DESTINATIONS)
        .map(|number| {
            let mut packet = [0; 28];
            (packet[0], packet[3]) = (0x45, 28);
            packet[16..20].copy_from_slice(&address(number.wrapping_mul(7919) % peers).octets());
            packet
        })
        .collect();
    let mut next = packets.iter().cycle();
    bencher.bench_local(|| {
        let packet = next.next().unwrap();
        engine.handle_packets(now, std::iter::once(packet.as_slice()), &mut out);
    });
    assert_eq!(out.datagrams, 0);
}
