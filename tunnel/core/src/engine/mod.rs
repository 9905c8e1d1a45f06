//! The half of the data plane that decides: upcalls, time and configuration in; datagrams, deadlines and events
//! out.
//!
//! One thread owns it. Packets of live peers pass it by, on lanes. The files beside this one are its entrances;
//! what they share is here: admission before every session, the way out to the network, the timers' entries.

mod certify;
mod configure;
mod datagrams;
mod floors;
mod handshakes;
mod hints;
mod introduce;
mod packets;
mod timeouts;
mod upcalls;

pub use certify::CrlRefused;

use crate::admission::{self, Admitted};
use crate::allowed_ips::AllowedIps;
use crate::certified::Certified;
use crate::cookie::CookieIssuer;
use crate::early::EarlyInitiations;
use crate::entropy::Entropy;
use crate::events::Journal;
use crate::floors::Floors;
use crate::forwarder::{Forwarder, Glance};
use crate::identity::Identity;
use crate::lane::Lane;
use crate::line::Site;
use crate::load::Load;
use crate::output::{Output, send_datagram};
use crate::peer::{Basis, Origin, Peer};
use crate::peers::{PeerId, Peers};
use crate::psk::{Psk, Roots};
use crate::schedule::Activity;
use crate::session::Session;
use crate::time::Now;
use crate::timers::Timers;
use crate::upcall::Upcall;
use crate::{IpNet, introduction, neighbour};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use verona_contract::config::PskRoot;
use verona_contract::control::{Counters, Event, Refusal};
use verona_contract::psk;

/// What an interface has until [`Engine::set_mtu`] says otherwise: fits an outer IPv6 path of 1500.
const DEFAULT_MTU: usize = 1420;
/// A cookie serves as long as the secret behind it (whitepaper §5.4.7).
const COOKIE_LIFE: Duration = Duration::from_secs(120);

/// The data plane: datagrams, packets, time and configuration in; datagrams, packets, deadlines, events out.
///
/// A shell with workers gives each a [`Lane`] ([`Engine::lane`]) and hands their upcalls to
/// [`Engine::handle_upcall`] in one thread. A shell without hands everything to
/// [`Engine::handle_datagrams`] and [`Engine::handle_packets`]. None visits all peers except those that change the rules for all (a policy, a list, the
/// clock). After each `handle_*`, `configure` or `install_*` ask [`Engine::poll_timeout`] again, and drain
/// [`Engine::poll_event`] when it suits.
pub struct Engine {
    identity: Option<Identity>,
    peers: Peers,
    routes: AllowedIps,
    forwarder: Arc<Forwarder>,
    /// The engine's own: for what it sends on a line itself, and without workers for everything.
    lane: Lane,
    /// Of the engine's own lane.
    upcalls: VecDeque<Upcall<Box<[u8]>>>,
    floors: Floors,
    timers: Timers,
    /// When hinted endpoints are called.
    calls: Timers,
    rng: Entropy,
    load: Load,
    cookies: CookieIssuer,
    journal: Journal,
    certified: Option<Certified>,
    early: EarlyInitiations,
    clock_trusted: bool,
}

impl Engine {
    /// An engine without a key and without peers, which answers nobody. `entropy` must come from the
    /// operating system's generator and be used once.
    #[must_use]
    pub fn new(entropy: [u8; 32], now: Now) -> Self {
        Self::with_shards(1, entropy, now)
    }

    /// The same, with the lines of peers spread over `shards` (1 to 128), one for each worker.
    #[must_use]
    pub fn with_shards(shards: usize, entropy: [u8; 32], now: Now) -> Self {
        let mut rng = Entropy::new(entropy);
        let forwarder = Arc::new(Forwarder::new(shards, DEFAULT_MTU));
        let routes = AllowedIps::default();
        Self {
            identity: None,
            peers: Peers::default(),
            lane: Lane::new(forwarder.clone(), routes.reader()),
            routes,
            forwarder,
            upcalls: VecDeque::new(),
            floors: Floors::default(),
            timers: Timers::new(now.mono),
            calls: Timers::new(now.mono),
            load: Load::new(rng.draw(), now.mono),
            rng,
            cookies: CookieIssuer::new(),
            journal: Journal::default(),
            certified: None,
            early: EarlyInitiations::default(),
            clock_trusted: false,
        }
    }

    /// A lane for a worker.
    #[must_use]
    pub fn lane(&self) -> Lane {
        Lane::new(self.forwarder.clone(), self.routes.reader())
    }

    /// Keeps changes of routes for [`Self::poll_route`], which must be called from now on.
    pub fn follow_routes(&mut self) {
        self.routes.follow();
    }

    /// The next change of a route, oldest first: a network, and in which shard the line of its peer is, if it has
    /// a peer now. For a shell that gives packets to the worker of their shard.
    pub fn poll_route(&mut self) -> Option<(IpNet, Option<usize>)> {
        let (net, peer) = self.routes.poll_change()?;
        Some((net, peer.map(|id| self.forwarder.shard_of(id))))
    }

    /// The interface's MTU, in octets: padding never makes a packet longer than that. Default 1420.
    pub fn set_mtu(&mut self, mtu: u16) {
        if self.forwarder.view().mtu != usize::from(mtu) {
            self.forwarder.change_view(|view| view.mtu = mtu.into());
        }
    }

    /// Whether the service class (DSCP) of packets is copied to the datagrams that carry them. Off by default: it
    /// tells an observer what kind of traffic this is.
    pub fn set_copy_dscp(&mut self, copy: bool) {
        self.forwarder.change_view(|view| view.copy_dscp = copy);
    }

    /// The next event, oldest first. The queue is bounded; what was lost is counted in `events_dropped`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.journal.pop()
    }

    /// Counters since start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.journal.counters(&self.forwarder.tally())
    }

    /// Whether `id` may have a session now.
    fn admit(&self, id: PeerId, now: Now) -> Result<Admitted, Refusal> {
        let peer = self.peers.peer(id).ok_or(Refusal::UnknownKey)?;
        match (&peer.basis, &self.certified) {
            (Basis::Configured(_), _) => Ok(admission::configured(peer.key)),
            (Basis::Certified(record), Some(certified)) => {
                let owner = certified.owner(record.owner).ok_or(Refusal::UnknownIssuer)?;
                let has_session = peer.session.as_ref().is_some_and(|session| session.has_keys(now.mono));
                let wall = certified.wall(now);
                admission::certified(peer.key, record, certified, owner.crl, wall, has_session)
            }
            (Basis::Certified(_), None) => Err(Refusal::UnknownIssuer),
        }
    }

    /// The preshared key of a peer: configured, or derived from that root of its owner which `choose` takes.
    fn psk(&self, peer: &Peer, choose: impl FnOnce(&Roots) -> &PskRoot) -> Option<Psk> {
        match &peer.basis {
            Basis::Configured(configured) => {
                Some(Psk { id: configured.psk_changes, secret: configured.psk.clone() })
            }
            Basis::Certified(record) => {
                let owner = self.certified.as_ref()?.owner(record.owner)?;
                let PskRoot { id, secret } = choose(&owner.psk);
                let own = self.identity.as_ref()?.public();
                // Between two edges neither is the client, so the order of their keys decides.
                let swapped = neighbour::is_edge(&record.subject) && *own < peer.key;
                let (client, edge) = if swapped { (own, &peer.key) } else { (&peer.key, own) };
                Some(Psk { id: *id, secret: Some(psk::derive(secret, client, edge)) })
            }
        }
    }

    /// Opens the line of an admitted peer, unless it is open.
    fn ensure_session(&mut self, id: PeerId, _: &Admitted, now: Instant) {
        let Some(peer) = self.peers.peer_mut(id) else { return };
        if peer.session.is_none() && self.identity.is_some() {
            let site = Site { endpoint: peer.endpoint, known: peer.origin == Origin::Known };
            peer.session = Some(Box::new(Session::new(&self.forwarder, id, site, now)));
            self.reschedule(id, now);
        }
    }

    /// Shows the lanes all changes of routes at once. To be called at the end of everything that may change them.
    fn publish_routes(&mut self, now: Instant) {
        self.routes.publish();
        self.peers.rest(now);
    }

    /// Tells the lanes what they must know of the device.
    fn publish_view(&self) {
        let reach = self.identity.as_ref().map(|identity| identity.reach.clone());
        let certified = self.certified.is_some();
        self.forwarder.change_view(|view| (view.reach, view.certified) = (reach, certified));
    }

    /// The lines of all live peers, as they are now.
    fn glances(&self) -> HashMap<PeerId, Glance> {
        let live = self.peers.iter().filter(|(_, peer)| peer.session.is_some()).map(|(id, _)| id);
        self.forwarder.glance(&live.collect::<Vec<_>>()).into_iter().collect()
    }

    fn session_mut(&mut self, id: PeerId) -> Option<&mut Session> {
        self.peers.peer_mut(id)?.session.as_deref_mut()
    }

    /// Where a peer is: its line knows it while there is one.
    fn endpoint(&self, id: PeerId) -> Option<SocketAddr> {
        let peer = self.peers.peer(id)?;
        match peer.session {
            Some(_) => self.forwarder.with_line(id, |line| line.site())??.endpoint,
            None => peer.endpoint,
        }
    }

    fn send(&mut self, id: PeerId, to: SocketAddr, message: &[u8], out: &mut impl Output) {
        send_datagram(out, to, message);
        self.journal.totals.tx_bytes += message.len() as u64;
        if let Some(peer) = self.peers.peer_mut(id) {
            peer.traffic.tx_bytes += message.len() as u64;
        }
    }

    /// The client's side of an introduction: goes out before an initiation, unless the edge lives and so knows
    /// our certificate.
    fn introduce_ourselves(&mut self, id: PeerId, to: SocketAddr, now: Instant, out: &mut impl Output) {
        let Some(identity) = &self.identity else { return };
        let sure = self.forwarder.with_line(id, |line| line.has_keys(now) && line.activity.heard_lately(now));
        let Some(peer) = self.peers.peer_mut(id) else { return };
        let retrying = peer.session.as_ref().is_some_and(|session| session.attempts.is_under_way());
        let sure = sure == Some(true) && !retrying;
        let key = peer.key;
        let Some(introducer) = peer.introducer_mut().filter(|_| !sure) else { return };
        let cookie = introducer
            .cookie
            .filter(|(_, came)| now.saturating_duration_since(*came) < COOKIE_LIFE)
            .map(|(cookie, _)| cookie);
        let [low, ..] = self.rng.draw();
        // The upper bits are ours as in session indices, so that a cookie reply finds its peer.
        let sender = id.index(0) << 8 | u32::from(low);
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
        if let Some(activity) = self.forwarder.with_line(id, |line| line.activity) {
            self.reschedule_by(id, &activity, now);
        }
    }

    fn reschedule_by(&mut self, id: PeerId, activity: &Activity, now: Instant) {
        let Some(peer) = self.peers.peer_mut(id) else { return };
        let (keepalive, brisk) = (peer.keepalive(), peer.is_brisk());
        let Some(Session { attempts, .. }) = peer.session.as_deref_mut() else { return };
        if attempts.is_asleep() {
            return;
        }
        let due = attempts.next(now, activity, keepalive, brisk);
        if attempts.due <= now || due < attempts.due {
            attempts.due = due;
            self.timers.schedule(due, id);
        }
    }

    /// Takes a peer out of everything but the memory of its last timestamp.
    fn remove_peer(&mut self, id: PeerId) {
        let Some(peer) = self.peers.remove(id) else { return };
        for net in &peer.allowed_ips {
            self.routes.remove(*net, id);
        }
        // Without a session there may be a line on which packets wait.
        self.forwarder.close_line(id);
        self.floors.keep(peer.key, peer.last_timestamp);
        if let (Some(record), Some(certified)) = (peer.record(), &mut self.certified) {
            certified.forget_record(record.owner, record.place());
        }
    }
}
