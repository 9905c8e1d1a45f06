//! What comes from the network: the order of checks of an initiation, cheapest first, and the fast path of
//! transport messages.

use super::Engine;
use crate::PublicKey;
use crate::cookie;
use crate::initiation::Claim;
use crate::load::{Verdict, Work};
use crate::message::{CookieReplyMessage, InitiationMessage, Message};
use crate::output::{Output, send_datagram};
use crate::peer::Origin;
use crate::peers::PeerId;
use crate::session::{Scratch, Step};
use crate::time::Now;
use std::net::SocketAddr;
use verona_contract::control::{Event, Refusal};

/// A refusal, with the key that the sender claimed where it could be read.
pub(super) struct Refused(pub(super) Refusal, pub(super) Option<PublicKey>);

impl From<Refusal> for Refused {
    fn from(reason: Refusal) -> Self {
        Self(reason, None)
    }
}

impl Engine {
    /// Takes a batch of datagrams from the network, each with its source.
    pub fn handle_datagrams<'a>(
        &mut self,
        now: Now,
        batch: impl Iterator<Item = (SocketAddr, &'a [u8])>,
        out: &mut impl Output,
    ) {
        for (from, datagram) in batch {
            if let Err(Refused(reason, key)) = self.handle_datagram(now, from, datagram, out) {
                self.journal.refuse(reason, key, from, now.mono);
            }
        }
    }

    fn handle_datagram(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut impl Output,
    ) -> Result<(), Refused> {
        self.journal.totals.rx_bytes += datagram.len() as u64;
        match Message::parse(datagram).ok_or(Refusal::Malformed)? {
            Message::Data { receiver } => self.handle_data(now, (from, receiver), datagram, out)?,
            Message::Initiation(message) => {
                self.pass_limits(now, Work::Handshake, (from, message.sender), datagram, out)?;
                self.handle_initiation(now, from, (&message, datagram), out)?;
            }
            Message::Response { receiver, sender } => {
                self.pass_limits(now, Work::Handshake, (from, sender), datagram, out)?;
                self.handle_response(now, (from, receiver), datagram, out)?;
            }
            Message::CookieReply(reply) => self.handle_cookie_reply(now, &reply, datagram)?,
            // Only an edge with a policy knows what to do with a certificate.
            Message::Introduction { .. } if self.certified.is_none() => return Err(Refusal::Malformed.into()),
            Message::Introduction { sender } => {
                self.pass_limits(now, Work::Introduction, (from, sender), datagram, out)?;
                self.handle_introduction(now, datagram)?;
            }
        }
        Ok(())
    }

    /// Step 1 of the admission: mac1, then under load mac2.
    fn pass_limits(
        &mut self,
        now: Now,
        work: Work,
        (from, sender): (SocketAddr, u32),
        datagram: &[u8],
        out: &mut impl Output,
    ) -> Result<(), Refusal> {
        // Without a key there is no mac1 that could be right.
        let reach = &self.identity.as_ref().ok_or(Refusal::Mac1)?.reach;
        let mac1_key = match work {
            Work::Handshake => &reach.handshake_mac1,
            Work::Introduction => &reach.introduction_mac1,
        };
        if !cookie::mac1_is_valid(mac1_key, datagram) {
            return Err(Refusal::Mac1);
        }
        let (cookies, rng) = (&mut self.cookies, &mut self.rng);
        let mac2_is_valid = || cookies.mac2_is_valid(from, datagram, now.mono, rng);
        match self.load.judge(work, from.ip(), now.mono, mac2_is_valid) {
            Verdict::Process => Ok(()),
            Verdict::Drop => Err(Refusal::RateLimited),
            Verdict::DemandCookie => {
                let reply = cookies.reply(&reach.cookie, (from, sender), datagram, now.mono, rng);
                if let Some(reply) = reply {
                    send_datagram(out, from, &reply);
                    self.journal.totals.cookies_sent += 1;
                }
                Err(Refusal::CookieDemanded)
            }
        }
    }

    /// Steps 2 to 5: key, record, proof, state.
    fn handle_initiation(
        &mut self,
        now: Now,
        from: SocketAddr,
        (message, datagram): (&InitiationMessage<'_>, &[u8]),
        out: &mut impl Output,
    ) -> Result<(), Refused> {
        let identity = self.identity.as_ref().ok_or(Refusal::Mac1)?;
        let claim = Claim::open(identity, message).map_err(|_| Refusal::NotAuthentic)?;
        let key = claim.key;
        let refused = |reason| Refused(reason, Some(key));
        let id = self.peers.id_of(&key).ok_or_else(|| refused(Refusal::UnknownKey))?;
        let admitted = self.admit(id, now).map_err(refused)?;
        let proof = claim.prove(identity).map_err(|_| refused(Refusal::NotAuthentic))?;
        let peer = self.peers.peer_mut(id).ok_or_else(|| refused(Refusal::UnknownKey))?;
        if proof.timestamp <= peer.last_timestamp {
            return Err(refused(Refusal::Replay));
        }
        peer.last_timestamp = proof.timestamp;

        self.ensure_session(id, &admitted, now.mono);
        self.tick_before_use(id, now.mono, out);
        let mut scratch: Scratch = [0; _];
        let Some(session) = self.session_mut(id) else { return Ok(()) };
        let Step::Send(len) = session.respond(datagram, &mut scratch) else {
            return Err(refused(Refusal::NotAuthentic));
        };
        session.schedule.handshake_ended();
        self.journal.totals.responses_sent += 1;
        // To where the initiation came from; the endpoint itself moves with the first transport message.
        self.send(id, from, &scratch[..len], out);
        self.reschedule(id, now.mono);
        Ok(())
    }

    fn handle_response(
        &mut self,
        now: Now,
        (from, receiver): (SocketAddr, u32),
        datagram: &[u8],
        out: &mut impl Output,
    ) -> Result<(), Refusal> {
        let id = PeerId::of_session(receiver);
        self.tick_before_use(id, now.mono, out);
        let mut scratch: Scratch = [0; _];
        let session = self.session_mut(id).ok_or(Refusal::UnknownSession)?;
        let Step::Send(len) = session.finish(datagram, now.mono, &mut scratch) else {
            return Err(Refusal::NotAuthentic);
        };
        session.schedule.handshake_ended();
        self.authentic(id, (from, datagram.len()), false, now);
        // Waiting packets confirm the session as well as a keepalive does.
        if !self.after_confirmation(id, from, now, out) {
            self.transmit(id, &scratch[..len], now.mono, out);
        }
        self.reschedule(id, now.mono);
        Ok(())
    }

    fn handle_cookie_reply(
        &mut self,
        now: Now,
        reply: &CookieReplyMessage<'_>,
        datagram: &[u8],
    ) -> Result<(), Refusal> {
        let id = PeerId::of_session(reply.receiver);
        let peer = self.peers.peer_mut(id).ok_or(Refusal::UnknownSession)?;
        if let Some(introducer) = peer.introducer_mut()
            && let Some((sender, mac1)) = introducer.last
            && sender == reply.receiver
            && let Some(cookie) = cookie::open_reply(&introducer.reach.cookie, reply, &mac1)
        {
            introducer.cookie = Some((cookie, now.mono));
        } else if !peer.session.as_mut().is_some_and(|session| session.take_cookie(datagram)) {
            return Err(Refusal::NotAuthentic);
        }
        self.journal.totals.cookies_taken += 1;
        Ok(())
    }

    /// The fast path.
    fn handle_data(
        &mut self,
        now: Now,
        (from, receiver): (SocketAddr, u32),
        datagram: &[u8],
        out: &mut impl Output,
    ) -> Result<(), Refusal> {
        let id = PeerId::of_session(receiver);
        self.tick_before_use(id, now.mono, out);
        let session = self.session_mut(id).ok_or(Refusal::UnknownSession)?;
        let step = session.open(datagram, receiver, now.mono, out.packet_buffer(datagram.len()));
        match step {
            Step::Deliver(len, source) if self.routes.lookup(source) == Some(id) => {
                out.commit_packet(len);
                self.journal.totals.rx_packets += 1;
                if let Some(peer) = self.peers.peer_mut(id) {
                    peer.rx_inner += len as u64;
                }
            }
            Step::Deliver(..) => self.journal.totals.packets_wrong_source += 1,
            Step::Keepalive | Step::NotIp => {}
            _ => {
                self.journal.totals.data_refused += 1;
                return Ok(());
            }
        }
        self.authentic(id, (from, datagram.len()), step != Step::Keepalive, now);
        self.after_confirmation(id, from, now, out);
        Ok(())
    }

    /// The peer has shown by keys that it sent this: it is heard, and it is there.
    fn authentic(&mut self, id: PeerId, (from, octets): (SocketAddr, usize), data: bool, now: Now) {
        let Some(peer) = self.peers.peer_mut(id) else { return };
        peer.rx_bytes += octets as u64;
        if let Some(session) = &mut peer.session {
            session.schedule.heard(now.mono, data);
        }
        let known = std::mem::replace(&mut peer.origin, Origin::Known) == Origin::Known;
        let before = peer.endpoint.replace(from).filter(|_| known);
        if let Some(old) = before.filter(|old| *old != from) {
            self.journal.totals.roamed += 1;
            let key = peer.key;
            self.journal.push(Event::Roamed { key, old, new: from });
        }
    }

    /// Does what a newly confirmed handshake calls for; true when packets had waited for it.
    fn after_confirmation(&mut self, id: PeerId, from: SocketAddr, now: Now, out: &mut impl Output) -> bool {
        let Some(peer) = self.peers.peer_mut(id) else { return false };
        let Some(session) = &mut peer.session else { return false };
        if !session.take_confirmation() {
            return false;
        }
        let newly_proven = session.newly_proven();
        let waiting = session.take_queue();
        peer.last_handshake = Some(now.wall);
        self.journal.totals.handshakes += 1;
        self.record_is_proven(id, newly_proven.then_some(from));
        for packet in &waiting {
            self.send_packet(id, packet, now, out);
        }
        !waiting.is_empty()
    }
}
