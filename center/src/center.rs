//! What every request of the serving process shares.

use crate::challenges::Challenges;
use crate::composer::Composer;
use crate::db::Db;
use crate::heartbeats::Heartbeats;
use crate::http::places::Places;
use crate::lists::Lists;
use crate::logs::LogStore;
use crate::news::News;
use crate::passwords::Passwords;
use crate::seen::Seen;
use crate::signer::Signer;
use crate::throttle::Throttle;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

/// The serving process.
pub(crate) struct Center {
    /// `https://host[:port]` as clients and edges know it.
    pub(crate) url: String,
    /// SHA-256 of the center CA's `SubjectPublicKeyInfo`.
    pub(crate) pin: [u8; 32],
    /// Everything but log records.
    pub(crate) db: Db,
    /// Log records.
    pub(crate) logs: LogStore,
    /// Requests with log records that are under way, by edge.
    pub(crate) log_requests: Places<Uuid>,
    /// The process with the keys.
    pub(crate) signer: Signer,
    /// The newest list of each issuer, and who waits for the next.
    pub(crate) lists: Lists,
    /// Who waits for an edge's next configuration.
    pub(crate) configs: Arc<News<Uuid, u64>>,
    /// Makes configurations.
    pub(crate) composer: Composer,
    /// Open proofs of possession.
    pub(crate) challenges: Challenges,
    /// Wrong codes and passwords by source.
    pub(crate) throttle: Throttle,
    /// Password hashing.
    pub(crate) passwords: Passwords,
    /// When edges were last heard.
    pub(crate) seen: Seen,
    /// The folder of the firmware repository, which may be empty.
    pub(crate) firmware: PathBuf,
    /// What edges told of themselves last.
    pub(crate) heartbeats: Heartbeats,
    /// Turns true when the process is to end: waiting requests answer then.
    pub(crate) stop: watch::Receiver<bool>,
}
