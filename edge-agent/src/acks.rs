//! Acknowledgements on their way to the center: kept on the disk until it has them.
//!
//! Which lists were acknowledged is kept, too, so that after a crash between applying a list and writing the
//! acknowledgement the list is applied and acknowledged again, and otherwise not twice.

use crate::center::Caller;
use crate::https::Request;
use crate::store::{self, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify};
use verona_contract::api::{ACKS, Ack};
use verona_contract::key::KeyId;

/// A few thousand acknowledgements.
const MAX_FILE: usize = 16 * 1024 * 1024;

/// The queue.
pub struct Acks {
    path: PathBuf,
    state: Mutex<State>,
    added: Notify,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// By order of arrival.
    pending: BTreeMap<u64, Ack>,
    /// The newest list of each issuer that was queued.
    lists: BTreeMap<KeyId, u64>,
    /// The newest configuration whose outcome was queued.
    config: u64,
}

impl Acks {
    /// Reads the queue. A file that does not read counts as empty: the lists are acknowledged again.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the disk fails.
    pub fn load(path: PathBuf) -> Result<Self, StoreError> {
        let state = match store::read_replaceable(&path, MAX_FILE)? {
            None => State::default(),
            Some(json) => serde_json::from_slice(&json).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "queue of acknowledgements does not read");
                State::default()
            }),
        };
        Ok(Self { path, state: Mutex::new(state), added: Notify::new() })
    }

    /// Queues one, on the disk.
    pub async fn push(&self, ack: Ack) {
        let mut state = self.state.lock().await;
        match &ack {
            Ack::Crl(ack) => {
                let newest = state.lists.entry(ack.issuer.clone()).or_default();
                *newest = ack.crl_number.max(*newest);
            }
            Ack::Config(ack) => state.config = ack.seq.max(state.config),
            Ack::Update(_) => {}
        }
        let id = state.pending.last_key_value().map_or(0, |(id, _)| id + 1);
        state.pending.insert(id, ack);
        self.save(&state).await;
        drop(state);
        self.added.notify_one();
    }

    /// The newest list of `issuer` that was queued; 0 = none.
    pub async fn list(&self, issuer: &KeyId) -> u64 {
        self.state.lock().await.lists.get(issuer).copied().unwrap_or(0)
    }

    /// The newest configuration whose outcome was queued; 0 = none.
    pub async fn config(&self) -> u64 {
        self.state.lock().await.config
    }

    /// How many wait.
    pub async fn pending(&self) -> usize {
        self.state.lock().await.pending.len()
    }

    /// Delivers, for ever. What an admin waits for goes first: lists.
    pub async fn deliver(self: Arc<Self>, mut caller: Caller) {
        loop {
            let next = {
                let state = self.state.lock().await;
                let list = state.pending.iter().find(|(_, ack)| matches!(ack, Ack::Crl(_)));
                list.or_else(|| state.pending.first_key_value()).map(|(id, ack)| (*id, ack.clone()))
            };
            let Some((id, ack)) = next else {
                self.added.notified().await;
                continue;
            };
            // Plain data always encodes.
            let body = serde_json::to_vec(&ack).unwrap_or_default();
            match caller.call(Request::post(ACKS, "application/json", body)).await {
                Ok(_) => self.remove(id).await,
                Err(failure) if failure.error.is_final() => {
                    tracing::error!(error = %failure.error, "the center will not take an acknowledgement");
                    self.remove(id).await;
                }
                Err(failure) => tokio::time::sleep(failure.delay).await,
            }
        }
    }

    async fn remove(&self, id: u64) {
        let mut state = self.state.lock().await;
        state.pending.remove(&id);
        self.save(&state).await;
    }

    /// A queue that could not be written is delivered all the same; only a crash would then lose it.
    async fn save(&self, state: &State) {
        let (path, state) = (self.path.clone(), state.clone());
        let saved = tokio::task::spawn_blocking(move || {
            // Plain data always encodes.
            store::replace(&path, &serde_json::to_vec(&state).unwrap_or_default())
        });
        if let Ok(Err(error)) = saved.await {
            tracing::error!(error = crate::center::chain(&error), "acknowledgements are not on the disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verona_contract::api::CrlAck;

    fn ack(number: u64) -> Ack {
        let issuer = "0a".parse().unwrap();
        Ack::Crl(CrlAck { issuer, crl_number: number, applied_at_ns: 1, cut: vec![] })
    }

    #[tokio::test]
    async fn survives_a_restart_and_a_damaged_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("acks.json");
        let issuer = "0a".parse().unwrap();
        let acks = Acks::load(path.clone()).unwrap();
        acks.push(ack(7)).await;
        acks.push(ack(6)).await;
        let again = Acks::load(path.clone()).unwrap();
        assert_eq!((again.pending().await, again.list(&issuer).await), (2, 7));
        again.remove(0).await;
        let again = Acks::load(path.clone()).unwrap();
        assert_eq!((again.pending().await, again.list(&issuer).await), (1, 7), "delivered, not forgotten");
        std::fs::write(&path, b"{").unwrap();
        let again = Acks::load(path).unwrap();
        assert_eq!((again.pending().await, again.list(&issuer).await), (0, 0));
    }
}
