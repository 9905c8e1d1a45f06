//! A live peer's protocol state: boringtun's `Tunn` behind the few calls we need, and what it leaves out.
//!
//! What `Tunn` leaves to its user is done here: it is ticked just before use (its timers run on the time of
//! the last tick, and a session that was never ticked dies at birth), plaintext is padded to 16 octets, the
//! queue of packets without a session is bounded, a counter tells which session is not proven yet. Times of
//! retries and revival come from [`crate::schedule`]. No endpoint, no route and no admission is known here,
//! but a session cannot be made without an [`Admitted`] peer.

use crate::Secret;
use crate::admission::Admitted;
use crate::identity::Identity;
use crate::message::{DATA_OVERHEAD, INITIATION};
use crate::peers::PeerId;
use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::PublicKey as DalekPublicKey;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Room for every message that is not data: the longest is an initiation.
pub(crate) type Scratch = [u8; 192];
/// Packets that wait for a session, at most, as the kernel's and wireguard-go's.
const MAX_QUEUE: usize = 128;
/// A tick older than this is repeated before use. It costs 60 ns, and boringtun's shortest timer is 5 s.
const TICK_AGE: Duration = Duration::from_millis(10);
/// Rekey-After-Time (whitepaper §6.1).
const REKEY_AFTER: Duration = Duration::from_secs(120);

pub(crate) struct Session {
    tunn: Tunn,
    ticked: Instant,
    /// Whether there are keys to send with. Only a tick takes them away, so it is exact.
    keys: bool,
    /// Whether our last confirmed handshake was started by us.
    initiator: bool,
    confirmed: Option<Instant>,
    /// Whether a confirmation has not been asked for yet.
    fresh: bool,
    /// Index of a session that we answered and the peer has not used yet.
    unproven: Option<u32>,
    /// Whether any session of this peer was proven.
    proven: bool,
    expired: bool,
    queue: VecDeque<Box<[u8]>>,
    pub(crate) schedule: crate::schedule::Schedule,
}

/// What a call to the protocol asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing to send.
    Done,
    /// The first octets of the buffer are a datagram.
    Send(usize),
    /// The first octets of the buffer are an inner packet from this source.
    Deliver(usize, IpAddr),
    /// Authentic, and nothing to deliver: a keepalive.
    Keepalive,
    /// Authentic, but not an IP packet of the length it claims.
    NotIp,
    /// The protocol gave up on this peer: no handshake for 90 s, or no new keys for 540 s.
    Expired,
    /// Not authentic, a replay, or out of place.
    Refused,
}

impl Session {
    /// Makes the state for an admitted peer. `index` is the peer's number.
    pub(crate) fn new(
        admitted: &Admitted,
        identity: &Identity,
        psk: Option<&Secret>,
        id: PeerId,
        now: Instant,
    ) -> Self {
        let key = DalekPublicKey::from(*admitted.key().as_bytes());
        let psk = psk.map(|psk| *psk.expose());
        // Persistent keepalives are ours (see `schedule`): boringtun's cannot be changed and do not revive.
        let tunn = Tunn::new(identity.dalek(), key, psk, None, id.number(), Some(identity.unlimited.clone()));
        Self {
            tunn,
            ticked: now,
            keys: false,
            initiator: false,
            confirmed: None,
            fresh: false,
            unproven: None,
            proven: false,
            expired: false,
            queue: VecDeque::new(),
            schedule: crate::schedule::Schedule::new(now),
        }
    }

    /// Runs the protocol's timers. `Send` is a keepalive or an initiation.
    pub(crate) fn tick(&mut self, now: Instant, scratch: &mut Scratch) -> Step {
        self.ticked = now;
        let step = match self.tunn.update_timers(scratch) {
            TunnResult::WriteToNetwork(message) => Step::Send(message.len()),
            TunnResult::Err(WireGuardError::ConnectionExpired) if !self.expired => {
                self.expired = true;
                self.unproven = None;
                self.queue = VecDeque::new();
                Step::Expired
            }
            _ => Step::Done,
        };
        self.keys = self.tunn.time_since_last_handshake().is_some();
        step
    }

    /// Whether [`Self::tick`] is due before the next use.
    pub(crate) fn wants_tick(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.ticked) >= TICK_AGE
    }

    /// Starts a handshake; nothing to send when one is under way and `again` is not set.
    pub(crate) fn initiate(&mut self, again: bool, scratch: &mut Scratch) -> Step {
        match self.tunn.format_handshake_initiation(scratch, again) {
            TunnResult::WriteToNetwork(message) => {
                self.expired = false;
                Step::Send(message.len())
            }
            _ => Step::Done,
        }
    }

    /// Answers an initiation that was proven before.
    pub(crate) fn respond(&mut self, initiation: &[u8], scratch: &mut Scratch) -> Step {
        match self.tunn.decapsulate(None, initiation, scratch) {
            TunnResult::WriteToNetwork(response) => {
                self.expired = false;
                self.unproven =
                    response.get(4..8).and_then(|index| Some(u32::from_le_bytes(index.try_into().ok()?)));
                Step::Send(response.len())
            }
            _ => Step::Refused,
        }
    }

    /// Takes a response to our initiation; `Send` is the keepalive that confirms the session.
    pub(crate) fn finish(&mut self, response: &[u8], now: Instant, scratch: &mut Scratch) -> Step {
        match self.tunn.decapsulate(None, response, scratch) {
            TunnResult::WriteToNetwork(keepalive) => {
                self.initiator = true;
                self.confirm(now);
                Step::Send(keepalive.len())
            }
            _ => Step::Refused,
        }
    }

    /// Takes a cookie reply to our initiation or response; false when it is not one.
    pub(crate) fn take_cookie(&mut self, reply: &[u8]) -> bool {
        let mut scratch: Scratch = [0; _];
        matches!(self.tunn.decapsulate(None, reply, &mut scratch), TunnResult::Done)
    }

    /// Opens a transport message. `buffer` is at least as long as `datagram`.
    pub(crate) fn open(&mut self, datagram: &[u8], receiver: u32, now: Instant, buffer: &mut [u8]) -> Step {
        let step = match self.tunn.decapsulate(None, datagram, buffer) {
            TunnResult::Done => Step::Keepalive,
            TunnResult::WriteToTunnelV4(packet, source) => Step::Deliver(packet.len(), source.into()),
            TunnResult::WriteToTunnelV6(packet, source) => Step::Deliver(packet.len(), source.into()),
            TunnResult::Err(WireGuardError::InvalidPacket) => Step::NotIp,
            _ => return Step::Refused,
        };
        if self.unproven == Some(receiver) {
            self.initiator = false;
            self.confirm(now);
        }
        step
    }

    fn confirm(&mut self, now: Instant) {
        self.unproven = None;
        self.keys = true;
        self.confirmed = Some(now);
        self.fresh = true;
    }

    /// True once after each handshake that the peer has confirmed.
    pub(crate) const fn take_confirmation(&mut self) -> bool {
        std::mem::replace(&mut self.fresh, false)
    }

    /// Seals a packet, or a keepalive when it is empty, padded to 16 octets but not beyond `mtu`. `padded` is
    /// room for the padding; `buffer` holds at least [`sealed_len`] octets.
    pub(crate) fn seal(&mut self, packet: &[u8], mtu: usize, padded: &mut [u8], buffer: &mut [u8]) -> Step {
        let len = padded_len(packet.len(), mtu);
        let plain = if len == packet.len() {
            packet
        } else {
            let Some(room) = padded.get_mut(..len) else { return Step::Refused };
            let (front, zeros) = room.split_at_mut(packet.len());
            front.copy_from_slice(packet);
            zeros.fill(0);
            &*room
        };
        if !self.keys || buffer.len() < plain.len() + DATA_OVERHEAD {
            return Step::Refused;
        }
        match self.tunn.encapsulate(plain, buffer) {
            TunnResult::WriteToNetwork(message) => Step::Send(message.len()),
            _ => Step::Refused,
        }
    }

    /// Whether there are keys to send with.
    pub(crate) const fn has_keys(&self) -> bool {
        self.keys
    }

    /// True once, when the first session of this peer is proven.
    pub(crate) const fn newly_proven(&mut self) -> bool {
        self.confirmed.is_some() && !std::mem::replace(&mut self.proven, true)
    }

    /// Whether nothing will happen until somebody uses it: the protocol gave up, and nobody asked to revive.
    pub(crate) const fn is_asleep(&self) -> bool {
        self.expired && !self.schedule.is_reviving()
    }

    /// Whether the initiator's time to rekey has come (whitepaper §6.2). boringtun counts data only, so a
    /// link that carries nothing but keepalives would fall silent at 180 s.
    pub(crate) fn wants_rekey(&self, now: Instant) -> bool {
        self.initiator && self.confirmed.is_some_and(|at| now.saturating_duration_since(at) >= REKEY_AFTER)
    }

    /// Keeps a packet until there are keys; the oldest gives way.
    pub(crate) fn enqueue(&mut self, packet: &[u8]) {
        if self.queue.len() >= MAX_QUEUE {
            self.queue.pop_front();
        }
        self.queue.push_back(packet.into());
    }

    /// The packets that waited.
    pub(crate) fn take_queue(&mut self) -> VecDeque<Box<[u8]>> {
        std::mem::take(&mut self.queue)
    }
}

/// Length of a packet with padding (whitepaper §5.4.6): to 16 octets, but not beyond the MTU.
fn padded_len(len: usize, mtu: usize) -> usize {
    let padded = len.next_multiple_of(16);
    if padded > mtu { len.max(mtu.min(padded)) } else { padded }
}

/// Octets that [`Session::seal`] needs for a packet of `len`.
pub(crate) fn sealed_len(len: usize, mtu: usize) -> usize {
    (padded_len(len, mtu) + DATA_OVERHEAD).max(INITIATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_stops_at_the_mtu() {
        for (len, mtu, padded) in
            [(0, 1420, 0), (1, 1420, 16), (41, 1420, 48), (48, 1420, 48), (1419, 1420, 1420)]
        {
            assert_eq!(padded_len(len, mtu), padded, "{len} octets, MTU {mtu}");
        }
        assert_eq!(padded_len(1500, 1420), 1500, "a packet over the MTU is left as it is");
    }
}
