//! The last timestamps of keys that are no longer in the table.
//!
//! A record that was evicted or removed may come back, and a recorded initiation must not be answered then
//! either. Bounded: the oldest floor goes first; one costs about 100 octets.

use crate::PublicKey;
use crate::time::Tai64n;
use std::collections::{HashMap, VecDeque};

const MAX_FLOORS: usize = 65_536;

#[derive(Default)]
pub(crate) struct Floors {
    floors: HashMap<PublicKey, Tai64n>,
    order: VecDeque<PublicKey>,
}

impl Floors {
    /// Remembers what `key` has proven, when it has proven anything.
    pub(crate) fn keep(&mut self, key: PublicKey, timestamp: Tai64n) {
        if timestamp == Tai64n::default() {
            return;
        }
        if self.floors.insert(key, timestamp).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_FLOORS
            && let Some(oldest) = self.order.pop_front()
        {
            self.floors.remove(&oldest);
        }
    }

    /// The floor for a key that comes back. It stays, in case the key leaves without proving anything.
    pub(crate) fn of(&self, key: &PublicKey) -> Tai64n {
        self.floors.get(key).copied().unwrap_or_default()
    }
}
