//! Cryptokey routing (WireGuard whitepaper §2): which peer owns an inner address.
//!
//! The same lookup serves both directions: the destination of a packet to send, and the source of one
//! received, so a broad route of one peer never speaks for an address that another peer holds more narrowly.
//!
//! One writer changes the tree, any number of threads read it. A reader holds a [`Routes`], which never
//! changes, and asks its [`RouteReader`] once a batch for the newest that was published: one load of a number
//! while nothing has changed, a counted reference under a lock that it only tries otherwise. So it never
//! waits, neither for the lock nor for a change, however large; a try that fails has met a writer within
//! [`AllowedIps::publish`], whose change is not published yet. The writer is the one that waits and that frees
//! what no reader holds any more.

mod trie;

use crate::IpNet;
use crate::peers::PeerId;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, TryLockError};
use trie::{Prefix, Trie};

/// The routes of all peers, and the right to change them.
#[derive(Debug, Default)]
pub(crate) struct AllowedIps {
    routes: Routes,
    changed: bool,
    published: Arc<Published>,
    /// What was published before and a reader may hold. Freed here: on a reader's thread packets would wait.
    retired: Vec<Arc<Routes>>,
    /// Networks that have changed hands, and whose they are now, for one who follows.
    followed: Option<VecDeque<(IpNet, Option<PeerId>)>>,
}

/// The routes as they were at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    /// IPv4, IPv6.
    families: [Trie; 2],
}

#[derive(Debug, Default)]
struct Published {
    /// How many times it was published. Stored while `newest` is locked.
    generation: AtomicU64,
    newest: RwLock<(u64, Arc<Routes>)>,
}

/// One thread's view of the routes.
#[derive(Clone, Debug)]
pub(crate) struct RouteReader {
    published: Arc<Published>,
    generation: u64,
    routes: Arc<Routes>,
}

impl AllowedIps {
    /// Routes `net` to `peer`; gives the peer that had exactly this network before.
    pub(crate) fn insert(&mut self, net: IpNet, peer: PeerId) -> Option<PeerId> {
        self.changed = true;
        let before = self.routes.families[family(net.address())].insert(Prefix::of(net), peer);
        if before != Some(peer) {
            self.note(net, Some(peer));
        }
        before
    }

    /// Takes `net` from `peer`; without effect when it belongs to nobody or to another.
    pub(crate) fn remove(&mut self, net: IpNet, peer: PeerId) {
        let prefix = Prefix::of(net);
        let trie = &mut self.routes.families[family(net.address())];
        if trie.peer_of(prefix) == Some(peer) {
            self.changed = true;
            trie.remove(prefix);
            self.note(net, None);
        }
    }

    /// Keeps changes from now on until they are taken by [`Self::poll_change`].
    pub(crate) fn follow(&mut self) {
        self.followed.get_or_insert_default();
    }

    /// The next change, oldest first: a network without host bits, and whose it is now.
    pub(crate) fn poll_change(&mut self) -> Option<(IpNet, Option<PeerId>)> {
        self.followed.as_mut()?.pop_front()
    }

    fn note(&mut self, net: IpNet, peer: Option<PeerId>) {
        if let Some(changes) = &mut self.followed {
            changes.push_back((net.network(), peer));
        }
    }

    /// The peer with the narrowest network that contains `address`, changes not yet published included.
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<PeerId> {
        self.routes.lookup(address)
    }

    /// Shows all changes to the readers at once. Each holder of a [`RouteReader`] that asks after the return of
    /// this call sees them.
    pub(crate) fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let next = Arc::new(self.routes.clone());
        let mut newest = self.published.newest.write().unwrap_or_else(PoisonError::into_inner);
        let generation = newest.0 + 1;
        let (_, before) = std::mem::replace(&mut *newest, (generation, next));
        self.published.generation.store(generation, Ordering::Release);
        drop(newest);
        self.retired.push(before);
        // No reader can take up an old one again, so a count of one is final.
        self.retired.retain(|routes| Arc::strong_count(routes) > 1);
    }

    /// A view for another thread.
    pub(crate) fn reader(&self) -> RouteReader {
        let newest = self.published.newest.read().unwrap_or_else(PoisonError::into_inner);
        let (generation, routes) = newest.clone();
        RouteReader { published: self.published.clone(), generation, routes }
    }
}

impl RouteReader {
    /// The newest published routes: once a batch, so that all its packets see the same.
    pub(crate) fn current(&mut self) -> &Routes {
        if self.published.generation.load(Ordering::Acquire) != self.generation {
            let newest = match self.published.newest.try_read() {
                Ok(newest) => Some(newest),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if let Some(newest) = newest {
                (self.generation, self.routes) = newest.clone();
            }
        }
        &self.routes
    }
}

impl Routes {
    /// The peer with the narrowest network that contains `address`.
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<PeerId> {
        self.families[family(address)].lookup(trie::address(address))
    }
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn peer(number: u32) -> PeerId {
        PeerId::new(number)
    }

    #[test]
    fn narrowest_route_wins_in_both_families() {
        let mut routes = AllowedIps::default();
        routes.insert(net("0.0.0.0/0"), peer(1));
        routes.insert(net("10.8.0.0/16"), peer(2));
        routes.insert(net("10.8.3.7/32"), peer(3));
        routes.insert(net("::/0"), peer(4));
        routes.insert(net("fd00::1/128"), peer(5));
        let at = |text: &str| routes.lookup(text.parse().unwrap());
        assert_eq!(at("192.0.2.1"), Some(peer(1)));
        assert_eq!(at("10.8.3.8"), Some(peer(2)));
        assert_eq!(at("10.8.3.7"), Some(peer(3)));
        assert_eq!(at("fd00::2"), Some(peer(4)));
        assert_eq!(at("fd00::1"), Some(peer(5)));
    }

    #[test]
    fn a_network_moves_to_the_last_who_claims_it() {
        let mut routes = AllowedIps::default();
        assert_eq!(routes.insert(net("10.0.0.1/24"), peer(1)), None);
        assert_eq!(routes.insert(net("10.0.0.2/24"), peer(2)), Some(peer(1)), "host bits do not matter");
        routes.remove(net("10.0.0.0/24"), peer(1));
        assert_eq!(routes.lookup("10.0.0.9".parse().unwrap()), Some(peer(2)), "only its owner removes it");
        routes.remove(net("10.0.0.0/24"), peer(2));
        assert_eq!(routes.lookup("10.0.0.9".parse().unwrap()), None);
    }

    fn any_net() -> impl Strategy<Value = IpNet> {
        // Few distinct bits, so that prefixes nest and collide.
        let v4 = (
            prop::sample::select(vec![0u32, 1, 0x8000_0000, 0x8000_0001, 0xc000_0000, 0x0a08_0307]),
            0u8..=32,
        )
            .prop_map(|(bits, len)| IpNet::new(IpAddr::from(bits.to_be_bytes()), len).unwrap());
        let v6 = (prop::sample::select(vec![0u128, 1, 1 << 127, (1 << 127) | 1, 0xfd00 << 112]), 0u8..=128)
            .prop_map(|(bits, len)| IpNet::new(IpAddr::from(bits.to_be_bytes()), len).unwrap());
        prop_oneof![v4, v6]
    }

    type Model = Vec<(IpNet, PeerId)>;

    /// The plainest model: a list of networks searched from end to end.
    fn narrowest(model: &Model, address: IpAddr) -> Option<PeerId> {
        let covering = model.iter().filter(|(net, _)| net.contains(address));
        covering.max_by_key(|(net, _)| net.prefix()).map(|(_, peer)| *peer)
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            steps in prop::collection::vec((any_net(), 0u32..4, any::<bool>(), any::<bool>()), 1..60)
        ) {
            let mut routes = AllowedIps::default();
            let mut model = Model::new();
            let mut published = vec![(routes.reader(), Model::new())];
            let mut follower = Model::new();
            routes.follow();
            for (net, number, add, publish) in &steps {
                let (net, peer) = (net.network(), peer(*number));
                if *add {
                    let before = model.iter().find(|(other, _)| *other == net).map(|(_, peer)| *peer);
                    model.retain(|(other, _)| *other != net);
                    model.push((net, peer));
                    prop_assert_eq!(routes.insert(net, peer), before);
                } else {
                    model.retain(|entry| *entry != (net, peer));
                    routes.remove(net, peer);
                }
                for (probe, ..) in &steps {
                    prop_assert_eq!(routes.lookup(probe.address()), narrowest(&model, probe.address()));
                }
                while let Some((net, peer)) = routes.poll_change() {
                    follower.retain(|(other, _)| *other != net);
                    follower.extend(peer.map(|peer| (net, peer)));
                }
                follower.sort();
                model.sort();
                prop_assert_eq!(&follower, &model);
                if *publish {
                    routes.publish();
                    published.push((routes.reader(), model.clone()));
                }
            }
            // Whoever holds a view still sees what it showed then.
            for (reader, model) in &mut published {
                for (probe, ..) in &steps {
                    let shown = reader.routes.lookup(probe.address());
                    prop_assert_eq!(shown, narrowest(model, probe.address()));
                }
            }
            let (mut first, last) = (published[0].0.clone(), &published[published.len() - 1]);
            for (probe, ..) in &steps {
                let shown = first.current().lookup(probe.address());
                prop_assert_eq!(shown, narrowest(&last.1, probe.address()), "the newest when it asks");
            }
            for (net, peer) in model {
                routes.remove(net, peer);
            }
            prop_assert!(routes.routes.families.iter().all(Trie::is_empty), "every branch is given back");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the shell's workers are threads")]
    fn readers_never_wait_and_never_see_half_a_change() {
        let mut routes = AllowedIps::default();
        let mut reader = routes.reader();
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (ours, here) = (done.clone(), "10.0.0.1".parse().unwrap());
        let watch = std::thread::spawn(move || {
            let mut last = None;
            while !ours.load(Ordering::Acquire) {
                let now = reader.current();
                let pair = (now.lookup(here), now.lookup("fd00::1".parse().unwrap()));
                assert_eq!(pair.0, pair.1);
                assert!(pair.0 >= last, "a view older than the one before");
                last = pair.0;
            }
            reader.current().lookup(here)
        });
        for number in 0..20_000 {
            routes.insert(net("10.0.0.1/32"), peer(number));
            routes.insert(net("fd00::1/128"), peer(number));
            routes.publish();
        }
        let (mut waiting, published) = (routes.reader(), routes.published.clone());
        routes.insert(net("10.0.0.1/32"), peer(20_000));
        routes.insert(net("fd00::1/128"), peer(20_000));
        routes.publish();
        let busy = published.newest.write().unwrap();
        // A read that waited for this lock would wait for ever.
        assert_eq!(waiting.current().lookup(here), Some(peer(19_999)));
        drop(busy);
        assert_eq!(waiting.current().lookup(here), Some(peer(20_000)));
        done.store(true, Ordering::Release);
        assert_eq!(watch.join().unwrap(), Some(peer(20_000)));
    }

    #[test]
    fn the_writer_frees_what_readers_leave() {
        let mut routes = AllowedIps::default();
        let mut reader = routes.reader();
        let old = Arc::downgrade(&reader.routes);
        for number in 0..100 {
            routes.insert(net("10.0.0.1/32"), peer(number));
            routes.publish();
        }
        assert!(routes.retired.len() <= 1, "only what a reader holds is kept");
        reader.current();
        assert!(old.upgrade().is_some(), "freed on the reader's thread");
        routes.insert(net("10.0.0.1/32"), peer(100));
        routes.publish();
        assert!(old.upgrade().is_none());
    }

    #[test]
    fn routes_of_many_peers_are_small() {
        // Hosts in a row, as a center gives them out, and hosts without any order.
        for factor in [1, 0x9e37_79b1u32] {
            let mut routes = AllowedIps::default();
            for number in 0..100_000u32 {
                let bits = number.wrapping_mul(factor);
                routes.insert(IpNet::host(IpAddr::from(bits.to_be_bytes())), peer(number));
                let v6 = (0xfd00 << 112) | u128::from(bits);
                routes.insert(IpNet::host(IpAddr::from(v6.to_be_bytes())), peer(number));
            }
            let octets: usize = routes.routes.families.iter().map(Trie::heap_size).sum();
            assert!(octets <= 10 << 20, "{octets} octets for 200,000 routes");
        }
    }
}
