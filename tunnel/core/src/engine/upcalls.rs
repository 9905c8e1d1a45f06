//! What lanes hand up: news of a line, and packets for peers that have none yet.

use super::Engine;
use crate::line::News;
use crate::output::Output;
use crate::peer::Origin;
use crate::peers::PeerId;
use crate::time::Now;
use crate::upcall::Upcall;
use std::net::SocketAddr;
use verona_contract::control::Event;

impl Engine {
    /// Takes what a lane could not decide.
    pub fn handle_upcall<B: AsRef<[u8]>>(&mut self, now: Now, upcall: &Upcall<B>, out: &mut impl Output) {
        match upcall {
            Upcall::Datagram(from, octets) => self.handle_datagram(now, *from, octets.as_ref(), out),
            Upcall::Attention(id) => self.attend(*id, now, out),
            Upcall::Refused { reason, from, suppressed } => {
                let (reason, endpoint, suppressed) = (*reason, *from, *suppressed);
                self.journal.push(Event::Refused { reason, key: None, endpoint, suppressed });
            }
        }
        self.publish_routes(now.mono);
    }

    /// Sees to what has happened on a line.
    pub(super) fn attend(&mut self, id: PeerId, now: Now, out: &mut impl Output) {
        let news = self.forwarder.with_line(id, |line| (line.take_news(), line.site()));
        let Some((News { confirmed, roamed, wants_handshake }, site)) = news else { return };
        if self.session_mut(id).is_none() {
            self.admit_waiting(id, now, out);
            return;
        }
        if let Some((count, old)) = roamed {
            self.journal.totals.roamed += u64::from(count);
            let new = site.and_then(|site| site.endpoint);
            if let (Some(peer), Some(new)) = (self.peers.peer(id), new) {
                self.journal.push(Event::Roamed { key: peer.key, old, new });
            }
        }
        if let Some((count, from)) = confirmed {
            self.confirmed(id, (count, from), now);
        }
        if wants_handshake {
            self.initiate(id, false, now, out);
        }
    }

    /// Packets wait for a peer without a session: it gets one, if it may have one.
    fn admit_waiting(&mut self, id: PeerId, now: Now, out: &mut impl Output) {
        let reachable = self.identity.is_some() && self.endpoint(id).is_some();
        match self.admit(id, now) {
            Ok(admitted) if reachable => {
                self.ensure_session(id, &admitted, now.mono);
                self.initiate(id, false, now, out);
            }
            _ => {
                let waited = self.forwarder.close_line(id).map_or(0, |mut line| line.clear_queue());
                self.journal.totals.packets_unroutable += waited as u64;
            }
        }
    }

    /// The peer has proven `count` more sessions, the last of them from `from`.
    pub(super) fn confirmed(&mut self, id: PeerId, (count, from): (u32, SocketAddr), now: Now) {
        let line = self.forwarder.with_line(id, |line| {
            line.forget_asking();
            (line.keys_until(), line.psk())
        });
        let (keys_until, psk) = line.unwrap_or_default();
        let Some(peer) = self.peers.peer_mut(id) else { return };
        let Some(session) = &mut peer.session else { return };
        session.keys_until = keys_until;
        let newly_proven = !std::mem::replace(&mut session.proven, true);
        peer.last_handshake = Some(now.wall);
        peer.proven_psk = psk.or(peer.proven_psk);
        peer.origin = Origin::Known;
        self.journal.totals.handshakes += u64::from(count);
        self.record_is_proven(id, newly_proven.then_some(from));
        self.reschedule(id, now.mono);
    }
}
