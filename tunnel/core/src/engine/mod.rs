//! The data plane as one value: datagrams, packets, time and configuration in; datagrams, packets, deadlines
//! and events out.
//!
//! One thread owns it. The files beside this one are its entrances; what they share is here: admission before
//! every session, the way out to the network, the timers' entries.

mod certify;
mod configure;
mod datagrams;
mod hints;
mod introduce;
mod packets;
mod timeouts;

pub use certify::CrlRefused;

use crate::admission::{self, Admitted};
use crate::allowed_ips::AllowedIps;
use crate::certified::Certified;
use crate::cookie::CookieIssuer;
use crate::entropy::Entropy;
use crate::events::Journal;
use crate::floors::Floors;
use crate::identity::Identity;
use crate::load::Load;
use crate::output::{Output, send_datagram};
use crate::peer::{Basis, Peer};
use crate::peers::{PeerId, Peers};
use crate::session::{Scratch, Session, Step};
use crate::time::Now;
use crate::timers::Timers;
use crate::{Secret, introduction};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use verona_contract::control::{Counters, Event, Refusal};
use verona_contract::psk;

/// What an interface has until [`Engine::set_mtu`] says otherwise: fits an outer IPv6 path of 1500.
const DEFAULT_MTU: usize = 1420;
/// Room for a padded packet of any size.
const MAX_PACKET: usize = 1 << 16;
/// A cookie serves as long as the secret behind it (whitepaper §5.4.7).
const COOKIE_LIFE: Duration = Duration::from_secs(120);
/// The first octet of the messages that are told apart when they are sent.
const TYPE_INITIATION: u8 = 1;

/// The data plane: datagrams, packets, time and configuration in; datagrams, packets, deadlines, events out.
///
/// No call blocks, and none visits all peers except those that change the rules for all (a policy, a list, the
/// clock). After each `handle_*`, `configure` or `install_*` ask [`Engine::poll_timeout`] again, and drain
/// [`Engine::poll_event`] when it suits.
pub struct Engine {
    identity: Option<Identity>,
    mtu: usize,
    peers: Peers,
    routes: AllowedIps,
    floors: Floors,
    timers: Timers,
    /// When hinted endpoints are called.
    calls: Timers,
    rng: Entropy,
    load: Load,
    cookies: CookieIssuer,
    journal: Journal,
    certified: Option<Certified>,
    clock_trusted: bool,
    padded: Box<[u8]>,
}

impl Engine {
    /// An engine without a key and without peers, which answers nobody. `entropy` must come from the
    /// operating system's generator and be used once.
    #[must_use]
    pub fn new(entropy: [u8; 32], now: Now) -> Self {
        let mut rng = Entropy::new(entropy);
        Self {
            identity: None,
            mtu: DEFAULT_MTU,
            peers: Peers::default(),
            routes: AllowedIps::default(),
            floors: Floors::default(),
            timers: Timers::default(),
            calls: Timers::default(),
            load: Load::new(rng.draw(), now.mono),
            rng,
            cookies: CookieIssuer::new(),
            journal: Journal::default(),
            certified: None,
            clock_trusted: false,
            padded: vec![0; MAX_PACKET].into(),
        }
    }

    /// The interface's MTU, in octets: padding never makes a packet longer than that. Default 1420.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu.into();
    }

    /// The next event, oldest first. The queue is bounded; what was lost is counted in `events_dropped`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.journal.pop()
    }

    /// Counters since start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.journal.counters()
    }

    /// Whether `id` may have a session now.
    fn admit(&self, id: PeerId, now: Now) -> Result<Admitted, Refusal> {
        let peer = self.peers.peer(id).ok_or(Refusal::UnknownKey)?;
        match (&peer.basis, &self.certified) {
            (Basis::Configured(_), _) => Ok(admission::configured(peer.key)),
            (Basis::Certified(record), Some(certified)) => {
                let owner = certified.owner(record.owner).ok_or(Refusal::UnknownIssuer)?;
                let has_session = peer.session.as_ref().is_some_and(|session| session.has_keys());
                let wall = certified.wall(now);
                admission::certified(peer.key, record, certified, owner.crl, wall, has_session)
            }
            (Basis::Certified(_), None) => Err(Refusal::UnknownIssuer),
        }
    }

    /// The preshared key of a peer: configured, or derived from its owner's root.
    fn preshared_key(&self, peer: &Peer) -> Option<Secret> {
        match &peer.basis {
            Basis::Configured(configured) => configured.psk.clone(),
            Basis::Certified(record) => {
                let owner = self.certified.as_ref()?.owner(record.owner)?;
                Some(psk::derive(&owner.psk_root.secret, &peer.key, self.identity.as_ref()?.public()))
            }
        }
    }

    /// Makes the protocol state of an admitted peer, unless there is one.
    fn ensure_session(&mut self, id: PeerId, admitted: &Admitted, now: Instant) {
        let Some(peer) = self.peers.peer(id) else { return };
        let Some(identity) = &self.identity else { return };
        if peer.session.is_none() {
            let psk = self.preshared_key(peer);
            let session = Box::new(Session::new(admitted, identity, psk.as_ref(), id, now));
            if let Some(peer) = self.peers.peer_mut(id) {
                peer.session = Some(session);
                self.reschedule(id, now);
            }
        }
    }

    fn session_mut(&mut self, id: PeerId) -> Option<&mut Session> {
        self.peers.peer_mut(id)?.session.as_deref_mut()
    }

    /// Starts a handshake with a peer whose endpoint is known; without effect while one is under way.
    fn initiate(&mut self, id: PeerId, again: bool, now: Now, out: &mut impl Output) {
        if self.peers.peer(id).is_none_or(|peer| peer.endpoint.is_none()) {
            return;
        }
        let Ok(admitted) = self.admit(id, now) else { return };
        self.ensure_session(id, &admitted, now.mono);
        let mut scratch: Scratch = [0; _];
        if let Some(session) = self.session_mut(id)
            && let Step::Send(len) = session.initiate(again, &mut scratch)
        {
            self.transmit(id, &scratch[..len], now.mono, out);
        }
    }

    /// Ticks a session whose last tick is too old for its next use, and sends what that asks for.
    fn tick_before_use(&mut self, id: PeerId, now: Instant, out: &mut impl Output) {
        let mut scratch: Scratch = [0; _];
        if let Some(session) = self.session_mut(id)
            && session.wants_tick(now)
            && !session.schedule.holds_retry(now)
            && let Step::Send(len) = session.tick(now, &mut scratch)
        {
            self.transmit(id, &scratch[..len], now, out);
        }
    }

    /// Sends a message of the protocol to the peer's endpoint; before an initiation our certificate, where the
    /// peer may not know it.
    fn transmit(&mut self, id: PeerId, message: &[u8], now: Instant, out: &mut impl Output) {
        let Some(peer) = self.peers.peer_mut(id) else { return };
        let Some(endpoint) = peer.endpoint else { return };
        if message.first() == Some(&TYPE_INITIATION) {
            self.introduce_ourselves(id, endpoint, now, out);
            self.journal.totals.initiations_sent += 1;
            let Some(peer) = self.peers.peer_mut(id) else { return };
            let brisk = peer.is_brisk();
            if let Some(session) = &mut peer.session {
                session.schedule.initiated(now, brisk, &mut self.rng);
            }
            self.reschedule(id, now);
        } else if let Some(session) = &mut peer.session {
            session.schedule.sent(now, false);
        }
        self.send(id, endpoint, message, out);
    }

    fn send(&mut self, id: PeerId, to: SocketAddr, message: &[u8], out: &mut impl Output) {
        send_datagram(out, to, message);
        self.journal.totals.tx_bytes += message.len() as u64;
        if let Some(peer) = self.peers.peer_mut(id) {
            peer.tx_bytes += message.len() as u64;
        }
    }

    /// The client's side of an introduction: goes out before an initiation, unless the edge lives and so knows
    /// our certificate.
    fn introduce_ourselves(&mut self, id: PeerId, to: SocketAddr, now: Instant, out: &mut impl Output) {
        let Some(identity) = &self.identity else { return };
        let Some(peer) = self.peers.peer_mut(id) else { return };
        let sure = peer.session.as_ref().is_some_and(|session| {
            session.has_keys() && !session.schedule.is_retrying() && session.schedule.heard_lately(now)
        });
        let key = peer.key;
        let Some(introducer) = peer.introducer_mut().filter(|_| !sure) else { return };
        let cookie = introducer
            .cookie
            .filter(|(_, came)| now.saturating_duration_since(*came) < COOKIE_LIFE)
            .map(|(cookie, _)| cookie);
        let [low, ..] = self.rng.draw();
        // The upper 24 bits are ours as in session indices, so that a cookie reply finds its peer.
        let sender = id.number() << 8 | u32::from(low);
        let reach = (&key, &introducer.reach);
        if let Ok((datagram, mac1)) =
            introduction::seal(identity, reach, &introducer.certificates, (sender, cookie), &mut self.rng)
        {
            introducer.last = Some((sender, mac1));
            self.journal.totals.introductions_sent += 1;
            self.send(id, to, &datagram, out);
        }
    }

    /// Brings a session's entry in the timers up to date.
    fn reschedule(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.peer_mut(id) else { return };
        let (keepalive, brisk) = (peer.keepalive(), peer.is_brisk());
        let Some(session) = &mut peer.session else { return };
        if session.is_asleep() {
            return;
        }
        let due = session.schedule.next(now, keepalive, brisk);
        if session.schedule.due <= now || due < session.schedule.due {
            session.schedule.due = due;
            self.timers.schedule(due, id);
        }
    }

    /// Takes a peer out of everything but the memory of its last timestamp.
    fn remove_peer(&mut self, id: PeerId) {
        let Some(peer) = self.peers.remove(id) else { return };
        for net in &peer.allowed_ips {
            self.routes.remove(*net, id);
        }
        self.floors.keep(peer.key, peer.last_timestamp);
        if let (Some(record), Some(certified)) = (peer.record(), &mut self.certified) {
            certified.forget_record(record.owner, record.place());
        }
    }
}
