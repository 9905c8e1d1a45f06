//! The parsers that the internet and the LAN can reach: datagrams, introductions, inner packets.
//!
//! The engine is a fresh one in each run, with the seeds' policy and list. mac1 is a filter and not a
//! secret, so each datagram is tried a second time with the right one: what is behind it must hold too.

use crate::{forgery, seeds};
use edge_tunnel_core::introduction::{self, parse_payload};
use edge_tunnel_core::message::{INITIATION, Message};
use edge_tunnel_core::{CrlSet, Engine, Now, Output, VerifiedPolicy, ip_packet};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Instant;
use verona_contract::binding::{self, Binding};
use verona_contract::cert::{IdentityLeaf, Leaf};
use verona_contract::control::Policy;
use verona_contract::key::PublicKey;

/// Keeps what the engine sends.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) packets: Vec<Vec<u8>>,
    datagram: (Option<SocketAddr>, Vec<u8>),
    packet: Vec<u8>,
}

impl Output for Sink {
    fn datagram_buffer(&mut self, to: SocketAddr, len: usize) -> &mut [u8] {
        self.datagram = (Some(to), vec![0; len]);
        &mut self.datagram.1
    }

    fn commit_datagram(&mut self, len: usize) {
        let (to, octets) = &self.datagram;
        self.datagrams.push((to.expect("a buffer before a commit"), octets[..len].to_vec()));
    }

    fn packet_buffer(&mut self, len: usize) -> &mut [u8] {
        self.packet = vec![0; len];
        &mut self.packet
    }

    fn commit_packet(&mut self, len: usize) {
        self.packets.push(self.packet[..len].to_vec());
    }
}

fn now() -> Now {
    Now { mono: Instant::now(), wall: seeds::now() }
}

/// An edge with the seeds' policy, list and a clock that is believed.
fn edge() -> (Engine, Sink) {
    let mut engine = Engine::new([7; 32], now());
    let sink = Sink::default();
    // What signs is made once, not in each of millions of runs.
    static POLICY: LazyLock<Policy> = LazyLock::new(seeds::policy);
    static LIST: LazyLock<CrlSet> =
        LazyLock::new(|| CrlSet::load(&seeds::list(), &[seeds::issuer()]).expect("the seeds' list is good"));
    let policy = VerifiedPolicy::new(POLICY.clone()).expect("the seeds' policy is good");
    engine.set_clock(now(), true);
    engine.install_policy(now(), policy);
    assert!(engine.install_crl(now(), LIST.clone()).is_ok());
    (engine, sink)
}

/// A datagram from anywhere.
pub(super) fn datagram(data: &[u8]) {
    let parsed = Message::parse(data).is_some();
    answer(data, parsed);
    if let Some(repaired) = with_mac1(data) {
        answer(&repaired, parsed);
    }
}

fn answer(data: &[u8], parsed: bool) {
    let (mut engine, mut sink) = edge();
    let from: SocketAddr = ([192, 0, 2, 2], 51820).into();
    engine.handle_datagrams(now(), std::iter::once((from, data)), &mut sink);
    // Without a session nothing reaches the inside, and the answer is never larger than the question.
    assert!(sink.packets.is_empty());
    assert!(sink.datagrams.len() <= 1);
    for (to, octets) in &sink.datagrams {
        assert!(*to == from && parsed && octets.len() <= data.len());
    }
}

/// The same message with the mac1 that its sender could have computed; mac2 stays.
fn with_mac1(data: &[u8]) -> Option<Vec<u8>> {
    let label = match (data.first()?, data.len()) {
        (1, INITIATION) => b"mac1----",
        (0x10, introduction::SMALL | introduction::LARGE) => b"certmac1",
        _ => return None,
    };
    static EDGE: LazyLock<PublicKey> =
        LazyLock::new(|| seeds::edge_secret().x25519_public().expect("a good key"));
    let (message, _) = data.split_at(data.len() - 32);
    let mac1 = forgery::mac1(label, &EDGE, message);
    Some([message, &mac1, &data[data.len() - 16..]].concat())
}

/// The sealed part of an introduction, as a certified or an uncertified sender may fill it.
pub(super) fn introduction_payload(data: &[u8]) {
    let Ok(shown) = parse_payload(data) else { return };
    let parts = [Some(&shown.leaf), shown.intermediate.as_ref(), shown.binding.as_ref()];
    assert!(parts.into_iter().flatten().map(Vec::len).sum::<usize>() < data.len());
    let _ = Leaf::parse(&shown.leaf);
    if let (Some(binding), Ok(identity)) = (&shown.binding, IdentityLeaf::parse(&shown.leaf)) {
        let _ = Binding::verify(binding, &identity);
    }
}

/// What an identity key signs. Nobody but that key makes one that verifies.
pub(super) fn binding(data: &[u8]) {
    static SEEDS: LazyLock<[(IdentityLeaf, Vec<u8>); 2]> = LazyLock::new(|| {
        let leaves = seeds::identities().map(|(_, leaf)| IdentityLeaf::parse(&leaf).expect("a good leaf"));
        let [one, other] = seeds::bindings();
        let [first, second] = leaves;
        [(first, one), (second, other)]
    });
    for (leaf, signed) in SEEDS.iter() {
        if let Ok(found) = Binding::verify(data, leaf) {
            // ECDSA has two signatures of one message (s and its negative); what is signed is one.
            assert!(data.len() == binding::LEN && data[..81] == signed[..81]);
            assert!(found.not_after() - found.not_before() <= 86_400);
        }
    }
}

/// What the LAN sends into the tunnel.
pub(super) fn inner_packet(data: &[u8]) {
    let _ = ip_packet::destination(data);
    let (mut engine, mut sink) = edge();
    engine.handle_packets(now(), std::iter::once(data), &mut sink);
    // The client of the seeds has never been heard from, so there is nowhere to send to.
    assert!(sink.datagrams.is_empty() && sink.packets.is_empty());
}
