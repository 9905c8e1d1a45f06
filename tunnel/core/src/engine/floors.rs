//! Timestamp floors out to the agent and back: a restart must not make a recorded initiation new again.

use super::Engine;
use crate::peer::Peer;
use verona_contract::control::{Floor, Floors, Tai64n};

impl Engine {
    /// Every floor. Visits all peers.
    pub fn all_floors(&mut self) -> Floors {
        // Those on their way are among them.
        self.floors.take_fresh();
        let live = self.peers.iter().map(|(_, peer)| Floor { key: peer.key, timestamp: peer.last_timestamp });
        let proven = live.filter(|floor| floor.timestamp != Tai64n::default());
        // A key may be in both; the later one counts wherever they are merged.
        Floors { floors: self.floors.departed().chain(proven).collect(), complete: true }
    }

    /// The floors that were raised since this or [`Self::all_floors`] was called last.
    pub fn fresh_floors(&mut self) -> Floors {
        let (floors, complete) = self.floors.take_fresh();
        Floors { floors, complete }
    }

    /// Raises floors to what an earlier process has seen proven.
    pub fn restore_floors(&mut self, floors: &[Floor]) {
        for Floor { key, timestamp } in floors {
            self.floors.keep(*key, *timestamp);
            if let Some(peer) = self.peers.id_of(key).and_then(|id| self.peers.peer_mut(id)) {
                raise(peer, *timestamp);
            }
        }
    }
}

fn raise(peer: &mut Peer, timestamp: Tai64n) {
    peer.last_timestamp = timestamp.max(peer.last_timestamp);
}
