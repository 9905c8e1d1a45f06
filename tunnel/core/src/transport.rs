//! A `Tunn` of boringtun behind the few calls we need: key pairs of one peer, and its handshakes.
//!
//! boringtun keeps handshake and data in one value, so a live peer has two of these ([`crate::line`]): while
//! one carries data the other can be taken away for the public-key work. boringtun's timers decide nothing: the
//! age of each session is kept here. They are ticked only right before a handshake, so that its session is not
//! born old (one whose `Tunn` was not ticked for 180 s dies at the next tick) and those before it are wiped.
//! Plaintext is padded to 16 octets here. No endpoint, route or retry is known, but none is made without an
//! [`Admitted`] peer.

use crate::admission::Admitted;
use crate::identity::Identity;
use crate::message::{DATA_OVERHEAD, INITIATION};
use crate::psk::Psk;
use crate::time::Now;
use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::PublicKey as DalekPublicKey;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

/// Room for every message that is not data: the longest is an initiation.
pub(crate) type Scratch = [u8; 192];
/// Reject-After-Time (whitepaper §6.1): no key pair serves longer, in either direction.
pub(crate) const REJECT_AFTER: Duration = Duration::from_secs(180);
/// Rekey-After-Time: when an initiator that sends begins anew.
pub(crate) const REKEY_AFTER: Duration = Duration::from_secs(120);
/// Reject-After-Time − Keepalive-Timeout − Rekey-Timeout: when an initiator that only receives does.
pub(crate) const REKEY_AFTER_RECEIVED: Duration = Duration::from_secs(165);
/// Sessions that a `Tunn` holds, by the low bits of their index.
const SESSIONS: usize = 8;
/// Rekey-Attempt-Time: an older initiation is never answered.
const ATTEMPT: Duration = Duration::from_secs(90);

pub(crate) struct Transport {
    tunn: Tunn,
    /// When each session came to be.
    born: [Option<Instant>; SESSIONS],
    /// When the session that we send with came to be; none before the first.
    since: Option<Instant>,
    /// Whether we began the handshake of that session.
    initiator: bool,
    /// Index of a session that we answered and the peer has not used yet.
    unproven: Option<u32>,
    /// Since when our answers were not used.
    unused_since: Option<Instant>,
    /// The id of the preshared key, which boringtun takes once.
    psk: u32,
    /// Index and time of our last initiation, while it may be answered.
    pending: Option<(u32, Instant)>,
    /// boringtun's timestamps follow the wall clock as it was when the `Tunn` was made.
    made: Now,
}

/// What a transport message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The first octets of the buffer are an inner packet from this source.
    Packet(usize, IpAddr),
    /// Authentic, and nothing to deliver.
    Keepalive,
    /// Authentic, but not an IP packet of the length it claims.
    NotIp,
    /// Not authentic, a replay, or too late.
    Refused,
}

impl Transport {
    /// Makes the state for an admitted peer. `index` is the upper 24 bits of its session indices. 80 µs.
    pub(crate) fn new(admitted: &Admitted, identity: &Identity, psk: &Psk, index: u32, now: Now) -> Self {
        let key = DalekPublicKey::from(*admitted.key().as_bytes());
        let secret = psk.secret.as_ref().map(|secret| *secret.expose());
        let limiter = Some(identity.unlimited.clone());
        Self {
            tunn: Tunn::new(identity.dalek(), key, secret, None, index, limiter),
            born: [None; SESSIONS],
            since: None,
            initiator: false,
            unproven: None,
            unused_since: None,
            psk: psk.id,
            pending: None,
            made: stamp_base(now),
        }
    }

    /// Makes an initiation, whether or not one waits for its answer.
    pub(crate) fn initiate(&mut self, now: Instant, scratch: &mut Scratch) -> Option<usize> {
        self.tick(now, scratch);
        let TunnResult::WriteToNetwork(message) = self.tunn.format_handshake_initiation(scratch, true) else {
            return None;
        };
        self.pending = Some((index_at_4(message)?, now));
        Some(message.len())
    }

    /// Ticks boringtun's clock. Not while an initiation of ours waits: boringtun would repeat it of its own
    /// accord, and after 90 s drop every session.
    fn tick(&mut self, now: Instant, scratch: &mut Scratch) {
        let waits = |(_, at)| now.saturating_duration_since(at) < ATTEMPT;
        if !self.pending.is_some_and(waits) {
            let _ = self.tunn.update_timers(scratch);
        }
    }

    /// The timestamp that an initiation made now carries, about.
    pub(crate) fn stamp(&self, now: Instant) -> SystemTime {
        self.made.wall + now.saturating_duration_since(self.made.mono)
    }

    /// The timestamp that an initiation of a new transport would carry.
    pub(crate) fn first_stamp(now: Now) -> SystemTime {
        stamp_base(now).wall
    }

    /// The protocol gave up: the keys go.
    pub(crate) fn expire(&mut self, now: Instant) {
        let mut scratch: Scratch = [0; _];
        (self.born, self.since, self.unproven) = ([None; SESSIONS], None, None);
        self.unused_since = None;
        self.pending = match self.tunn.update_timers(&mut scratch) {
            TunnResult::Err(WireGuardError::ConnectionExpired) => None,
            // boringtun has repeated an initiation; it is not sent, and its answer never comes.
            _ => self.pending.map(|(index, _)| (index, now)),
        };
    }

    /// Answers an initiation that was proven before.
    pub(crate) fn respond(
        &mut self,
        initiation: &[u8],
        now: Instant,
        scratch: &mut Scratch,
    ) -> Option<usize> {
        self.tick(now, scratch);
        let TunnResult::WriteToNetwork(response) = self.tunn.decapsulate(None, initiation, scratch) else {
            return None;
        };
        let index = index_at_4(response)?;
        (self.unproven, self.pending) = (Some(index), None);
        self.unused_since.get_or_insert(now);
        self.born[slot(index)] = Some(now);
        Some(response.len())
    }

    /// Takes a response to our initiation; writes the keepalive that confirms the session.
    pub(crate) fn finish(
        &mut self,
        response: &[u8],
        receiver: u32,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Option<usize> {
        let TunnResult::WriteToNetwork(keepalive) = self.tunn.decapsulate(None, response, scratch) else {
            return None;
        };
        self.born[slot(receiver)] = Some(now);
        (self.since, self.initiator, self.unproven) = (Some(now), true, None);
        self.unused_since = None;
        self.pending = self.pending.filter(|(index, _)| *index != receiver);
        Some(keepalive.len())
    }

    /// The id of the preshared key.
    pub(crate) const fn psk(&self) -> u32 {
        self.psk
    }

    /// Since when our answers were not used, if one waits for that.
    pub(crate) const fn unused_since(&self) -> Option<Instant> {
        self.unused_since
    }

    /// Takes a cookie reply to our initiation or response; false when it is not one.
    pub(crate) fn take_cookie(&mut self, reply: &[u8]) -> bool {
        let mut scratch: Scratch = [0; _];
        matches!(self.tunn.decapsulate(None, reply, &mut scratch), TunnResult::Done)
    }

    /// Opens a transport message. `buffer` is at least as long as `datagram`.
    pub(crate) fn open(&mut self, datagram: &[u8], receiver: u32, now: Instant, buffer: &mut [u8]) -> Opened {
        let age = |born: Instant| now.saturating_duration_since(born);
        if self.born[slot(receiver)].is_none_or(|born| age(born) >= REJECT_AFTER)
            || buffer.len() < datagram.len()
        {
            return Opened::Refused;
        }
        match self.tunn.decapsulate(None, datagram, buffer) {
            TunnResult::Done => Opened::Keepalive,
            TunnResult::WriteToTunnelV4(packet, source) => Opened::Packet(packet.len(), source.into()),
            TunnResult::WriteToTunnelV6(packet, source) => Opened::Packet(packet.len(), source.into()),
            TunnResult::Err(WireGuardError::InvalidPacket) => Opened::NotIp,
            _ => Opened::Refused,
        }
    }

    /// True once for each session that we answered: when the peer has used it. To be asked after a message
    /// with this receiver index was opened.
    pub(crate) fn is_confirmed_by(&mut self, receiver: u32) -> bool {
        let confirmed = self.unproven == Some(receiver);
        if confirmed {
            (self.since, self.initiator, self.unproven) = (self.born[slot(receiver)], false, None);
            self.unused_since = None;
        }
        confirmed
    }

    /// Seals a packet, or a keepalive when it is empty, padded to 16 octets but not beyond `mtu`. `padded` is
    /// room for the padding; `buffer` holds at least [`sealed_len`] octets.
    pub(crate) fn seal(
        &mut self,
        packet: &[u8],
        mtu: usize,
        padded: &mut [u8],
        buffer: &mut [u8],
    ) -> Option<usize> {
        let len = padded_len(packet.len(), mtu);
        let plain = if len == packet.len() {
            packet
        } else {
            let (front, zeros) = padded.get_mut(..len)?.split_at_mut(packet.len());
            front.copy_from_slice(packet);
            zeros.fill(0);
            &padded[..len]
        };
        if self.since.is_none() || buffer.len() < plain.len() + DATA_OVERHEAD {
            return None;
        }
        match self.tunn.encapsulate(plain, buffer) {
            TunnResult::WriteToNetwork(message) => Some(message.len()),
            _ => None,
        }
    }

    /// Whether there are keys to send with.
    pub(crate) fn has_keys(&self, now: Instant) -> bool {
        self.age(now).is_some_and(|age| age < REJECT_AFTER)
    }

    /// Whether we began the handshake of the session that we send with `limit` ago or earlier: then it is for
    /// us to begin the next.
    pub(crate) fn wants_rekey(&self, now: Instant, limit: Duration) -> bool {
        self.initiator && self.age(now).is_some_and(|age| age >= limit)
    }

    /// When the keys to send with end.
    pub(crate) fn keys_until(&self) -> Option<Instant> {
        self.since.map(|since| since + REJECT_AFTER)
    }

    /// When the next handshake is for us to begin, if we began the last.
    pub(crate) fn rekey_at(&self) -> Option<Instant> {
        self.since.filter(|_| self.initiator).map(|since| since + REKEY_AFTER)
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| now.saturating_duration_since(since))
    }
}

/// What boringtun's timestamps start from. It asks the system for the wall clock; when the simulation turns the
/// other clock that one stands still, so that later transports are behind by as much as they are younger.
const fn stamp_base(now: Now) -> Now {
    if cfg!(feature = "mock-clock") { Now { wall: SystemTime::UNIX_EPOCH, ..now } } else { now }
}

/// The sender's index of an initiation or a response.
fn index_at_4(message: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*message.get(4..)?.first_chunk()?))
}

/// Where boringtun keeps the session with this index.
fn slot(index: u32) -> usize {
    index as usize % SESSIONS
}

/// Length of a packet with padding (whitepaper §5.4.6): to 16 octets, but not beyond the MTU.
fn padded_len(len: usize, mtu: usize) -> usize {
    let padded = len.next_multiple_of(16);
    if padded > mtu { len.max(mtu.min(padded)) } else { padded }
}

/// Octets that [`Transport::seal`] needs for a packet of `len`.
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

    #[test]
    fn it_is_large_and_so_exists_for_live_peers_only() {
        assert!((10_000..11_500).contains(&size_of::<Transport>()), "{}", size_of::<Transport>());
    }
}
