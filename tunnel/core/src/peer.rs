//! One peer: what is known of it whether or not it has a session.
//!
//! An idle certified peer costs about 0.4 kB; the protocol state (11 kB) exists for live sessions only. The
//! last timestamp stays here, outside that state: a fresh `Tunn` would answer a recorded initiation.

use crate::cookie::Cookie;
use crate::forwarder::Glance;
use crate::identity::ReachKeys;
use crate::line::{Site, Traffic};
use crate::neighbour::Neighbour;
use crate::record::Record;
use crate::session::Session;
use crate::{Introduction, IpNet, PublicKey, Secret};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};
use verona_contract::control::Tai64n;

pub(crate) struct Peer {
    pub(crate) key: PublicKey,
    pub(crate) basis: Basis,
    /// Where the peer was when its last session ended, or a session may begin; `origin` tells whence it comes.
    /// While there is a session the line has it.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) origin: Origin,
    pub(crate) allowed_ips: Vec<IpNet>,
    /// The newest initiation that this key has proven.
    pub(crate) last_timestamp: Tai64n,
    pub(crate) last_handshake: Option<SystemTime>,
    /// The id of the preshared key of the last session that the peer proved.
    pub(crate) proven_psk: Option<u32>,
    /// What passed outside of the line: handshakes, and sessions before this one.
    pub(crate) traffic: Traffic,
    pub(crate) session: Option<Box<Session>>,
    /// Of another edge.
    pub(crate) neighbour: Option<Box<Neighbour>>,
}

/// Where a peer's endpoint comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Configured, or the peer has spoken from there.
    Known,
    /// The policy's hint; the peer was not called there yet.
    Hint,
    /// The policy's hint, and a handshake was begun there.
    Called,
}

/// Why the peer exists.
pub(crate) enum Basis {
    /// Plain mode.
    Configured(Box<Configured>),
    /// Certified mode.
    Certified(Box<Record>),
}

/// What the administrator set.
#[derive(Default)]
pub(crate) struct Configured {
    pub(crate) psk: Option<Secret>,
    /// How often it was changed.
    pub(crate) psk_changes: u32,
    /// Seconds, 0 for none.
    pub(crate) keepalive: u16,
    pub(crate) introducer: Option<Introducer>,
}

/// Our certificate for this peer, and what is needed to show it under load.
pub(crate) struct Introducer {
    pub(crate) certificates: Introduction,
    pub(crate) reach: ReachKeys,
    /// With the time it came; it serves two minutes (whitepaper §5.4.7).
    pub(crate) cookie: Option<(Cookie, Instant)>,
    /// Sender index and mac1 of the last introduction, which a cookie reply must match.
    pub(crate) last: Option<(u32, [u8; 16])>,
}

impl Peer {
    pub(crate) fn new(key: PublicKey, basis: Basis, last_timestamp: Tai64n) -> Self {
        Self {
            key,
            basis,
            endpoint: None,
            origin: Origin::Known,
            allowed_ips: Vec::new(),
            last_timestamp,
            last_handshake: None,
            proven_psk: None,
            traffic: Traffic::default(),
            session: None,
            neighbour: None,
        }
    }

    /// Whether the endpoint is somebody's guess: nothing authentic came from there.
    pub(crate) fn is_hinted(&self) -> bool {
        self.origin != Origin::Known
    }

    /// Ends the session, and keeps what is known from it. Nothing is opened or sealed with its keys from here on.
    pub(crate) fn end_session(&mut self) {
        let Some(line) = self.session.take().and_then(|session| session.close()) else { return };
        self.traffic = self.traffic.plus(line.traffic);
        if let Some(site) = line.site() {
            self.endpoint = site.endpoint;
            if site.known {
                self.origin = Origin::Known;
            }
        }
    }

    /// Where the peer is and what passed, with what its line knows if there is one.
    pub(crate) fn place(&self, glance: Option<&Glance>) -> (Site, Traffic) {
        let own = Site { endpoint: self.endpoint, known: self.origin == Origin::Known };
        match glance {
            Some(glance) => (glance.site.unwrap_or(own), self.traffic.plus(glance.traffic)),
            None => (own, self.traffic),
        }
    }

    pub(crate) fn record(&self) -> Option<&Record> {
        match &self.basis {
            Basis::Certified(record) => Some(record),
            Basis::Configured(_) => None,
        }
    }

    pub(crate) fn record_mut(&mut self) -> Option<&mut Record> {
        match &mut self.basis {
            Basis::Certified(record) => Some(record),
            Basis::Configured(_) => None,
        }
    }

    pub(crate) fn configured(&self) -> Option<&Configured> {
        match &self.basis {
            Basis::Configured(configured) => Some(configured),
            Basis::Certified(_) => None,
        }
    }

    pub(crate) fn configured_mut(&mut self) -> Option<&mut Configured> {
        match &mut self.basis {
            Basis::Configured(configured) => Some(configured),
            Basis::Certified(_) => None,
        }
    }

    pub(crate) fn introducer_mut(&mut self) -> Option<&mut Introducer> {
        match &mut self.basis {
            Basis::Configured(configured) => configured.introducer.as_mut(),
            Basis::Certified(_) => self.neighbour.as_mut()?.introducer.as_mut(),
        }
    }

    /// Whether we introduce ourselves to this peer, and therefore follow it briskly.
    pub(crate) fn is_brisk(&self) -> bool {
        let as_edge = self.neighbour.as_ref().is_some_and(|neighbour| neighbour.introducer.is_some());
        as_edge || self.configured().is_some_and(|configured| configured.introducer.is_some())
    }

    pub(crate) fn keepalive(&self) -> Option<Duration> {
        if let Some(neighbour) = &self.neighbour {
            return Some(neighbour.keepalive);
        }
        let seconds = self.configured()?.keepalive;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_peer_is_small() {
        // Its heap: the record, one or two addresses, the subject. 100,000 of them must fit into 60 MB.
        let record = size_of::<Record>() + "urn:verona:client:00000000-0000-4000-8000-000000000000".len();
        let peer = size_of::<Peer>() + record + 2 * size_of::<IpNet>();
        assert!(peer <= 450, "{peer}");
    }
}
