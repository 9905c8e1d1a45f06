//! Hinted endpoints: after a restart the edge calls its pushed clients itself.
//!
//! Stock WireGuard doubts a session that its peer has lost only after 15 s. The agent's hint tells where the
//! client was; a handshake from here gives it a new session at once. A hint decides nothing: the admission is
//! the same, and until something authentic comes the peer counts as not heard of.

use super::Engine;
use crate::output::Output;
use crate::peer::{Origin, Peer};
use crate::peers::PeerId;
use crate::time::Now;
use crate::timers::Timers;
use std::time::{Duration, Instant};
use verona_contract::control::PeerEndpoint;

/// Calls are spread at random over this much for each of them, so that 1,000 answers fill 1.5 s and stay below
/// the rate at which cookies are demanded.
const PACE: Duration = Duration::from_micros(1500);
/// When a neighbour that may not have a session now is looked at again: its certificate may begin later.
const LATER: Duration = Duration::from_secs(30);

impl Engine {
    /// The sockets have been opened. What was sent before is lost, so calls without an answer are made anew.
    pub fn sockets_opened(&mut self, now: Now) {
        for id in self.peers.ids() {
            if let Some(peer) = self.peers.peer_mut(id)
                && peer.origin == Origin::Called
                && peer.session.as_ref().is_some_and(|session| !session.has_keys(now.mono))
            {
                peer.session = None;
                peer.origin = Origin::Hint;
            }
        }
        self.schedule_calls(now.mono);
    }

    /// Gives certified peers that were not heard of since the start the endpoint that is hinted for them.
    pub(super) fn take_hints(&mut self, hints: &[PeerEndpoint]) {
        for PeerEndpoint { key, endpoint } in hints {
            if let Some(peer) = self.peers.id_of(key).and_then(|id| self.peers.peer_mut(id))
                && peer.record().is_some()
                && peer.session.is_none()
                && (peer.endpoint.is_none() || peer.origin == Origin::Hint)
            {
                peer.endpoint = Some(*endpoint);
                peer.origin = Origin::Hint;
            }
        }
    }

    /// Schedules a call of each peer whose hint was not followed yet. One that is refused then waits for the
    /// next list or the clock, which come here again.
    pub(super) fn schedule_calls(&mut self, now: Instant) {
        let ids: Vec<_> =
            self.peers.iter().filter(|(_, peer)| waits_for_call(peer)).map(|(id, _)| id).collect();
        let spread = PACE.saturating_mul(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        self.calls = Timers::new(now);
        for id in ids {
            self.calls.schedule(now + self.rng.jitter(spread), id);
        }
    }

    pub(super) fn make_calls(&mut self, now: Now, out: &mut impl Output) {
        while let Some((_, id)) = self.calls.pop_due(now.mono) {
            self.call(id, now, out);
        }
    }

    /// Begins a handshake, unless the peer has come by itself, or may not.
    fn call(&mut self, id: PeerId, now: Now, out: &mut impl Output) {
        let Some(peer) = self.peers.peer(id).filter(|peer| waits_for_call(peer)) else { return };
        let for_ever = peer.neighbour.is_some();
        if self.admit(id, now).is_err() {
            if for_ever {
                self.calls.schedule(now.mono + LATER, id);
            }
            return;
        }
        if let Some(peer) = self.peers.peer_mut(id) {
            // A neighbour whose place is known has spoken from there before.
            if peer.origin == Origin::Hint {
                peer.origin = Origin::Called;
            }
        }
        self.initiate(id, false, now, out);
    }
}

/// A hint that was not followed yet, or a neighbour that is to be reached for ever.
fn waits_for_call(peer: &Peer) -> bool {
    let called = peer.origin == Origin::Hint || (peer.neighbour.is_some() && peer.endpoint.is_some());
    called && peer.session.is_none()
}
