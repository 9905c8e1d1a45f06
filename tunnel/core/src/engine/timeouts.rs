//! What time brings: ticks, retries, keepalives, revival, certificates and records that run out.

use super::Engine;
use crate::output::Output;
use crate::peer::Origin;
use crate::peers::PeerId;
use crate::session::{Scratch, Step};
use crate::time::Now;
use std::time::Instant;
use verona_contract::control::Event;

impl Engine {
    /// The next deadline, and what it is for. It may turn out to be void; calling
    /// [`Engine::handle_timeout`] early or for nothing is harmless.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let session = self.timers.next().map(|at| (at, "session timer"));
        let unproven = self.certified.as_ref().and_then(|certified| certified.unproven.front());
        let unproven = unproven.map(|entry| (entry.until, "unproven introduction"));
        let call = self.calls.next().map(|at| (at, "call of a hinted endpoint"));
        session.into_iter().chain(unproven).chain(call).min_by_key(|(at, _)| *at)
    }

    /// Does everything that is due.
    pub fn handle_timeout(&mut self, now: Now, out: &mut impl Output) {
        while let Some((due, id)) = self.timers.pop_due(now.mono) {
            let current = self.session_mut(id).is_some_and(|session| session.schedule.due == due);
            if current {
                self.service(id, now, out);
            }
        }
        self.make_calls(now, out);
        self.drop_unproven(now.mono);
    }

    /// One look at one live session.
    fn service(&mut self, id: PeerId, now: Now, out: &mut impl Output) {
        if self.cut_if_refused(id, now).is_some() {
            return;
        }
        let mut scratch: Scratch = [0; _];
        let Some(session) = self.session_mut(id) else { return };
        match session.tick(now.mono, &mut scratch) {
            Step::Send(len) => self.transmit(id, &scratch[..len], now.mono, out),
            Step::Expired => self.session_expired(id, now),
            _ => {}
        }
        self.run_own_timers(id, now, out);
        self.reschedule(id, now.mono);
    }

    /// The timers that are not boringtun's.
    fn run_own_timers(&mut self, id: PeerId, now: Now, out: &mut impl Output) {
        let Some(peer) = self.peers.peer(id) else { return };
        let (brisk, keepalive) = (peer.is_brisk(), peer.keepalive());
        let Some(session) = &peer.session else { return };
        let schedule = session.schedule;
        let (has_keys, wants_rekey) = (session.has_keys(), session.wants_rekey(now.mono));
        if brisk && schedule.brisk_retry_is_due(now.mono) {
            self.initiate(id, true, now, out);
        } else if schedule.handshake_is_due(now.mono, brisk) {
            self.initiate(id, false, now, out);
        }
        if schedule.keepalive_is_due(now.mono, keepalive) {
            self.send_packet(id, &[], now, out);
            if wants_rekey {
                self.initiate(id, false, now, out);
            }
        } else if has_keys && schedule.answer_is_due(now.mono) {
            self.send_packet(id, &[], now, out);
        }
    }

    /// The protocol gave up. Configured peers keep their state, and begin again by themselves if they have a
    /// persistent keepalive; a certified peer has to come back, which costs nothing until it does.
    fn session_expired(&mut self, id: PeerId, now: Now) {
        self.journal.totals.sessions_expired += 1;
        let Some(peer) = self.peers.peer_mut(id) else { return };
        let revive = peer.keepalive().is_some();
        if peer.record().is_some() {
            peer.session = None;
            if peer.is_hinted() {
                // Nobody was there. The next call is the peer's own, or that of a packet for it.
                peer.origin = Origin::Called;
            } else {
                let key = peer.key;
                self.journal.push(Event::Expired { key });
            }
        } else if let Some(session) = &mut peer.session {
            session.schedule.expired(now.mono, revive, &mut self.rng);
        }
    }
}
