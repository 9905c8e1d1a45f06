//! Wakes long-polls: one channel for each thing that can have news.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// The newest value by key, and its watchers. Keys are objects of the database, so the map is bounded.
pub(crate) struct News<K, V> {
    channels: Mutex<HashMap<K, watch::Sender<V>>>,
}

impl<K: Eq + Hash, V: Clone + Default> News<K, V> {
    pub(crate) fn new() -> Self {
        Self { channels: Mutex::default() }
    }

    /// Tells the watchers of `key`.
    pub(crate) fn publish(&self, key: K, value: V) {
        self.with(key, |sender| {
            sender.send_replace(value);
        });
    }

    /// Watches `key`. Subscribe before reading the database: then no news falls in between.
    pub(crate) fn watch(&self, key: K) -> watch::Receiver<V> {
        self.with(key, watch::Sender::subscribe)
    }

    fn with<T>(&self, key: K, act: impl FnOnce(&watch::Sender<V>) -> T) -> T {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        act(channels.entry(key).or_insert_with(|| watch::Sender::new(V::default())))
    }
}
