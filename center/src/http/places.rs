//! Shares a resource among keys (sources, edges), so that one of them cannot take it all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Who holds how many places. What the holders of one key share is a `V`.
pub(crate) struct Places<K, V = ()> {
    most: usize,
    taken: Arc<Taken<K, V>>,
}

type Taken<K, V> = Mutex<HashMap<K, (usize, Arc<V>)>>;

/// A place, free again when it is dropped.
pub(crate) struct Place<K: Eq + Hash, V = ()> {
    key: K,
    /// What all places of this key share.
    pub(crate) shared: Arc<V>,
    taken: Arc<Taken<K, V>>,
}

impl<K: Copy + Eq + Hash, V: Default> Places<K, V> {
    /// At most `most` places for each key. Keys without a place take no memory.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// Takes a place. None when the key has its share.
    pub(crate) fn take(&self, key: K) -> Option<Place<K, V>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, shared) = taken.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { key, shared: Arc::clone(shared), taken: Arc::clone(&self.taken) })
    }
}

impl<K: Eq + Hash, V> Drop for Place<K, V> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_share_and_no_more() {
        let places: Places<u8> = Places::new(2);
        let first = places.take(1).unwrap();
        let second = places.take(1).unwrap();
        assert!(places.take(1).is_none());
        let other = places.take(2).unwrap();
        drop(first);
        let third = places.take(1).unwrap();
        assert!(places.take(1).is_none());
        drop((second, third, other));
        assert!(places.taken.lock().unwrap().is_empty(), "idle keys are forgotten");
    }
}
