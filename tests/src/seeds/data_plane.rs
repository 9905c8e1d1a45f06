//! Seeds of the targets that the internet and the LAN can reach.

use super::{Seed, authority, client_secret, damaged, edge_secret, leaf, now, public};
use crate::forgery::Initiation;
use crate::fuzz::data_plane::Sink;
use edge_tunnel_core::{AllowedIpUpdate, DeviceUpdate, Engine, Introduction, Now, PeerUpdate};
use std::time::Instant;
use verona_contract::key::Secret;

pub(super) fn datagrams() -> Vec<Seed> {
    let edge = edge_secret().x25519_public().unwrap();
    let initiation = Initiation { at: now(), ..Initiation::honest(edge, &client_secret()) };
    let forged = Initiation { at: now(), ..Initiation::forged(edge, public(&client_secret())) };
    let zero = Initiation { at: now(), ..Initiation::forged(edge, [0; 32]) };
    let stranger = Initiation { at: now(), ..Initiation::honest(edge, &Secret::new([0x55; 32])) };
    let mut seeds = damaged("initiation", &initiation.message());
    seeds.push(("forged-initiation".to_owned(), forged.message()));
    seeds.push(("zero-key-initiation".to_owned(), zero.message()));
    seeds.push(("stranger-initiation".to_owned(), stranger.message()));
    let introduction = introduction_datagram();
    seeds.extend(damaged("introduction", &introduction));
    let mut version = introduction;
    version[1] = 2;
    seeds.push(("introduction-version-2".to_owned(), version));
    for (name, kind, length) in
        [("response", 2_u8, 92), ("cookie-reply", 3, 64), ("data", 4, 32), ("data", 4, 128)]
    {
        let mut message = vec![0x5a; length];
        message[..4].copy_from_slice(&[kind, 0, 0, 0]);
        seeds.push((format!("{name}-{length}"), message));
    }
    let mut last = vec![0xff; 32];
    last[..4].copy_from_slice(&[4, 0, 0, 0]);
    seeds.push(("data-last-counter".to_owned(), last));
    seeds
}

/// A client's own introduction: the engine on the client's side makes it.
fn introduction_datagram() -> Vec<u8> {
    let at = Now { mono: Instant::now(), wall: now() };
    let mut client = Engine::new([9; 32], at);
    let mut sink = Sink::default();
    let mut peer = PeerUpdate::new(edge_secret().x25519_public().unwrap());
    peer.endpoint = Some(([192, 0, 2, 1], 51820).into());
    peer.allowed_ips = vec![AllowedIpUpdate::Add("10.9.0.0/16".parse().unwrap())];
    peer.introduction = Some(Introduction { leaf: leaf(), ..Introduction::default() });
    let update = DeviceUpdate {
        private_key: Some(Some(client_secret())),
        peers: vec![peer],
        ..DeviceUpdate::default()
    };
    client.configure(at, update, &mut sink).unwrap();
    client.handle_packets(at, std::iter::once(packet().as_slice()), &mut sink);
    let (_, octets) = sink.datagrams.into_iter().find(|(_, octets)| octets[0] == 0x10).unwrap();
    octets
}

/// An inner packet to the edge: ICMP echo.
fn packet() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1];
    packet.extend([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    packet
}

pub(super) fn packets() -> Vec<Seed> {
    let mut seeds = damaged("echo", &packet());
    let mut to_client = packet();
    to_client[12..20].copy_from_slice(&[10, 9, 0, 1, 10, 9, 0, 2]);
    seeds.push(("to-the-client".to_owned(), to_client));
    let mut six = vec![0; 48];
    six[0] = 0x60;
    six[4..8].copy_from_slice(&[0, 8, 58, 64]);
    six[8] = 0xfd;
    six[24] = 0xfd;
    seeds.push(("ipv6".to_owned(), six));
    seeds.push(("version-5".to_owned(), vec![0x55; 40]));
    seeds.push(("65535".to_owned(), [packet(), vec![0; 65_507]].concat()));
    seeds
}

pub(super) fn payloads() -> Vec<Seed> {
    let entry = |kind: u8, der: &[u8]| {
        let length = u16::try_from(der.len()).unwrap().to_le_bytes();
        [&[kind][..], &length, der].concat()
    };
    let (one, two) = (entry(1, &leaf()), entry(2, authority().certificate()));
    let mut seeds = damaged("leaf", &[&one[..], &[0]].concat());
    seeds.push(("leaf-and-intermediate".to_owned(), [&one[..], &two, &[0; 40]].concat()));
    seeds.push(("two-leaves".to_owned(), [&one[..], &one, &[0]].concat()));
    seeds.push(("intermediate-only".to_owned(), [&two[..], &[0]].concat()));
    seeds.push(("unknown-kind".to_owned(), [&one[..], &entry(9, b"x"), &[0]].concat()));
    seeds.push(("padding-not-zero".to_owned(), [&one[..], &[0, 0, 1]].concat()));
    let ([binding, _], [(_, identity), _]) = (super::bindings(), super::identities());
    let bound = [&entry(1, &identity)[..], &entry(3, &binding), &[0; 9]].concat();
    seeds.push(("leaf-and-binding".to_owned(), bound));
    seeds.push(("length-beyond".to_owned(), vec![1, 0xff, 0xff, 0x30]));
    seeds
}
