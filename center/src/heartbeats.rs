//! The newest heartbeat of each edge: kept in memory, stored now and then, so that ten thousand edges cost one write
//! every ten seconds.

use crate::clock;
use crate::db::{Db, DbError, heartbeats};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;
use verona_contract::api::Heartbeat;

/// A heartbeat as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// Our clock, Unix nanoseconds.
    pub(crate) at_ns: i64,
    /// Where the request came from.
    pub(crate) from: IpAddr,
    /// What it said.
    pub(crate) heartbeat: Heartbeat,
}

/// All edges'.
#[derive(Default)]
pub(crate) struct Heartbeats(Mutex<HashMap<Uuid, (Heard, bool)>>);

impl Heartbeats {
    /// What was stored before this process began.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub(crate) async fn load(db: &Db) -> Result<Self, DbError> {
        let stored = db.read(heartbeats::all).await?;
        let known = stored.into_iter().map(|(edge, heard)| (edge, (heard, true)));
        Ok(Self(Mutex::new(known.collect())))
    }

    /// An edge told.
    pub(crate) fn note(&self, edge: Uuid, from: IpAddr, heartbeat: Heartbeat) {
        let heard = Heard { at_ns: clock::now_ns(), from, heartbeat };
        self.known().insert(edge, (heard, false));
    }

    /// What an edge told last.
    pub(crate) fn last(&self, edge: Uuid) -> Option<Heard> {
        self.known().get(&edge).map(|(heard, _)| heard.clone())
    }

    /// Stores what is new. What cannot be stored is tried again.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub(crate) async fn store(&self, db: &Db) -> Result<(), DbError> {
        let fresh: Vec<(Uuid, Heard)> = {
            let known = self.known();
            let fresh = known.iter().filter(|(_, (_, stored))| !stored);
            fresh.map(|(edge, (heard, _))| (*edge, heard.clone())).collect()
        };
        if fresh.is_empty() {
            return Ok(());
        }
        let times: Vec<(Uuid, i64)> = fresh.iter().map(|(edge, heard)| (*edge, heard.at_ns)).collect();
        db.write(move |transaction| heartbeats::store(transaction, &fresh)).await?;
        let mut known = self.known();
        for (edge, at_ns) in times {
            // A newer one may have come meanwhile.
            if let Some((_, stored)) = known.get_mut(&edge).filter(|(heard, _)| heard.at_ns == at_ns) {
                *stored = true;
            }
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Uuid, (Heard, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
