//! Timestamp floors beyond the peers' own: of keys that have left the table, and on their way to the disk.
//!
//! A record that was evicted or removed may come back, and so may this process: a recorded initiation must not
//! be answered then either. The agent fetches what is fresh and hands everything back to a tunnel that it fills.
//! Both parts are bounded: the oldest departed floor goes first (one costs about 100 octets), and fresh floors
//! that nobody fetches give way to a mark that some are missing.

use crate::PublicKey;
use std::collections::{HashMap, VecDeque};
use verona_contract::control::{Floor, MAX_FLOORS, Tai64n};

/// 20 s of 100,000 clients that rekey every two minutes; the agent asks twice a second.
const MAX_FRESH: usize = 16_384;

#[derive(Default)]
pub(crate) struct Floors {
    departed: HashMap<PublicKey, Tai64n>,
    order: VecDeque<PublicKey>,
    /// Proven since the agent asked.
    fresh: Vec<Floor>,
    /// More was proven than `fresh` holds.
    missed: bool,
}

impl Floors {
    /// Notes that `key` has just proven an initiation: the agent is to learn it.
    pub(crate) fn proven(&mut self, key: PublicKey, timestamp: Tai64n) {
        if self.fresh.len() < MAX_FRESH {
            self.fresh.push(Floor { key, timestamp });
        } else {
            self.fresh.clear();
            self.missed = true;
        }
    }

    /// What was proven since this was called last, and whether that is all of it.
    pub(crate) fn take_fresh(&mut self) -> (Vec<Floor>, bool) {
        let complete = !self.missed;
        self.missed = false;
        (std::mem::take(&mut self.fresh), complete)
    }

    /// Those of keys that have left.
    pub(crate) fn departed(&self) -> impl Iterator<Item = Floor> {
        self.departed.iter().map(|(key, timestamp)| Floor { key: *key, timestamp: *timestamp })
    }

    /// Remembers what a key that is not in the table has proven, when it has proven anything.
    pub(crate) fn keep(&mut self, key: PublicKey, timestamp: Tai64n) {
        if timestamp == Tai64n::default() {
            return;
        }
        if let Some(known) = self.departed.get_mut(&key) {
            *known = timestamp.max(*known);
            return;
        }
        self.departed.insert(key, timestamp);
        self.order.push_back(key);
        if self.order.len() > MAX_FLOORS
            && let Some(oldest) = self.order.pop_front()
        {
            self.departed.remove(&oldest);
        }
    }

    /// The floor for a key that comes back. It stays, in case the key leaves without proving anything.
    pub(crate) fn of(&self, key: &PublicKey) -> Tai64n {
        self.departed.get(key).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> PublicKey {
        let mut octets = [0x42; 32];
        octets[1..5].copy_from_slice(&number.to_be_bytes());
        PublicKey::new(octets).unwrap()
    }

    fn label(number: u8) -> Tai64n {
        Tai64n([number; 12])
    }

    #[test]
    fn a_floor_never_sinks_and_nothing_is_kept_of_a_key_that_proved_nothing() {
        let mut floors = Floors::default();
        floors.keep(key(1), label(7));
        floors.keep(key(1), label(5));
        floors.keep(key(2), Tai64n::default());
        assert_eq!((floors.of(&key(1)), floors.of(&key(2))), (label(7), Tai64n::default()));
        assert_eq!(floors.departed().collect::<Vec<_>>(), [Floor { key: key(1), timestamp: label(7) }]);
    }

    #[test]
    fn departed_and_fresh_ones_are_bounded() {
        let mut floors = Floors::default();
        for number in 0..=MAX_FLOORS as u32 {
            floors.keep(key(number), label(1));
        }
        assert_eq!(floors.departed().count(), MAX_FLOORS);
        assert_eq!(
            (floors.of(&key(0)), floors.of(&key(1))),
            (Tai64n::default(), label(1)),
            "the oldest went"
        );

        for number in 0..MAX_FRESH as u32 {
            floors.proven(key(number), label(2));
        }
        let (fresh, complete) = floors.take_fresh();
        assert_eq!((fresh.len(), complete), (MAX_FRESH, true));
        for number in 0..=MAX_FRESH as u32 {
            floors.proven(key(number), label(2));
        }
        assert!(!floors.take_fresh().1, "one was lost");
        assert_eq!(floors.take_fresh(), (Vec::new(), true), "told once");
    }
}
