//! What a line knows of the path to its peer, and what that means for one packet: as it is, in pieces, or not at
//! all.
//!
//! [`PathMtu`] finds out what passes. Here that becomes the size of inner packets: what is larger is cut if it
//! may be, and otherwise refused with a word to its sender, as a router in front of a narrow link does; but an
//! IPv6 packet of 1280 octets always goes (RFC 8200 §5), in fragments of the datagram if need be. All of it is
//! about one endpoint, and forgotten when the peer moves.

use crate::ecn;
use crate::fragment;
use crate::output::Marks;
use crate::path_mtu::{BASE, PathMtu, Probe, overhead};
use crate::path_reports::Reports;
use std::net::SocketAddr;
use std::time::Instant;

/// The smallest MTU of an IPv6 link.
const IPV6_MINIMUM: u16 = 1280;

#[derive(Debug)]
pub(crate) struct OuterPath {
    mtu: PathMtu,
    /// What all of this is about.
    endpoint: Option<SocketAddr>,
    /// The index by which the peer knows our newest session: a router must quote it.
    receiver: u32,
    /// Reports that were read.
    seen: u64,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Send it as it is.
    Whole,
    /// Cut it into pieces of this size.
    Cut(u16),
    /// Drop it, and tell its sender this size.
    TooBig(u16),
    /// Send it in a datagram that routers may cut.
    Fragmented,
}

/// The interface, and where a packet goes from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    pub(crate) endpoint: SocketAddr,
    /// The interface's MTU.
    pub(crate) mtu: usize,
    pub(crate) now: Instant,
}

impl Departure {
    /// The largest IP packet that the interface asks the path to carry.
    fn ceiling(&self) -> u16 {
        u16::try_from(self.mtu).unwrap_or(u16::MAX).saturating_add(overhead(&self.endpoint))
    }
}

impl OuterPath {
    pub(crate) const fn new() -> Self {
        Self { mtu: PathMtu::new(), endpoint: None, receiver: 0, seen: 0 }
    }

    /// Judges a packet for the peer. Costs one comparison for what every path carries.
    pub(crate) fn fit(&mut self, packet: &[u8], departure: Departure, reports: &Reports) -> Fit {
        let overhead = overhead(&departure.endpoint);
        if packet.len() <= usize::from(BASE - overhead) {
            return Fit::Whole;
        }
        self.catch_up(departure, reports);
        self.mtu.large_sent(departure.ceiling(), departure.now);
        let Some(limit) = self.mtu.limit() else { return Fit::Whole };
        let inner = limit.saturating_sub(overhead);
        if packet.len() <= inner.into() {
            Fit::Whole
        } else if fragment::may_be_cut(packet) {
            Fit::Cut(inner)
        } else if packet[0] >> 4 == 4 {
            Fit::TooBig(inner)
        } else if packet.len() <= IPV6_MINIMUM.into() {
            Fit::Fragmented
        } else {
            Fit::TooBig(inner.max(IPV6_MINIMUM))
        }
    }

    /// How a datagram with this packet in it travels.
    pub(crate) fn marks(&self, packet: &[u8], fit: Fit, copy_dscp: bool) -> Marks {
        Marks {
            tos: ecn::outer_octet(ecn::octet_of(packet), copy_dscp),
            dont_fragment: fit != Fit::Fragmented && self.mtu.dont_fragment(),
        }
    }

    /// The MTU up to which packets are padded: not beyond what passes.
    pub(crate) fn padding_limit(&self, endpoint: SocketAddr, mtu: usize) -> usize {
        self.mtu.limit().map_or(mtu, |limit| mtu.min(limit.saturating_sub(overhead(&endpoint)).into()))
    }

    /// A transport message has been sealed: its first octets name the session to the peer.
    pub(crate) fn sealed(&mut self, message: &[u8]) {
        if let Some(index) = message.get(4..8).and_then(|index| index.try_into().ok()) {
            self.receiver = u32::from_le_bytes(index);
        }
    }

    /// Questions to send now, each with the length of its plaintext.
    pub(crate) fn questions(&mut self, departure: Departure) -> impl Iterator<Item = (Probe, usize)> + use<> {
        let overhead = overhead(&departure.endpoint);
        let here = self.endpoint == Some(departure.endpoint);
        let questions = here.then(|| self.mtu.next_questions(departure.now));
        questions.into_iter().flatten().map(move |probe| (probe, usize::from(probe.size - overhead)))
    }

    /// When [`Self::questions`] has to be asked.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.mtu.due()
    }

    /// The peer has answered a question.
    pub(crate) fn answered(&mut self, answer: Probe, now: Instant) {
        self.mtu.answered(answer, now);
    }

    /// The largest IP packet on the way to the peer, where it is less than the interface asks for.
    pub(crate) fn limit(&self) -> Option<u16> {
        self.mtu.limit()
    }

    /// The MTU that an interface with this peer only would want: nothing is too large for the path, unless IPv6
    /// would suffer.
    pub(crate) fn inner_mtu(&self, endpoint: &SocketAddr) -> Option<u16> {
        let inner = self.mtu.limit()?.saturating_sub(overhead(endpoint));
        Some(inner.max(IPV6_MINIMUM))
    }

    /// Whether [`Self::take_news`] has something to tell.
    pub(crate) fn has_news(&self) -> bool {
        self.mtu.has_news()
    }

    /// The limit, once after it has changed.
    pub(crate) fn take_news(&mut self) -> Option<Option<u16>> {
        self.mtu.take_news()
    }

    /// Begins anew if the peer has moved, and reads the reports that came since the last time.
    fn catch_up(&mut self, departure: Departure, reports: &Reports) {
        if self.endpoint != Some(departure.endpoint) {
            (self.mtu, self.endpoint) = (self.mtu.moved(), Some(departure.endpoint));
        }
        let seen = std::mem::replace(&mut self.seen, reports.count());
        if seen != reports.count()
            && let Some(mtu) = reports.since(seen, departure.endpoint, self.receiver)
        {
            self.mtu.too_big(mtu, departure.ceiling(), departure.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(len: usize, dont_fragment: bool) -> Vec<u8> {
        let mut packet = vec![0; len];
        (packet[0], packet[6]) = (0x45, u8::from(dont_fragment) << 6);
        packet
    }

    fn v6(len: usize) -> Vec<u8> {
        let mut packet = vec![0; len];
        packet[0] = 0x60;
        packet
    }

    fn departure(endpoint: &str) -> Departure {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        Departure { endpoint: endpoint.parse().unwrap(), mtu: 1420, now }
    }

    #[test]
    fn what_becomes_of_a_packet() {
        for (endpoint, told, inner) in
            [("192.0.2.1:1", 1400, 1340), ("192.0.2.1:1", 1280, 1220), ("[2001:db8::1]:1", 1300, 1220)]
        {
            let departure = departure(endpoint);
            let (mut path, mut reports) = (OuterPath::new(), Reports::default());
            for packet in [v4(1420, true), v4(1420, false), v6(1420)] {
                assert_eq!(path.fit(&packet, departure, &reports), Fit::Whole, "nothing is known");
            }
            reports.push_host(departure.endpoint, told);
            let fits = inner as usize;
            for (packet, fit) in [
                (v4(fits, true), Fit::Whole),
                (v4(fits + 1, true), Fit::TooBig(inner)),
                (v4(fits + 1, false), Fit::Cut(inner)),
                (v6(1280), if inner < 1280 { Fit::Fragmented } else { Fit::Whole }),
                (v6(1420), Fit::TooBig(inner.max(1280))),
            ] {
                assert_eq!(path.fit(&packet, departure, &reports), fit, "{endpoint} {}", packet.len());
            }
        }
    }

    #[test]
    fn a_router_must_quote_what_was_sent_there() {
        let departure = departure("192.0.2.1:1");
        let (mut path, mut reports) = (OuterPath::new(), Reports::default());
        path.sealed(&[4, 0, 0, 0, 7, 0, 0, 0, 0, 0]);
        reports.push_router(departure.endpoint, 1300, 8);
        reports.push_router("192.0.2.1:2".parse().unwrap(), 1300, 7);
        assert_eq!(path.fit(&v4(1420, true), departure, &reports), Fit::Whole);
        reports.push_router(departure.endpoint, 1300, 7);
        assert_eq!(path.fit(&v4(1420, true), departure, &reports), Fit::TooBig(1240));
        assert_eq!(path.padding_limit(departure.endpoint, 1420), 1240);
        let elsewhere = Departure { endpoint: "192.0.2.1:3".parse().unwrap(), ..departure };
        assert_eq!(path.fit(&v4(1420, true), elsewhere, &reports), Fit::Whole, "a peer that moved");
        assert_eq!(path.limit(), None);
    }

    #[test]
    fn marks_of_the_datagram() {
        let path = OuterPath::new();
        let mut packet = v4(100, true);
        packet[1] = 0xb8 | 0b10;
        assert_eq!(path.marks(&packet, Fit::Whole, false).tos, 0b10);
        assert_eq!(path.marks(&packet, Fit::Whole, true).tos, 0xba);
        assert!(!path.marks(&packet, Fit::Whole, false).dont_fragment, "nobody has confirmed anything");
    }
}
