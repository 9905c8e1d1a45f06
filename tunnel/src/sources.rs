//! From which of our addresses a peer is answered: the one that it wrote to.
//!
//! A host with several addresses would otherwise answer from the one that its routes prefer, and a
//! firewall or NAT in front of the peer drops an answer from a stranger. The engine knows peers by their
//! address only, so the pairing is kept here. A datagram alone proves nothing: an address is remembered
//! once the engine answers a handshake from it, which it does only to a proven peer.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;

use crate::sys::ancillary::Local;

/// Peers remembered. Two that share a slot take turns; the other gets the kernel's choice.
const SLOTS: usize = 4096;

/// First octets of the messages that may be answered at once: a handshake initiation (WireGuard paper
/// §5.4.2) and a certificate introduction.
const ANSWERED: [u8; 2] = [1, 0x10];
/// A handshake response (§5.4.3): its receiver is proven.
const RESPONSE: u8 = 2;
/// A cookie reply (§5.4.7): its receiver is not proven.
const COOKIE_REPLY: u8 = 3;

/// The pairing of peers with our addresses.
pub(crate) struct Sources {
    /// What may be answered in this batch.
    arrivals: Vec<(SocketAddr, Local)>,
    slots: Box<[Option<(SocketAddr, Local)>]>,
    hasher: RandomState,
    /// Pairings that are new since they were last asked for.
    learned: Vec<(SocketAddr, Local)>,
}

impl Sources {
    pub(crate) fn new() -> Self {
        Self {
            arrivals: Vec::with_capacity(64),
            slots: vec![None; SLOTS].into_boxed_slice(),
            hasher: RandomState::new(),
            learned: Vec::new(),
        }
    }

    /// Whether the arrival of a message with this first octet is worth noting.
    pub(crate) fn is_answered(kind: u8) -> bool {
        ANSWERED.contains(&kind)
    }

    /// Replaces the arrivals by those of the batch that is about to be handled: source, local address.
    pub(crate) fn begin_batch(&mut self, arrivals: impl Iterator<Item = (SocketAddr, Local)>) {
        self.arrivals.clear();
        self.arrivals.extend(arrivals);
    }

    /// The address from which to send a message with first octet `kind` to `to`; `None` leaves it to the
    /// kernel.
    pub(crate) fn choose(&mut self, to: SocketAddr, kind: u8) -> Option<Local> {
        if matches!(kind, RESPONSE | COOKIE_REPLY) {
            // The last one, if a peer wrote to several: its newest wish.
            let arrival = self.arrivals.iter().rev().find(|(from, _)| *from == to);
            if let Some(&(from, local)) = arrival {
                if kind == RESPONSE {
                    let slot = self.slot(from);
                    if self.slots[slot].replace((from, local)) != Some((from, local)) {
                        self.learned.push((from, local));
                    }
                }
                return Some(local);
            }
        }
        self.slots[self.slot(to)].filter(|(peer, _)| *peer == to).map(|(_, local)| local)
    }

    /// What was learned since the last call, for the others who write to these peers.
    pub(crate) fn take_learned(&mut self) -> Vec<(SocketAddr, Local)> {
        std::mem::take(&mut self.learned)
    }

    /// Takes over what another one has learned.
    pub(crate) fn learn(&mut self, peer: SocketAddr, local: Local) {
        let slot = self.slot(peer);
        self.slots[slot] = Some((peer, local));
    }

    /// Drops what is known about `to`: our address of it is gone.
    pub(crate) fn forget(&mut self, to: SocketAddr) {
        let slot = self.slot(to);
        self.slots[slot] = self.slots[slot].filter(|(peer, _)| *peer != to);
    }

    fn slot(&self, peer: SocketAddr) -> usize {
        // The remainder is below SLOTS.
        (self.hasher.hash_one(peer) % SLOTS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSPORT: u8 = 4;

    fn peer(port: u16) -> SocketAddr {
        ([192, 0, 2, 9], port).into()
    }

    fn local(last: u8) -> Local {
        Local { address: [203, 0, 113, last].into(), interface: 2 }
    }

    #[test]
    fn only_a_proven_peer_is_remembered() {
        let mut sources = Sources::new();
        sources.begin_batch([(peer(1), local(1))].into_iter());
        assert_eq!(sources.choose(peer(1), TRANSPORT), None, "a datagram alone proves nothing");
        assert_eq!(sources.choose(peer(1), COOKIE_REPLY), Some(local(1)));
        assert_eq!(sources.choose(peer(1), TRANSPORT), None, "nor does a cookie reply");
        assert_eq!(sources.choose(peer(1), RESPONSE), Some(local(1)));
        assert_eq!(sources.choose(peer(1), TRANSPORT), Some(local(1)));
        assert_eq!(sources.choose(peer(2), TRANSPORT), None);

        sources.begin_batch(std::iter::empty());
        assert_eq!(sources.choose(peer(1), RESPONSE), Some(local(1)), "kept beyond the batch");
        sources.begin_batch([(peer(1), local(2))].into_iter());
        assert_eq!(sources.choose(peer(1), TRANSPORT), Some(local(1)), "a forged claim moves nothing");
        assert_eq!(sources.choose(peer(1), RESPONSE), Some(local(2)));
        sources.forget(peer(1));
        assert_eq!(sources.choose(peer(1), TRANSPORT), None);
    }

    #[test]
    fn peers_in_one_slot_are_never_mixed_up() {
        let mut sources = Sources::new();
        for port in 1..=u16::MAX {
            sources.begin_batch([(peer(port), local((port % 250) as u8))].into_iter());
            sources.choose(peer(port), RESPONSE);
        }
        let mut known = 0;
        for port in 1..=u16::MAX {
            if let Some(address) = sources.choose(peer(port), TRANSPORT) {
                assert_eq!(address, local((port % 250) as u8));
                known += 1;
            }
        }
        assert!((SLOTS / 2..=SLOTS).contains(&known), "{known}");
    }
}
