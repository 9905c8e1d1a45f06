//! The kinds of forgery, from the cheapest to refuse to the dearest, and their datagrams.
//!
//! Each datagram of a pool is another one: other keys, other garbage. A stranger who wants to cost the edge
//! more than a hash must know its public key, which is no secret.

use crate::forgery::{self, Initiation};
use crate::pki::{Authority, LeafPlan};
use crate::swarm::{Client, EdgeAddress, Identity};
use blake2::{Blake2s256, Digest};
use edge_tunnel_core::{Introduction, Now};
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::{Instant, SystemTime};
use verona_contract::key::Secret;

/// What is forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Initiations of garbage with a wrong mac1: their sender does not even know the edge's key.
    InitiationWrongMac1,
    /// Initiations of garbage with the right mac1: one Diffie-Hellman until they fail.
    InitiationGarbage,
    /// Sound initiations with keys that no certificate names.
    InitiationUnknownKey,
    /// Initiations that claim a certified key whose private half the sender does not hold.
    InitiationStolenKey,
    /// Introductions of garbage with a wrong mac1.
    IntroductionWrongMac1,
    /// Introductions of garbage with the right mac1.
    IntroductionGarbage,
    /// Sealed introductions of certificates that name the owner's CA, by a signature that it never made.
    IntroductionForgedSignature,
    /// Sealed introductions of somebody else's valid certificate.
    IntroductionStolenCertificate,
    /// Sealed introductions of certificates that are valid, but under a CA that the edge does not serve.
    IntroductionForeignOwner,
    /// Cookie replies of garbage for sessions that there are not.
    CookieReplyGarbage,
    /// Transport messages of garbage for sessions that there are not.
    TransportGarbage,
}

/// What a stranger knows and can make.
#[derive(Clone, Copy, Debug)]
pub struct Stranger<'a> {
    /// The edge's public key and address.
    pub edge: EdgeAddress,
    /// The owner's CA. The stranger knows what it signed; the forged signatures are spoilt here.
    pub owner: &'a Authority,
    /// A client that the edge would admit, as anyone who saw its certificate knows it: serial number 1,
    /// this key, this address.
    pub victim: ([u8; 32], Ipv4Addr),
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::InitiationWrongMac1,
        Self::InitiationGarbage,
        Self::InitiationUnknownKey,
        Self::InitiationStolenKey,
        Self::IntroductionWrongMac1,
        Self::IntroductionGarbage,
        Self::IntroductionForgedSignature,
        Self::IntroductionStolenCertificate,
        Self::IntroductionForeignOwner,
        Self::CookieReplyGarbage,
        Self::TransportGarbage,
    ];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InitiationWrongMac1 => "initiation-wrong-mac1",
            Self::InitiationGarbage => "initiation-garbage",
            Self::InitiationUnknownKey => "initiation-unknown-key",
            Self::InitiationStolenKey => "initiation-stolen-key",
            Self::IntroductionWrongMac1 => "introduction-wrong-mac1",
            Self::IntroductionGarbage => "introduction-garbage",
            Self::IntroductionForgedSignature => "introduction-forged-signature",
            Self::IntroductionStolenCertificate => "introduction-stolen-certificate",
            Self::IntroductionForeignOwner => "introduction-foreign-owner",
            Self::CookieReplyGarbage => "cookie-reply-garbage",
            Self::TransportGarbage => "transport-garbage",
        }
    }

    /// A pool of `count` distinct datagrams.
    #[must_use]
    pub fn datagrams(self, stranger: &Stranger<'_>, count: u32) -> Vec<Vec<u8>> {
        (0..count).map(|number| self.datagram(stranger, number)).collect()
    }

    fn datagram(self, stranger: &Stranger<'_>, number: u32) -> Vec<u8> {
        let edge = &stranger.edge.key;
        match self {
            Self::InitiationWrongMac1 => garbage(1, 148, number),
            Self::InitiationGarbage => with_mac1(b"mac1----", edge, garbage(1, 148, number)),
            Self::InitiationUnknownKey => {
                Initiation { sender: number, ..Initiation::honest(*edge, &secret(number)) }.message()
            }
            Self::InitiationStolenKey => Initiation {
                sender: number,
                ephemeral: secret(number),
                ..Initiation::forged(*edge, stranger.victim.0)
            }
            .message(),
            Self::IntroductionWrongMac1 => garbage(0x10, 640, number),
            Self::IntroductionGarbage => with_mac1(b"certmac1", edge, garbage(0x10, 640, number)),
            Self::IntroductionForgedSignature => {
                let mut leaf = stranger.owner.leaf(&own_leaf(number));
                // The last octet of the signature's second integer.
                if let Some(last) = leaf.last_mut() {
                    *last ^= 1;
                }
                sealed(stranger, number, leaf)
            }
            Self::IntroductionStolenCertificate => {
                let (key, address) = stranger.victim;
                let leaf = LeafPlan::new(key, 1, address.into(), SystemTime::now());
                sealed(stranger, number, stranger.owner.leaf(&leaf))
            }
            Self::IntroductionForeignOwner => {
                let foreign = Authority::new(0x77, "Somebody else's client CA");
                sealed(stranger, number, foreign.leaf(&own_leaf(number)))
            }
            Self::CookieReplyGarbage => garbage(3, 64, number),
            Self::TransportGarbage => garbage(4, 148, number),
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{name} is no kind of forgery; there are {names}")
        })
    }
}

/// The stranger's own keys.
fn secret(number: u32) -> Secret {
    Secret::new(expand(number, 0))
}

/// What the stranger's own certificate would say.
fn own_leaf(number: u32) -> LeafPlan {
    let key = secret(number).x25519_public().unwrap();
    let address = Ipv4Addr::from(0x0a80_0000 + number);
    LeafPlan::new(*key.as_bytes(), 0x1000_0000 + u64::from(number), address.into(), SystemTime::now())
}

/// An introduction of `leaf`, sealed by the stranger's key.
fn sealed(stranger: &Stranger<'_>, number: u32, leaf: Vec<u8>) -> Vec<u8> {
    let identity = Identity {
        secret: secret(number),
        address: Ipv4Addr::new(10, 128, 0, 1),
        introduction: Some(Introduction { leaf, intermediate: None, binding: None }),
        psk: None,
        keepalive: 0,
    };
    let now = Now { mono: Instant::now(), wall: SystemTime::now() };
    Client::introduction(identity, &stranger.edge, now)
}

/// A message of type `kind` whose fields are noise; mac2 is zero.
fn garbage(kind: u8, len: usize, number: u32) -> Vec<u8> {
    let blocks = (1..).flat_map(|block| expand(number, block));
    let mut message: Vec<u8> = blocks.take(len).collect();
    let version = u8::from(kind == 0x10);
    message[..4].copy_from_slice(&[kind, version, 0, 0]);
    message[len - 16..].fill(0);
    message
}

fn with_mac1(label: &[u8; 8], edge: &verona_contract::key::PublicKey, mut message: Vec<u8>) -> Vec<u8> {
    let at = message.len() - 32;
    let mac1 = forgery::mac1(label, edge, &message[..at]);
    message[at..at + 16].copy_from_slice(&mac1);
    message
}

fn expand(number: u32, block: u32) -> [u8; 32] {
    Blake2s256::new()
        .chain_update(b"flood")
        .chain_update(number.to_le_bytes())
        .chain_update(block.to_le_bytes())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The core is the judge: each kind must be refused, and for the reason it stands for.
    #[test]
    fn each_kind_is_refused_for_its_own_reason() {
        let reasons = [
            "mac1",
            "not_authentic",
            "unknown_key",
            "not_authentic",
            "mac1",
            "not_authentic",
            "path_invalid",
            "key_mismatch",
            "unknown_issuer",
            "unknown_session",
            "unknown_session",
        ];
        for (kind, reason) in Kind::ALL.into_iter().zip(reasons) {
            let refused = refusals(kind);
            assert_eq!(refused, BTreeMap::from([(reason.to_owned(), 3)]), "{}", kind.name());
            assert_eq!(kind.name().parse(), Ok(kind));
        }
    }

    fn refusals(kind: Kind) -> BTreeMap<String, u64> {
        let (secret, authority) = (Secret::new([0x41; 32]), Authority::new(0x31, "Acme client CA"));
        let victim = *Secret::new([0x51; 32]).x25519_public().unwrap().as_bytes();
        let address = Ipv4Addr::new(10, 9, 0, 2);
        let edge = EdgeAddress {
            key: secret.x25519_public().unwrap(),
            at: ([192, 0, 2, 1], 51820).into(),
            inside: Ipv4Addr::new(10, 9, 0, 1),
        };
        let leaf = authority.leaf(&LeafPlan::new(victim, 1, address.into(), SystemTime::now()));
        let mut engine = crate::gate::engine(&secret, &authority, &[leaf]);
        let stranger = Stranger { edge, owner: &authority, victim: (victim, address) };
        let pool = kind.datagrams(&stranger, 3);
        let from = ([192, 0, 2, 9], 9).into();
        let now = Now { mono: Instant::now(), wall: SystemTime::now() };
        let mut out = crate::fuzz::data_plane::Sink::default();
        engine.handle_datagrams(now, pool.iter().map(|octets| (from, octets.as_slice())), &mut out);
        assert!(out.datagrams.is_empty() && out.packets.is_empty());
        engine.counters().refused
    }
}
