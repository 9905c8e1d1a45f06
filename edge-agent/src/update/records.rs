//! The record of updates on the data partition.
//!
//! It never says more than the disk holds: what it tells of a slot was synced before. Lost, it costs a download.

use crate::store::{self, StoreError};
use edge_agent_core::update::trial::{Record, Stage};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A record is a few kilobytes.
const MAX_FILE: usize = 256 * 1024;

/// The record, in memory and on the disk.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    record: Mutex<Record>,
}

impl Records {
    /// Reads it. One that does not read counts as none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the disk fails.
    pub fn load(path: PathBuf) -> Result<Self, StoreError> {
        let record = match store::read_replaceable(&path, MAX_FILE)? {
            None => Record::default(),
            Some(json) => serde_json::from_slice(&json).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "record of updates does not read");
                Record::default()
            }),
        };
        Ok(Self { path, record: Mutex::new(record) })
    }

    /// As it is now.
    #[must_use]
    pub fn record(&self) -> Record {
        // A plain value: a panic elsewhere cannot leave it half-changed.
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it, for good. When the disk fails, it is as before.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), StoreError> {
        let mut held = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = held.clone();
        change(&mut record);
        if record != *held {
            // Plain data always encodes.
            store::replace(&self.path, &serde_json::to_vec(&record).unwrap_or_default())?;
            *held = record;
        }
        Ok(())
    }

    /// How far the attempt has come.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn reach(&self, stage: Stage) -> Result<(), StoreError> {
        self.change(|record| {
            if let Some(attempt) = &mut record.attempt {
                attempt.stage = stage;
            }
        })
    }
}
