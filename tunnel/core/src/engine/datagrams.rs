//! What lanes hand up of the network's datagrams: the order of checks of an initiation, cheapest first.

use super::Engine;
use crate::PublicKey;
use crate::initiation::Claim;
use crate::load::{Verdict, Work};
use crate::message::{InitiationMessage, Message};
use crate::output::{Output, send_datagram};
use crate::time::Now;
use std::net::SocketAddr;
use verona_contract::control::Refusal;

/// A refusal, with the key that the sender claimed where it could be read.
pub(super) struct Refused(pub(super) Refusal, pub(super) Option<PublicKey>);

impl From<Refusal> for Refused {
    fn from(reason: Refusal) -> Self {
        Self(reason, None)
    }
}

impl Engine {
    /// Takes a datagram that a lane has passed: if mac1 is a part of it, it is right.
    pub(super) fn handle_datagram(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut impl Output,
    ) {
        if let Err(Refused(reason, key)) = self.dispatch(now, from, datagram, out) {
            self.journal.refuse(reason, key, from, now.mono);
        }
    }

    fn dispatch(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut impl Output,
    ) -> Result<(), Refused> {
        match Message::parse(datagram).ok_or(Refusal::Malformed)? {
            Message::Data { .. } => {
                // The engine had the keys when it came; now it has put them back.
                self.lane.handle_late(now, (from, datagram), out, &mut self.upcalls);
            }
            Message::Initiation(message) => {
                self.pass_limits(now, Work::Handshake, (from, message.sender), datagram, out)?;
                self.handle_initiation(now, from, (&message, datagram), out)?;
            }
            Message::Response { receiver, sender } => {
                self.pass_limits(now, Work::Handshake, (from, sender), datagram, out)?;
                self.handle_response(now, (from, receiver), datagram, out)?;
            }
            Message::CookieReply(reply) => self.handle_cookie_reply(now, &reply, datagram)?,
            Message::Introduction { sender } => {
                self.pass_limits(now, Work::Introduction, (from, sender), datagram, out)?;
                let key = self.handle_introduction(now, datagram)?;
                // What its sender sent along with it, if that was here first.
                if let Some((from, datagram)) = self.early.take(&key, now.mono)
                    && let Some(Message::Initiation(message)) = Message::parse(&datagram)
                {
                    self.handle_initiation(now, from, (&message, &datagram), out)?;
                }
            }
        }
        Ok(())
    }

    /// Step 1 of the admission, under load: mac2. mac1 was checked by the lane.
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
        let Some(id) = self.peers.id_of(&key) else {
            if self.certified.is_some() {
                self.early.keep(key, from, datagram, now.mono);
            }
            return Err(refused(Refusal::UnknownKey));
        };
        let admitted = self.admit(id, now).map_err(refused)?;
        let proof = claim.prove(identity).map_err(|_| refused(Refusal::NotAuthentic))?;
        let peer = self.peers.peer_mut(id).ok_or_else(|| refused(Refusal::UnknownKey))?;
        if proof.timestamp <= peer.last_timestamp {
            return Err(refused(Refusal::Replay));
        }
        peer.last_timestamp = proof.timestamp;
        if self.certified.is_some() {
            self.floors.proven(key, proof.timestamp);
        }

        self.respond((id, &admitted), from, datagram, now, out).map_err(refused)
    }
}
