//! Cryptokey routing (WireGuard whitepaper §2): which peer owns an inner address.
//!
//! A path-compressed binary trie per address family, in one arena: a lookup visits at most one node per
//! distinct prefix length on its path, and a peer with one address costs two nodes of 32 octets. The same
//! lookup serves both directions: the destination of a packet to send, and the source of one received, so a
//! broad route of one peer never speaks for an address that another peer holds more narrowly.

use crate::IpNet;
use crate::peers::PeerId;
use std::net::IpAddr;

/// The routes of all peers.
#[derive(Debug)]
pub(crate) struct AllowedIps {
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// IPv4, IPv6.
    roots: [u32; 2],
}

/// A prefix, left-aligned in 128 bits for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    bits: u128,
    len: u8,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    bits: u128,
    len: u8,
    peer: Option<PeerId>,
    children: [u32; 2],
}

/// The place that holds a node's index.
#[derive(Clone, Copy)]
enum Link {
    Root(usize),
    Child(u32, usize),
}

const NONE: u32 = u32::MAX;

impl Node {
    const fn new(prefix: Prefix, peer: Option<PeerId>) -> Self {
        Self { bits: prefix.bits, len: prefix.len, peer, children: [NONE; 2] }
    }

    // Not a field: u128 is aligned to 16, and a nested struct would cost 16 octets more a node.
    const fn prefix(&self) -> Prefix {
        Prefix { bits: self.bits, len: self.len }
    }
}

impl Default for AllowedIps {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), roots: [NONE; 2] }
    }
}

impl AllowedIps {
    /// Routes `net` to `peer`; gives the peer that had exactly this network before.
    pub(crate) fn insert(&mut self, net: IpNet, peer: PeerId) -> Option<PeerId> {
        let prefix = Prefix::of(net);
        let mut link = Link::Root(family(net.address()));
        loop {
            let at = self.follow(link);
            if at == NONE {
                let node = self.allocate(Node::new(prefix, Some(peer)));
                self.set(link, node);
                return None;
            }
            let found = self.nodes[at as usize];
            let common = prefix.common(found.prefix());
            if common == found.len && common == prefix.len {
                return self.nodes[at as usize].peer.replace(peer);
            }
            if common < found.len {
                self.split(link, at, prefix, common, peer);
                return None;
            }
            link = Link::Child(at, prefix.bit(common));
        }
    }

    /// Puts a node for `prefix` above `at`, or beside it under a new branch of `common` bits.
    fn split(&mut self, link: Link, at: u32, prefix: Prefix, common: u8, peer: PeerId) {
        let below = self.nodes[at as usize].prefix();
        let mut upper = Node::new(prefix, Some(peer));
        if common < prefix.len {
            let leaf = self.allocate(upper);
            upper = Node::new(prefix.truncated(common), None);
            upper.children[prefix.bit(common)] = leaf;
        }
        upper.children[below.bit(common)] = at;
        let upper = self.allocate(upper);
        self.set(link, upper);
    }

    /// Takes `net` from `peer`; without effect when it belongs to nobody or to another.
    pub(crate) fn remove(&mut self, net: IpNet, peer: PeerId) {
        let prefix = Prefix::of(net);
        let mut above = None;
        let mut link = Link::Root(family(net.address()));
        loop {
            let at = self.follow(link);
            if at == NONE {
                return;
            }
            let found = self.nodes[at as usize];
            if found.prefix() == prefix {
                if found.peer == Some(peer) {
                    self.nodes[at as usize].peer = None;
                    self.collapse(link);
                    if let Some(above) = above {
                        self.collapse(above);
                    }
                }
                return;
            }
            if prefix.len <= found.len || prefix.common(found.prefix()) < found.len {
                return;
            }
            above = Some(link);
            link = Link::Child(at, prefix.bit(found.len));
        }
    }

    /// Removes the node at `link` when it routes nothing and joins nothing.
    fn collapse(&mut self, link: Link) {
        let at = self.follow(link);
        if at == NONE {
            return;
        }
        let node = self.nodes[at as usize];
        let heir = match (node.peer, node.children) {
            (None, [only, NONE] | [NONE, only]) => only,
            _ => return,
        };
        self.set(link, heir);
        self.free.push(at);
    }

    /// The peer with the narrowest network that contains `address`.
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<PeerId> {
        let prefix = Prefix::of(IpNet::host(address));
        let mut best = None;
        let mut at = self.roots[family(address)];
        while let Some(node) = self.nodes.get(at as usize) {
            if prefix.common(node.prefix()) < node.len {
                break;
            }
            best = node.peer.or(best);
            if node.len == prefix.len {
                break;
            }
            at = node.children[prefix.bit(node.len)];
        }
        best
    }

    fn allocate(&mut self, node: Node) -> u32 {
        if let Some(index) = self.free.pop() {
            self.nodes[index as usize] = node;
            return index;
        }
        self.nodes.push(node);
        // Two nodes a network: MAX_PEERS peers of MAX_ADDRESSES networks stay far below 2^32.
        (self.nodes.len() - 1) as u32
    }

    fn follow(&self, link: Link) -> u32 {
        match link {
            Link::Root(family) => self.roots[family],
            Link::Child(node, side) => self.nodes[node as usize].children[side],
        }
    }

    fn set(&mut self, link: Link, node: u32) {
        match link {
            Link::Root(family) => self.roots[family] = node,
            Link::Child(parent, side) => self.nodes[parent as usize].children[side] = node,
        }
    }
}

impl Prefix {
    fn of(net: IpNet) -> Self {
        let bits = match net.address() {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => v6.into(),
        };
        Self { bits, len: net.prefix() }.truncated(net.prefix())
    }

    fn truncated(self, len: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        Self { bits: self.bits & mask, len }
    }

    /// Length of the common front, at most the shorter length.
    fn common(self, other: Self) -> u8 {
        let equal = (self.bits ^ other.bits).leading_zeros();
        // At most 128.
        (equal as u8).min(self.len).min(other.len)
    }

    /// The bit after the first `len` ones; `len` is below 128.
    fn bit(self, len: u8) -> usize {
        usize::from(self.bits << len >> 127 != 0)
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

    proptest! {
        /// Against the plainest model: a list of networks searched from end to end.
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((any_net(), 0u32..4, any::<bool>()), 1..60)) {
            let mut routes = AllowedIps::default();
            let mut model: Vec<(IpNet, PeerId)> = Vec::new();
            for (net, number, add) in &steps {
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
                for (probe, _, _) in &steps {
                    let narrowest = model.iter()
                        .filter(|(other, _)| other.contains(probe.address()))
                        .max_by_key(|(other, _)| other.prefix())
                        .map(|(_, peer)| *peer);
                    prop_assert_eq!(routes.lookup(probe.address()), narrowest);
                }
            }
            for (net, peer) in model {
                routes.remove(net, peer);
            }
            prop_assert_eq!(routes.roots, [NONE; 2], "every node is given back");
            prop_assert_eq!(routes.free.len(), routes.nodes.len());
        }
    }
}
