//! What time brings: looks, retries, keepalives, revival, certificates and records that run out.

use super::Engine;
use crate::forwarder::Glance;
use crate::line::Line;
use crate::output::Output;
use crate::peer::Origin;
use crate::peers::PeerId;
use crate::session::Session;
use crate::time::Now;
use std::time::Instant;
use verona_contract::control::Event;

/// Peers that are looked at under few locks.
const LOOKS: usize = 256;

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
        loop {
            let due = self.take_due(now.mono);
            if due.is_empty() {
                break;
            }
            for (id, glance) in self.forwarder.glance(&due) {
                self.service(id, &glance, now, out);
            }
        }
        self.make_calls(now, out);
        self.drop_unproven(now.mono);
        self.publish_routes(now.mono);
    }

    /// Peers whose look is due, some of them.
    fn take_due(&mut self, now: Instant) -> Vec<PeerId> {
        let mut ids = Vec::new();
        while ids.len() < LOOKS
            && let Some((due, id)) = self.timers.pop_due(now)
        {
            if self.session_mut(id).is_some_and(|session| session.attempts.due == due) {
                ids.push(id);
            }
        }
        ids
    }

    /// One look at one live session.
    fn service(&mut self, id: PeerId, glance: &Glance, now: Now, out: &mut impl Output) {
        if glance.has_news {
            self.attend(id, now, out);
        }
        if self.cut_if_refused(id, now).is_some() {
            return;
        }
        self.see_to_path(id, glance, now, out);
        let Some(session) = self.session_mut(id) else { return };
        if session.attempts.gives_up(now.mono) {
            self.session_expired(id, now);
        }
        if self.run_timers(id, glance, now, out) {
            self.reschedule(id, now.mono);
        } else {
            // Nothing to do, as for almost everybody almost always: the line need not be locked once more.
            self.reschedule_by(id, &glance.activity, now.mono);
        }
    }

    /// Has the line probe its path, and tells what has come of it.
    fn see_to_path(&mut self, id: PeerId, glance: &Glance, now: Now, out: &mut impl Output) {
        let due = glance.path_due.is_some_and(|due| due <= now.mono);
        if !due && !glance.path_news {
            return;
        }
        let news = self.lane.on_line(id, out, |line, way| {
            if due {
                line.probe_path(now.mono, way);
            }
            line.take_path_news().map(|path_mtu| (path_mtu, line.inner_mtu(way.mtu)))
        });
        if let (Some(Some((path_mtu, interface_mtu))), Some(peer)) = (news, self.peers.peer(id)) {
            let key = peer.key;
            self.journal.push(Event::PathMtu { key, path_mtu, interface_mtu });
        }
    }

    /// Whether anything was done.
    fn run_timers(&mut self, id: PeerId, glance: &Glance, now: Now, out: &mut impl Output) -> bool {
        let Some(peer) = self.peers.peer(id) else { return false };
        let (brisk, keepalive) = (peer.is_brisk(), peer.keepalive());
        let Some(Session { attempts, .. }) = peer.session.as_deref() else { return false };
        let mut done = true;
        if attempts.retry_is_due(now.mono) {
            self.initiate(id, true, now, out);
        } else if attempts.handshake_is_due(now.mono, &glance.activity, brisk) {
            self.initiate(id, false, now, out);
        } else if glance.asked && !attempts.is_under_way() {
            self.forwarder.with_line(id, Line::forget_asking);
        } else {
            done = false;
        }
        if glance.activity.keepalive_is_due(now.mono, keepalive) {
            self.send_keepalive(id, now, out);
            if glance.rekey_at.is_some_and(|at| at <= now.mono) {
                self.initiate(id, false, now, out);
            }
            done = true;
        } else if glance.keys_until.is_some_and(|until| now.mono < until)
            && glance.activity.answer_is_due(now.mono)
        {
            self.send_keepalive(id, now, out);
            done = true;
        }
        done
    }

    /// Sends an empty packet, or begins the handshake that will do as well.
    pub(super) fn send_keepalive(&mut self, id: PeerId, now: Now, out: &mut impl Output) {
        let sent = self.lane.on_line(id, out, |line, way| {
            let keys = line.has_keys(now.mono);
            if keys {
                line.send(now.mono, &[], way);
            }
            keys
        });
        if sent != Some(true) {
            self.initiate(id, false, now, out);
        }
    }

    /// The protocol gave up. Configured peers and neighbours keep their state, and begin again by themselves if
    /// they have a persistent keepalive; a client has to come back, which costs nothing until it does.
    fn session_expired(&mut self, id: PeerId, now: Now) {
        self.journal.totals.sessions_expired += 1;
        let Some(peer) = self.peers.peer_mut(id) else { return };
        let revive = peer.keepalive().is_some();
        if peer.record().is_some() && peer.neighbour.is_none() {
            peer.end_session();
            if peer.is_hinted() {
                // Nobody was there. The next call is the peer's own, or that of a packet for it.
                peer.origin = Origin::Called;
            } else {
                let key = peer.key;
                self.journal.push(Event::Expired { key });
            }
        } else if let Some(session) = &mut peer.session {
            session.attempts.expired(now.mono, revive, &mut self.rng);
            session.keys_until = None;
            self.forwarder.with_line(id, |line| line.expire(now.mono));
        }
    }
}
