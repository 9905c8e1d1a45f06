//! All peers, by number and by key.
//!
//! A peer's number is also the upper 24 bits of its session indices, so a transport message finds its peer
//! without a search. Numbers are used again after removal; a late packet for the old peer then fails at the
//! new one's cipher.

use crate::PublicKey;
use crate::peer::Peer;
use std::collections::HashMap;
use std::num::NonZeroU32;

/// Session indices are 32 bits: 24 for the peer, 8 that boringtun counts up.
pub(crate) const MAX_PEERS: usize = (1 << 24) - 1;

/// A peer's number, 0 to 2^24 − 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId(NonZeroU32);

impl PeerId {
    pub(crate) const fn new(number: u32) -> Self {
        // Offset by one, for the niche: an optional number costs no more than a number.
        match NonZeroU32::new(number.wrapping_add(1)) {
            Some(number) => Self(number),
            None => Self(NonZeroU32::MAX),
        }
    }

    /// Whom a session index is for.
    pub(crate) const fn of_session(index: u32) -> Self {
        Self::new(index >> 8)
    }

    pub(crate) const fn number(self) -> u32 {
        self.0.get() - 1
    }
}

#[derive(Default)]
pub(crate) struct Peers {
    slots: Vec<Option<Box<Peer>>>,
    free: Vec<PeerId>,
    by_key: HashMap<PublicKey, PeerId>,
}

impl Peers {
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn id_of(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.slots.get(id.number() as usize)?.as_deref()
    }

    pub(crate) fn peer_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.slots.get_mut(id.number() as usize)?.as_deref_mut()
    }

    /// In the order of their numbers, so that a simulation replays.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        let numbered = (0..).map(PeerId::new).zip(&self.slots);
        numbered.filter_map(|(id, slot)| Some((id, slot.as_deref()?)))
    }

    pub(crate) fn ids(&self) -> Vec<PeerId> {
        self.iter().map(|(id, _)| id).collect()
    }

    /// Adds a peer whose key is not in the table; `None` when all numbers are taken.
    pub(crate) fn insert(&mut self, peer: Peer) -> Option<PeerId> {
        if self.len() >= MAX_PEERS {
            return None;
        }
        let key = peer.key;
        let id = if let Some(id) = self.free.pop() {
            self.slots[id.number() as usize] = Some(Box::new(peer));
            id
        } else {
            self.slots.push(Some(Box::new(peer)));
            PeerId::new((self.slots.len() - 1) as u32)
        };
        self.by_key.insert(key, id);
        Some(id)
    }

    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Box<Peer>> {
        let peer = self.slots.get_mut(id.number() as usize)?.take()?;
        self.by_key.remove(&peer.key);
        self.free.push(id);
        Some(peer)
    }
}
