//! When edges were last heard: kept in memory, stored now and then, so that a poll costs no disk write.

use crate::clock;
use crate::db::{Db, DbError, edges};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// Last requests of edges, Unix nanoseconds.
#[derive(Default)]
pub(crate) struct Seen(Mutex<HashMap<Uuid, Heard>>);

#[derive(Clone, Copy)]
struct Heard {
    at_ns: i64,
    stored: bool,
}

impl Seen {
    /// An edge called.
    pub(crate) fn note(&self, edge: Uuid) {
        let heard = Heard { at_ns: clock::now_ns(), stored: false };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(edge, heard);
    }

    /// When an edge last called since this process began.
    pub(crate) fn last(&self, edge: Uuid) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&edge).map(|heard| heard.at_ns)
    }

    /// Stores what is new.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub(crate) async fn store(&self, db: &Db) -> Result<(), DbError> {
        let fresh: Vec<(Uuid, i64)> = {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = seen.iter_mut().filter(|(_, heard)| !heard.stored);
            fresh
                .map(|(edge, heard)| {
                    heard.stored = true;
                    (*edge, heard.at_ns)
                })
                .collect()
        };
        if fresh.is_empty() {
            return Ok(());
        }
        db.write(move |transaction| edges::store_seen(transaction, &fresh)).await
    }
}
