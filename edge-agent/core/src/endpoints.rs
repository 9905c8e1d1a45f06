//! Where pushed clients were heard from last, for a tunnel that has lost its sessions.
//!
//! The tunnel tells it by events, which may be lost, and by its peers, which are asked for after each policy.
//! The order of news is kept, since more than [`MAX_ENDPOINTS`] are not: the one longest without news goes
//! first. Introduced clients are left out; after a restart the tunnel does not know them.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use verona_contract::control::{CertificateSource, Event, MAX_ENDPOINTS, PeerEndpoint, PeerInfo};
use verona_contract::key::PublicKey;

/// Last known endpoints.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    /// With the number of its last news.
    of_key: BTreeMap<PublicKey, (u64, SocketAddr)>,
    by_news: BTreeMap<u64, PublicKey>,
    news: u64,
}

impl Endpoints {
    /// From what [`Self::list`] gave.
    #[must_use]
    pub fn restore(list: &[PeerEndpoint]) -> Self {
        let mut endpoints = Self::default();
        for PeerEndpoint { key, endpoint } in list {
            endpoints.learn(*key, *endpoint);
        }
        endpoints
    }

    /// Takes an event of the tunnel; true when something changed.
    pub fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Admitted { key, endpoint, source: CertificateSource::Pushed, .. } => {
                self.learn(*key, *endpoint)
            }
            // It does not say how the certificate came, but who is pushed was admitted before.
            Event::Roamed { key, new, .. } if self.of_key.contains_key(key) => self.learn(*key, *new),
            _ => false,
        }
    }

    /// Takes the tunnel's peers after it took a policy: learns what events have missed, and forgets who is no
    /// longer pushed. True when something changed.
    pub fn take_peers(&mut self, peers: &[PeerInfo]) -> bool {
        let pushed = || peers.iter().filter(|peer| peer.source == CertificateSource::Pushed);
        let keys: HashSet<_> = pushed().map(|peer| peer.key).collect();
        let before = self.of_key.len();
        self.of_key.retain(|key, _| keys.contains(key));
        self.by_news.retain(|_, key| keys.contains(key));
        let mut changed = self.of_key.len() != before;
        for (key, endpoint) in pushed().filter_map(|peer| Some((peer.key, peer.endpoint?))) {
            if self.of_key.get(&key).is_none_or(|(_, known)| *known != endpoint) {
                changed |= self.learn(key, endpoint);
            }
        }
        changed
    }

    /// All of them, those longest without news first.
    #[must_use]
    pub fn list(&self) -> Vec<PeerEndpoint> {
        let known = |key: &PublicKey| Some(PeerEndpoint { key: *key, endpoint: self.of_key.get(key)?.1 });
        self.by_news.values().filter_map(known).collect()
    }

    /// True when the endpoint is another one than before.
    fn learn(&mut self, key: PublicKey, endpoint: SocketAddr) -> bool {
        self.news += 1;
        let before = self.of_key.insert(key, (self.news, endpoint));
        if let Some((news, _)) = before {
            self.by_news.remove(&news);
        }
        self.by_news.insert(self.news, key);
        while self.of_key.len() > MAX_ENDPOINTS
            && let Some((_, oldest)) = self.by_news.pop_first()
        {
            self.of_key.remove(&oldest);
        }
        before.is_none_or(|(_, known)| known != endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verona_contract::key::Secret;

    fn key(number: u16) -> PublicKey {
        let [high, low] = number.to_be_bytes();
        let mut octets = [0x42; 32];
        octets[1..3].copy_from_slice(&[high, low]);
        Secret::new(octets).x25519_public().unwrap()
    }

    fn address(number: u16) -> SocketAddr {
        ([192, 0, 2, 1], number).into()
    }

    fn admitted(number: u16, source: CertificateSource) -> Event {
        Event::Admitted {
            key: key(number),
            subject: "urn:verona:client:1".into(),
            owner: "acme".parse().unwrap(),
            endpoint: address(number),
            source,
        }
    }

    fn peer(number: u16, source: CertificateSource, endpoint: Option<SocketAddr>) -> PeerInfo {
        PeerInfo {
            key: key(number),
            subject: "urn:verona:client:1".into(),
            owner: "acme".parse().unwrap(),
            serial: "0a".parse().unwrap(),
            not_after: 0,
            source,
            addresses: Vec::new(),
            endpoint,
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
            path_mtu: None,
        }
    }

    fn pair(number: u16, port: u16) -> PeerEndpoint {
        PeerEndpoint { key: key(number), endpoint: address(port) }
    }

    #[test]
    fn pushed_clients_are_remembered_and_followed() {
        use CertificateSource::{Introduced, Pushed};
        let roamed = |number| Event::Roamed { key: key(number), old: address(number), new: address(9) };
        let mut endpoints = Endpoints::default();
        for (event, changes) in [
            (admitted(1, Pushed), true),
            (admitted(1, Pushed), false),
            (admitted(2, Introduced), false),
            (roamed(2), false),
            (admitted(3, Pushed), true),
            (roamed(1), true),
            (Event::Expired { key: key(1) }, false),
        ] {
            assert_eq!(endpoints.take(&event), changes, "{event:?}");
        }
        assert_eq!(endpoints.list(), [pair(3, 3), pair(1, 9)], "the latest news last");
        assert_eq!(Endpoints::restore(&endpoints.list()).list(), endpoints.list());
    }

    #[test]
    fn who_is_no_longer_pushed_is_forgotten() {
        use CertificateSource::{Introduced, Pushed};
        let mut endpoints = Endpoints::restore(&[pair(1, 1), pair(2, 2), pair(3, 3), pair(4, 4)]);
        let peers = [
            peer(1, Pushed, None),
            peer(2, Introduced, Some(address(2))),
            peer(4, Pushed, Some(address(44))),
            peer(5, Pushed, Some(address(5))),
        ];
        assert!(endpoints.take_peers(&peers));
        assert_eq!(endpoints.list(), [pair(1, 1), pair(4, 44), pair(5, 5)]);
        assert!(!endpoints.take_peers(&peers), "nothing new");
    }

    #[test]
    fn the_number_is_bounded() {
        let mut endpoints = Endpoints::default();
        let last = MAX_ENDPOINTS as u16 + 1;
        for number in 0..last {
            endpoints.take(&admitted(number, CertificateSource::Pushed));
        }
        endpoints.take(&admitted(1, CertificateSource::Pushed));
        endpoints.take(&admitted(last, CertificateSource::Pushed));
        let list = endpoints.list();
        assert_eq!(list.len(), MAX_ENDPOINTS);
        assert_eq!((list[0], list[MAX_ENDPOINTS - 2]), (pair(3, 3), pair(1, 1)), "0 and 2 have gone");
    }
}
