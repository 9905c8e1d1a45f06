//! Handshakes: the public-key work, done on a transport that is taken out of its line meanwhile.
//!
//! The line's other transport goes on carrying data, so no packet waits for a handshake. A line is visited for
//! the time of a few assignments only.

use super::Engine;
use crate::admission::Admitted;
use crate::cookie;
use crate::message::CookieReplyMessage;
use crate::output::Output;
use crate::peers::PeerId;
use crate::psk::{Evidence, Psk};
use crate::time::Now;
use crate::transport::{Scratch, Transport};
use std::net::SocketAddr;
use std::time::Instant;
use verona_contract::control::Refusal;

/// A transport that was taken out of its line, and its place there.
type Taken = (usize, Box<Transport>);
/// What a new transport is made for.
type Ticket<'a> = (&'a Admitted, &'a Psk);

impl Engine {
    /// Starts a handshake with a peer whose endpoint is known; while one is under way only `again`.
    pub(super) fn initiate(&mut self, id: PeerId, again: bool, now: Now, out: &mut impl Output) {
        let Some(endpoint) = self.endpoint(id) else { return };
        let Ok(admitted) = self.admit(id, now) else { return };
        self.ensure_session(id, &admitted, now.mono);
        if self.session_mut(id).is_none_or(|session| session.attempts.is_under_way() && !again) {
            return;
        }
        let Some(psk) = self.psk_for_initiation(id, now.mono) else { return };
        let taken = self.take_for_initiation(id, (&admitted, &psk), now);
        let Some((which, mut transport)) = taken else { return };
        let mut scratch: Scratch = [0; _];
        let len = transport.initiate(now.mono, &mut scratch);
        let stamp = transport.stamp(now.mono);
        self.forwarder.with_line(id, |line| {
            line.put(which, transport, false);
            line.activity.initiated(now.mono);
        });
        let Some(len) = len else { return };
        self.introduce_ourselves(id, endpoint, now.mono, out);
        self.journal.totals.initiations_sent += 1;
        let Some(peer) = self.peers.peer_mut(id) else { return };
        let brisk = peer.is_brisk();
        if let Some(session) = &mut peer.session {
            session.attempts.initiated(now.mono, brisk, &mut self.rng);
            session.last_stamp = session.last_stamp.max(Some(stamp));
        }
        self.reschedule(id, now.mono);
        self.send(id, endpoint, &scratch[..len], out);
    }

    /// Takes the transport that does not send, or makes it. boringtun dates its initiations by the wall clock as
    /// it was when a `Tunn` was made; after a step of that clock the two would contradict each other, and the
    /// peer would take one for a replay. Then the one whose time is later must do it, even if it sends: packets
    /// wait 0.2 ms for it.
    fn take_for_initiation(&mut self, id: PeerId, new: Ticket<'_>, now: Now) -> Option<Taken> {
        let last = self.session_mut(id)?.last_stamp;
        let later = |stamp| last.is_none_or(|last| stamp > last);
        let (standby, transport) = self.take_standby(id, new.1, now)?;
        match transport {
            Some(transport) if later(transport.stamp(now.mono)) => return Some((standby, transport)),
            None if later(Transport::first_stamp(now)) => {
                return self.new_transport(id, standby, new, now);
            }
            Some(transport) => {
                self.forwarder.with_line(id, |line| line.put(standby, transport, false));
            }
            None => {}
        }
        let other = self.forwarder.with_line(id, |line| line.take(1 - standby))?;
        match other {
            Some(transport) if later(transport.stamp(now.mono)) => Some((1 - standby, transport)),
            Some(transport) => {
                self.forwarder.with_line(id, |line| line.put(1 - standby, transport, false));
                self.new_transport(id, standby, new, now)
            }
            None => self.new_transport(id, standby, new, now),
        }
    }

    /// The transport that does not send, if it was made with this preshared key; boringtun takes no other later.
    fn take_standby(&mut self, id: PeerId, psk: &Psk, now: Now) -> Option<(usize, Option<Box<Transport>>)> {
        let (standby, transport) = self.forwarder.with_line(id, |line| {
            let standby = line.standby(now.mono);
            (standby, line.take(standby))
        })?;
        Some((standby, transport.filter(|transport| transport.psk() == psk.id)))
    }

    fn new_transport(
        &self,
        id: PeerId,
        which: usize,
        (admitted, psk): Ticket<'_>,
        now: Now,
    ) -> Option<Taken> {
        let identity = self.identity.as_ref()?;
        Some((which, Box::new(Transport::new(admitted, identity, psk, id.index(which), now))))
    }

    fn psk_for_initiation(&self, id: PeerId, now: Instant) -> Option<Psk> {
        let peer = self.peers.peer(id)?;
        let session = peer.session.as_ref()?;
        let (has_keys, tried) = (session.has_keys(now), session.attempts.tried(now));
        let known = Evidence { proven: peer.proven_psk, unused: None };
        self.psk(peer, |roots| roots.for_initiation(known, has_keys, tried))
    }

    fn psk_for_response(&self, id: PeerId, now: Instant) -> Option<Psk> {
        let peer = self.peers.peer(id)?;
        let unused = self.forwarder.with_line(id, |line| line.unused(now)).flatten();
        let known = Evidence { proven: peer.proven_psk, unused };
        self.psk(peer, |roots| roots.for_response(known))
    }

    /// Answers an initiation that was proven before. The new session sends once the peer has used it.
    pub(super) fn respond(
        &mut self,
        (id, admitted): (PeerId, &Admitted),
        from: SocketAddr,
        initiation: &[u8],
        now: Now,
        out: &mut impl Output,
    ) -> Result<(), Refusal> {
        self.ensure_session(id, admitted, now.mono);
        let Some(psk) = self.psk_for_response(id, now.mono) else { return Ok(()) };
        let Some((which, transport)) = self.take_standby(id, &psk, now) else { return Ok(()) };
        let taken = match transport {
            Some(transport) => Some((which, transport)),
            None => self.new_transport(id, which, (admitted, &psk), now),
        };
        let Some((which, mut transport)) = taken else { return Ok(()) };
        let mut scratch: Scratch = [0; _];
        let len = transport.respond(initiation, now.mono, &mut scratch);
        self.forwarder.with_line(id, |line| {
            line.put(which, transport, false);
            if len.is_some() {
                line.activity.handshake_ended();
            }
        });
        let len = len.ok_or(Refusal::NotAuthentic)?;
        if let Some(session) = self.session_mut(id) {
            session.attempts.handshake_ended(now.mono);
        }
        self.journal.totals.responses_sent += 1;
        // To where the initiation came from; the endpoint itself moves with the first transport message.
        self.send(id, from, &scratch[..len], out);
        self.reschedule(id, now.mono);
        Ok(())
    }

    /// Takes the answer to our initiation. The new session sends from here on.
    pub(super) fn handle_response(
        &mut self,
        now: Now,
        (from, receiver): (SocketAddr, u32),
        datagram: &[u8],
        out: &mut impl Output,
    ) -> Result<(), Refusal> {
        let id = PeerId::of_session(receiver);
        let which = PeerId::transport_of(receiver);
        if self.session_mut(id).is_none() {
            return Err(Refusal::UnknownSession);
        }
        let taken = self.forwarder.with_line(id, |line| line.take(which)).flatten();
        let mut transport = taken.ok_or(Refusal::UnknownSession)?;
        let mut scratch: Scratch = [0; _];
        let len = transport.finish(datagram, receiver, now.mono, &mut scratch);
        let arrival = (from, datagram.len());
        let waited = self.lane.on_line(id, out, |line, way| {
            line.put(which, transport, len.is_some());
            len.is_some() && {
                line.activity.handshake_ended();
                line.authentic(arrival, false, now.mono);
                // Waiting packets confirm the session as well as a keepalive does.
                line.flush(now.mono, way)
            }
        });
        let len = len.ok_or(Refusal::NotAuthentic)?;
        if let Some(session) = self.session_mut(id) {
            session.attempts.handshake_ended(now.mono);
        }
        if waited == Some(false) {
            self.forwarder.with_line(id, |line| line.activity.sent(now.mono, false));
            self.send(id, from, &scratch[..len], out);
        }
        self.confirmed(id, (1, from), now);
        self.attend(id, now, out);
        Ok(())
    }

    pub(super) fn handle_cookie_reply(
        &mut self,
        now: Now,
        reply: &CookieReplyMessage<'_>,
        datagram: &[u8],
    ) -> Result<(), Refusal> {
        let id = PeerId::of_session(reply.receiver);
        let which = PeerId::transport_of(reply.receiver);
        let peer = self.peers.peer_mut(id).ok_or(Refusal::UnknownSession)?;
        if let Some(introducer) = peer.introducer_mut()
            && let Some((sender, mac1)) = introducer.last
            && sender == reply.receiver
            && let Some(cookie) = cookie::open_reply(&introducer.reach.cookie, reply, &mac1)
        {
            introducer.cookie = Some((cookie, now.mono));
        } else if self.forwarder.with_line(id, |line| line.take_cookie(which, datagram)) != Some(true) {
            return Err(Refusal::NotAuthentic);
        }
        self.journal.totals.cookies_taken += 1;
        Ok(())
    }
}
