//! A persistent prefix tree: copies share what they have in common, a change copies one path.
//!
//! Path-compressed, four bits a branch. The slots of a branch are numbered as a heap: prefixes that end
//! within its four bits have 1 to 15, what goes on has 16 to 31. So one word tells which slots exist, the
//! slots themselves lie side by side without gaps, and the longest prefix that ends here is the highest bit
//! that the word shares with the ancestors of the slot to go on with. Bits that a branch skips are compared
//! only at a route, which holds its whole prefix.

use crate::IpNet;
use crate::peers::PeerId;
use std::net::IpAddr;
use std::sync::Arc;

/// Bits that a branch decides.
const STRIDE: u8 = 4;
/// The first slot that goes on.
const ONWARD: u8 = 1 << STRIDE;

/// A prefix, left-aligned in 128 bits for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    bits: u128,
    len: u8,
}

/// The routes of one family, or of a part of it.
// A struct for each variant would be laid out by itself and cost eight octets more.
#[derive(Clone, Debug, Default)]
pub(super) enum Trie {
    #[default]
    Empty,
    Route {
        high: u64,
        low: u64,
        len: u8,
        peer: PeerId,
    },
    /// Two slots at least: one alone stands in its branch's place.
    Branch {
        /// The first bit that is decided here, a multiple of the stride.
        at: u8,
        /// Bit n: slot n exists.
        map: u32,
        slots: Arc<[Trie]>,
    },
}

impl Trie {
    const fn route(prefix: Prefix, peer: PeerId) -> Self {
        Self::Route { high: (prefix.bits >> 64) as u64, low: prefix.bits as u64, len: prefix.len, peer }
    }

    fn branch(at: u8, one: (u8, Self), other: (u8, Self)) -> Self {
        let map = 1 << one.0 | 1 << other.0;
        let slots: [Self; 2] = if one.0 < other.0 { [one.1, other.1] } else { [other.1, one.1] };
        Self::Branch { at, map, slots: slots.into() }
    }

    /// The peer with the longest prefix of `address`, an [`address`].
    pub(super) fn lookup(&self, address: u128) -> Option<PeerId> {
        let mut best = None;
        let mut trie = self;
        loop {
            match trie {
                Self::Empty => return best,
                Self::Route { .. } => return trie.covers(address).or(best),
                Self::Branch { at, map, slots } => {
                    let onward = slot_of(address, *at);
                    let ending = map & ancestors(onward);
                    if ending != 0 {
                        // If this one differs in skipped bits, so does everything below.
                        let longest = rank(*map, ending.ilog2());
                        let Some(peer) = slots.get(longest).and_then(|route| route.covers(address)) else {
                            return best;
                        };
                        best = Some(peer);
                    }
                    if map >> onward & 1 == 0 {
                        return best;
                    }
                    let Some(next) = slots.get(rank(*map, onward.into())) else { return best };
                    trie = next;
                }
            }
        }
    }

    /// The peer of a route that contains `address`.
    fn covers(&self, address: u128) -> Option<PeerId> {
        match self {
            Self::Route { high, low, len, peer } => {
                let equal = (join(*high, *low) ^ address).leading_zeros();
                (equal >= u32::from(*len)).then_some(*peer)
            }
            _ => None,
        }
    }

    /// The peer that has exactly `prefix`.
    pub(super) fn peer_of(&self, prefix: Prefix) -> Option<PeerId> {
        let mut trie = self;
        loop {
            match trie {
                Self::Empty => return None,
                Self::Route { peer, .. } => return (trie.first() == Some(prefix)).then_some(*peer),
                Self::Branch { at, map, slots } => {
                    let slot = prefix.slot(*at).filter(|slot| map >> slot & 1 == 1)?;
                    trie = slots.get(rank(*map, slot.into()))?;
                }
            }
        }
    }

    /// The prefix of any route of this part; all have in common what its branch skips.
    fn first(&self) -> Option<Prefix> {
        let mut trie = self;
        loop {
            match trie {
                Self::Empty => return None,
                Self::Route { high, low, len, .. } => {
                    return Some(Prefix { bits: join(*high, *low), len: *len });
                }
                Self::Branch { slots, .. } => trie = slots.first()?,
            }
        }
    }

    /// Routes `prefix` to `peer`; gives the peer that had exactly this prefix before.
    pub(super) fn insert(&mut self, prefix: Prefix, peer: PeerId) -> Option<PeerId> {
        let Some(first) = self.first() else {
            *self = Self::route(prefix, peer);
            return None;
        };
        let common = first.common(prefix);
        match self {
            Self::Route { peer: holder, .. } if first == prefix => {
                return Some(std::mem::replace(holder, peer));
            }
            Self::Branch { at, map, slots } if common >= *at => {
                let slot = prefix.slot(*at)?;
                let rank = rank(*map, slot.into());
                if *map >> slot & 1 == 1 {
                    return Arc::make_mut(slots).get_mut(rank)?.insert(prefix, peer);
                }
                *slots = with(slots, rank, Self::route(prefix, peer));
                *map |= 1 << slot;
                return None;
            }
            _ => {}
        }
        // It parts from what is here before the first bit that this decides: a new branch above both.
        let at = common / STRIDE * STRIDE;
        let below = std::mem::take(self);
        *self = Self::branch(at, (first.slot(at)?, below), (prefix.slot(at)?, Self::route(prefix, peer)));
        None
    }

    /// Removes `prefix`, which [`Self::peer_of`] has found.
    pub(super) fn remove(&mut self, prefix: Prefix) {
        let Self::Branch { at, map, slots } = self else {
            *self = Self::Empty;
            return;
        };
        let Some(slot) = prefix.slot(*at) else { return };
        let rank = rank(*map, slot.into());
        if matches!(slots.get(rank), Some(Self::Branch { .. })) {
            if let Some(part) = Arc::make_mut(slots).get_mut(rank) {
                part.remove(prefix);
            }
        } else if let [one, other] = &**slots {
            let last = if rank == 0 { other } else { one };
            *self = last.clone();
        } else {
            *slots = without(slots, rank);
            *map &= !(1 << slot);
        }
    }

    #[cfg(test)]
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Octets on the heap, without the allocator's own.
    #[cfg(test)]
    pub(super) fn heap_size(&self) -> usize {
        match self {
            Self::Branch { slots, .. } => {
                16 + size_of_val(&**slots) + slots.iter().map(Self::heap_size).sum::<usize>()
            }
            _ => 0,
        }
    }
}

/// A copy of `slots` with `added` at `rank`. What nobody else holds is moved.
fn with(slots: &mut Arc<[Trie]>, rank: usize, added: Trie) -> Arc<[Trie]> {
    let mut added = Some(added);
    let mut old = Slots::of(slots);
    // The iterator knows its length, so this is one allocation.
    (0..old.len() + 1)
        .map(|index| match index.cmp(&rank) {
            std::cmp::Ordering::Less => old.take(index),
            std::cmp::Ordering::Equal => added.take().unwrap_or_default(),
            std::cmp::Ordering::Greater => old.take(index - 1),
        })
        .collect()
}

/// A copy of `slots` without the one at `rank`.
fn without(slots: &mut Arc<[Trie]>, rank: usize) -> Arc<[Trie]> {
    let mut old = Slots::of(slots);
    (0..old.len() - 1).map(|index| old.take(index + usize::from(index >= rank))).collect()
}

/// The slots of a branch that is being replaced.
enum Slots<'a> {
    Own(&'a mut [Trie]),
    Shared(&'a [Trie]),
}

impl<'a> Slots<'a> {
    fn of(slots: &'a mut Arc<[Trie]>) -> Self {
        if Arc::get_mut(slots).is_some() { Self::Own(Arc::make_mut(slots)) } else { Self::Shared(slots) }
    }

    fn len(&self) -> usize {
        match self {
            Self::Own(slots) => slots.len(),
            Self::Shared(slots) => slots.len(),
        }
    }

    fn take(&mut self, index: usize) -> Trie {
        match self {
            Self::Own(slots) => slots.get_mut(index).map(std::mem::take).unwrap_or_default(),
            Self::Shared(slots) => slots.get(index).cloned().unwrap_or_default(),
        }
    }
}

impl Prefix {
    pub(super) fn of(net: IpNet) -> Self {
        let len = net.prefix();
        let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        Self { bits: address(net.address()) & mask, len }
    }

    /// Length of the common front, at most the shorter length.
    fn common(self, other: Self) -> u8 {
        let equal = (self.bits ^ other.bits).leading_zeros();
        // At most 128.
        (equal as u8).min(self.len).min(other.len)
    }

    /// The slot of this prefix in a branch that decides from bit `at` on; `None` when it ends before.
    fn slot(self, at: u8) -> Option<u8> {
        let len = self.len.checked_sub(at)?;
        let onward = slot_of(self.bits, at);
        Some(if len < STRIDE { onward >> (STRIDE - len) } else { onward })
    }
}

/// An address, left-aligned as prefixes are.
pub(super) fn address(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => v6.into(),
    }
}

const fn join(high: u64, low: u64) -> u128 {
    (high as u128) << 64 | low as u128
}

/// The onward slot for `bits` in a branch at `at`, which is at most 124.
const fn slot_of(bits: u128, at: u8) -> u8 {
    ONWARD | (bits << (at & 127) >> (128 - STRIDE)) as u8
}

/// The slots of the prefixes of an onward slot, as bits of the map.
const fn ancestors(onward: u8) -> u32 {
    1 << (onward >> 1) | 1 << (onward >> 2) | 1 << (onward >> 3) | 1 << (onward >> 4)
}

/// How many slots come before `slot`.
const fn rank(map: u32, slot: u32) -> usize {
    (map & ((1 << slot) - 1)).count_ones() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_no_wider_than_an_ipv6_route() {
        assert_eq!(size_of::<Trie>(), 24);
    }
}
