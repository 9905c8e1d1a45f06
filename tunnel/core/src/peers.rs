//! All peers, by number and by key.
//!
//! A peer's number is also the upper 23 bits of its session indices, so a transport message finds its peer
//! without a search; the bit below tells the peer's two transports apart. Numbers are used again after removal,
//! but not at once: a lane may be in the middle of a batch, with routes that still lead to the old peer. A late
//! packet from the old peer fails at the new one's cipher.

use crate::PublicKey;
use crate::peer::Peer;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Session indices are 32 bits: 23 for the peer, 1 for the transport, 8 that boringtun counts up.
pub(crate) const MAX_PEERS: usize = (1 << 23) - 1;

/// How long a number rests. A batch is over in milliseconds; a lane that is held up this long is not alive.
const REST: Duration = Duration::from_secs(10);

/// A peer's number, 0 to 2^23 − 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(NonZeroU32);

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
        Self::new(index >> 9)
    }

    /// Which of the peer's transports a session index is for.
    pub(crate) const fn transport_of(index: u32) -> usize {
        (index >> 8 & 1) as usize
    }

    /// The upper 24 bits of the session indices of one of the peer's transports.
    pub(crate) const fn index(self, transport: usize) -> u32 {
        self.number() << 1 | (transport & 1) as u32
    }

    pub(crate) const fn number(self) -> u32 {
        self.0.get() - 1
    }
}

#[derive(Default)]
pub(crate) struct Peers {
    slots: Vec<Option<Box<Peer>>>,
    free: Vec<PeerId>,
    /// Numbers of removed peers, and since when the routes to them are gone; oldest first.
    resting: VecDeque<(PeerId, Option<Instant>)>,
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

    /// No route leads to the removed peers any more, as of `now`.
    pub(crate) fn rest(&mut self, now: Instant) {
        for (_, since) in self.resting.iter_mut().rev().take_while(|(_, since)| since.is_none()) {
            *since = Some(now);
        }
        while let Some((id, Some(since))) = self.resting.front()
            && now.saturating_duration_since(*since) >= REST
        {
            self.free.push(*id);
            self.resting.pop_front();
        }
    }

    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Box<Peer>> {
        let peer = self.slots.get_mut(id.number() as usize)?.take()?;
        self.by_key.remove(&peer.key);
        self.resting.push_back((id, None));
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Basis, Peer};
    use verona_contract::control::Tai64n;

    #[test]
    fn a_number_rests_before_it_is_used_again() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let peer = |octet: u8| {
            let key = PublicKey::new([octet; 32]).unwrap();
            Peer::new(key, Basis::Configured(Box::default()), Tai64n::default())
        };
        let mut peers = Peers::default();
        let first = peers.insert(peer(1)).unwrap();
        peers.remove(first).unwrap();
        assert_ne!(peers.insert(peer(2)), Some(first), "its routes may still be in use");
        peers.rest(now);
        peers.rest(now + REST / 2);
        assert_ne!(peers.insert(peer(3)), Some(first));
        peers.rest(now + REST);
        assert_eq!(peers.insert(peer(4)), Some(first));
    }
}
