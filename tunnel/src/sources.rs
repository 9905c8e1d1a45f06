//! From which of our addresses a peer is answered: the one that it wrote to.
//!
//! A host with several addresses would otherwise answer from the one that its routes prefer, and a
//! firewall or NAT in front of the peer drops an answer from a stranger. The engine knows peers by their
//! address only, so the pairing is kept here. A datagram alone proves nothing: an address is remembered
//! once the engine answers a handshake from it, which it does only to a proven peer.
//!
//! An answer leaves by the interface of the question, too, whatever the routes prefer. Where no route leads back
//! there the kernel takes the peer for a neighbour, and the answer is lost without an error: a proven peer that
//! asks again at once was not reached, and is answered by the routes' interface.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::sys::ancillary::Local;

/// Peers remembered: more than an edge has live. 72 octets each.
const KEPT: usize = 1 << 16;

/// Who asks again within this time was not reached: initiators repeat after five to seven seconds.
const AGAIN: Duration = Duration::from_secs(10);

/// First octets of the messages that may be answered at once: a handshake initiation (WireGuard paper
/// §5.4.2) and a certificate introduction.
const ANSWERED: [u8; 2] = [1, 0x10];
/// A handshake response (§5.4.3): its receiver is proven.
const RESPONSE: u8 = 2;
/// A cookie reply (§5.4.7): its receiver is not proven.
const COOKIE_REPLY: u8 = 3;

/// The pairing of peers with our addresses.
pub(crate) struct Sources {
    /// What may be answered in this batch.
    arrivals: Vec<(SocketAddr, Local)>,
    /// When that came.
    arrived: Option<Instant>,
    known: HashMap<SocketAddr, Pairing>,
    /// The last one that was asked for: packets of one peer come in runs.
    last: Option<(SocketAddr, Option<Local>)>,
    /// Pairings that are new since they were last asked for.
    learned: Vec<(SocketAddr, Local)>,
}

#[derive(Clone, Copy)]
struct Pairing {
    local: Local,
    /// When the peer was answered last, if by us.
    answered: Option<Instant>,
}

impl Sources {
    pub(crate) fn new() -> Self {
        Self {
            arrivals: Vec::with_capacity(64),
            arrived: None,
            known: HashMap::new(),
            last: None,
            learned: Vec::new(),
        }
    }

    /// Whether the arrival of a message with this first octet is worth noting.
    pub(crate) fn is_answered(kind: u8) -> bool {
        ANSWERED.contains(&kind)
    }

    /// Replaces the arrivals by those of the batch that is about to be handled: source, local address.
    pub(crate) fn begin_batch(&mut self, now: Instant, arrivals: impl Iterator<Item = (SocketAddr, Local)>) {
        self.arrivals.clear();
        self.arrivals.extend(arrivals);
        self.arrived = Some(now);
    }

    /// The address from which to send a message with first octet `kind` to `to`; `None` leaves it to the
    /// kernel.
    pub(crate) fn choose(&mut self, to: SocketAddr, kind: u8) -> Option<Local> {
        if matches!(kind, RESPONSE | COOKIE_REPLY) {
            // The last one, if a peer wrote to several: its newest wish.
            let arrival = self.arrivals.iter().rev().find(|(from, _)| *from == to);
            if let Some(&(from, local)) = arrival {
                return Some(if kind == RESPONSE { self.answer(from, local) } else { local });
            }
        }
        if let Some((_, local)) = self.last.filter(|(peer, _)| *peer == to) {
            return local;
        }
        let local = self.known.get(&to).map(|pairing| pairing.local);
        self.last = Some((to, local));
        local
    }

    /// A proven peer at `from` has written to `arrival`: from where it is answered, now and later.
    fn answer(&mut self, from: SocketAddr, arrival: Local) -> Local {
        let before = self.known.get(&from).filter(|before| before.local.address == arrival.address).copied();
        let again = before
            .and_then(|before| before.answered)
            .zip(self.arrived)
            .is_some_and(|(then, now)| now.saturating_duration_since(then) < AGAIN);
        let by_routes = before.is_some_and(|before| before.local.interface == 0);
        let interface = if by_routes != again { 0 } else { arrival.interface };
        let local = Local { interface, ..arrival };
        if self.insert(from, Pairing { local, answered: self.arrived }) != Some(local) {
            self.learned.push((from, local));
        }
        local
    }

    /// What was learned since the last call, for the others who write to these peers.
    pub(crate) fn take_learned(&mut self) -> Vec<(SocketAddr, Local)> {
        std::mem::take(&mut self.learned)
    }

    /// Takes over what another one has learned.
    pub(crate) fn learn(&mut self, peer: SocketAddr, local: Local) {
        self.insert(peer, Pairing { local, answered: None });
    }

    /// Drops what is known about `to`: our address of it is gone.
    pub(crate) fn forget(&mut self, to: SocketAddr) {
        self.known.remove(&to);
        self.last = None;
    }

    /// Drops all that is known: the routes are to decide anew.
    pub(crate) fn forget_all(&mut self) {
        self.known.clear();
        self.last = None;
    }

    /// Returns what was there. If the table is full another peer gives way, and gets the kernel's choice.
    fn insert(&mut self, peer: SocketAddr, pairing: Pairing) -> Option<Local> {
        self.last = None;
        if self.known.len() >= KEPT && !self.known.contains_key(&peer) {
            let any = self.known.keys().next().copied();
            any.and_then(|any| self.known.remove(&any));
        }
        self.known.insert(peer, pairing).map(|before| before.local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSPORT: u8 = 4;

    fn peer(port: u16) -> SocketAddr {
        ([192, 0, 2, 9], port).into()
    }

    fn now() -> Instant {
        Instant::now()
    }

    fn local(last: u8) -> Local {
        Local { address: [203, 0, 113, last].into(), interface: 2 }
    }

    #[test]
    fn only_a_proven_peer_is_remembered() {
        let mut sources = Sources::new();
        sources.begin_batch(now(), [(peer(1), local(1))].into_iter());
        assert_eq!(sources.choose(peer(1), TRANSPORT), None, "a datagram alone proves nothing");
        assert_eq!(sources.choose(peer(1), COOKIE_REPLY), Some(local(1)));
        assert_eq!(sources.choose(peer(1), TRANSPORT), None, "nor does a cookie reply");
        assert_eq!(sources.choose(peer(1), RESPONSE), Some(local(1)));
        assert_eq!(sources.choose(peer(1), TRANSPORT), Some(local(1)));
        assert_eq!(sources.choose(peer(2), TRANSPORT), None);

        sources.begin_batch(now(), std::iter::empty());
        assert_eq!(sources.choose(peer(1), RESPONSE), Some(local(1)), "kept beyond the batch");
        sources.begin_batch(now(), [(peer(1), local(2))].into_iter());
        assert_eq!(sources.choose(peer(1), TRANSPORT), Some(local(1)), "a forged claim moves nothing");
        assert_eq!(sources.choose(peer(1), RESPONSE), Some(local(2)));
        sources.forget(peer(1));
        assert_eq!(sources.choose(peer(1), TRANSPORT), None);
    }

    #[test]
    fn many_peers_fill_no_memory_and_are_never_mixed_up() {
        let mut sources = Sources::new();
        let peer = |number: usize| SocketAddr::from(([192, 0, 2, (number >> 16) as u8], number as u16));
        for number in 0..KEPT + 1000 {
            sources.begin_batch(now(), [(peer(number), local((number % 250) as u8))].into_iter());
            sources.choose(peer(number), RESPONSE);
        }
        assert_eq!(sources.known.len(), KEPT);
        let known =
            (0..KEPT + 1000).filter_map(|number| Some((number, sources.choose(peer(number), TRANSPORT)?)));
        let known: Vec<(usize, Local)> = known.collect();
        assert_eq!(known.len(), KEPT);
        assert!(known.iter().all(|(number, address)| *address == local((number % 250) as u8)));
    }

    #[test]
    fn a_peer_that_was_not_reached_by_one_interface_is_answered_by_the_routes() {
        let begin = now();
        let mut sources = Sources::new();
        let mut answered_by = |seconds, number| {
            let arrivals = [(peer(1), local(number))];
            sources.begin_batch(begin + Duration::from_secs(seconds), arrivals.into_iter());
            sources.choose(peer(1), RESPONSE).unwrap().interface
        };
        assert_eq!(answered_by(0, 1), 2);
        assert_eq!(answered_by(5, 1), 0, "it asks again");
        assert_eq!(answered_by(120, 1), 0, "it has not asked again, so that was right");
        assert_eq!(answered_by(125, 1), 2, "no longer");
        assert_eq!(answered_by(240, 1), 2);
        assert_eq!(answered_by(242, 9), 2, "another address of ours is another story");
    }

    #[test]
    fn what_is_forgotten_is_not_remembered_by_the_last_peer() {
        let mut sources = Sources::new();
        for forget in [Sources::forget_all, |sources: &mut Sources| sources.forget(peer(1))] {
            sources.learn(peer(1), local(1));
            assert_eq!(sources.choose(peer(1), TRANSPORT), Some(local(1)));
            forget(&mut sources);
            assert_eq!(sources.choose(peer(1), TRANSPORT), None);
            sources.learn(peer(1), local(2));
            assert_eq!(sources.choose(peer(1), TRANSPORT), Some(local(2)));
        }
    }
}
