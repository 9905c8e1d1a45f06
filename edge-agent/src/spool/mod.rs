//! The spool: log records on the disk until the center has them.
//!
//! [`Spool::append`] returns after fsync: from then on a record survives a crash. One writer thread serves all
//! appenders, so that one fsync covers everyone who waits (group commit). Reading and deleting what was sent
//! happens beside it. The format and its rules are in `edge_agent_core::spool`.

mod refused;
mod row;
mod writer;

pub use row::OpenError;

use crate::store::{self, StoreError};
use edge_agent_core::journal::Draft;
use edge_agent_core::spool::chain::Stamp;
use edge_agent_core::spool::quota::MIN_QUOTA;
use refused::Refused;
use row::{Row, Rows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;
use verona_contract::log::{Record, Stream};

/// How many appends may wait for the writer; more wait at their callers.
const QUEUE: usize = 4096;

/// Gives a record its time. Called by the writer thread at the moment of the append.
pub type StampSource = Box<dyn Fn() -> Stamp + Send>;

/// Why a record was not taken. It is then not in the chain.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The quota is used up, and only what matters more could go.
    #[error("the log spool is full for stream {0}")]
    Full(Stream),
    /// The disk failed.
    #[error("the log spool cannot write: {0}")]
    Disk(String),
    /// The agent is ending.
    #[error("the log spool is closed")]
    Closed,
}

/// A handle to the spool; clones share it.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    appends: mpsc::Sender<Append>,
    written: watch::Receiver<u64>,
}

struct Shared {
    directory: PathBuf,
    quota: u64,
    rows: Mutex<Rows>,
    refused: Mutex<Refused>,
}

impl Shared {
    fn refused(&self) -> MutexGuard<'_, Refused> {
        // Its numbers are changed only after the disk was.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // The rows are changed only after the disk was: a panic elsewhere leaves them true.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One record on its way to the disk, and where to tell its number.
struct Append {
    draft: Draft,
    answer: oneshot::Sender<Result<u64, AppendError>>,
}

/// How full the spool is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Usage {
    /// Octets of all segments.
    pub octets: u64,
    /// Where records begin to be refused.
    pub quota: u64,
    /// Segments set aside because they were damaged.
    pub damaged: usize,
    /// Why the last records were not written; none = they were.
    #[serde(default)]
    pub failure: Option<String>,
    /// Records set aside because the center refuses them, as far as they are still on the disk.
    pub refused: u64,
    /// By stream.
    pub streams: BTreeMap<Stream, StreamUsage>,
}

/// One stream of the spool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamUsage {
    /// Number of the newest record; 0 = none.
    pub last_seq: u64,
    /// Number of the newest record that the center has.
    pub sent_seq: u64,
}

impl Spool {
    /// Opens the spool of `edge` in `directory`, recovers it, and starts the writer thread.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the directory cannot be used or belongs to another edge. Damaged segments are no
    /// error: they are set aside and reported by [`Spool::usage`] and in the log itself.
    pub fn open(directory: PathBuf, edge: Uuid, quota: u64, stamps: StampSource) -> Result<Self, OpenError> {
        store::make_directory(&directory)?;
        let rows = Rows::open(&directory, edge)?;
        let lost = rows.losses();
        let refused = Mutex::new(Refused::open(&directory)?);
        let quota = quota.max(MIN_QUOTA);
        let shared = Arc::new(Shared { directory, quota, rows: Mutex::new(rows), refused });
        let (appends, queue) = mpsc::channel(QUEUE);
        let (progress, written) = watch::channel(0);
        let writer = writer::Writer::new(shared.clone(), stamps, progress);
        let thread = std::thread::Builder::new().name("spool".into()).spawn(move || writer.run(queue, lost));
        thread.map_err(OpenError::Thread)?;
        Ok(Self { shared, appends, written })
    }

    /// Appends one record and returns its number when it is on the disk.
    ///
    /// # Errors
    ///
    /// [`AppendError`]: the record is not in the chain.
    pub async fn append(&self, draft: Draft) -> Result<u64, AppendError> {
        let (answer, answered) = oneshot::channel();
        self.appends.send(Append { draft, answer }).await.map_err(|_| AppendError::Closed)?;
        answered.await.map_err(|_| AppendError::Closed)?
    }

    /// Appends one record without waiting. When the writer cannot keep up or the disk fails, the record is lost
    /// and a warning is traced: whoever must know uses [`Spool::append`].
    pub fn note(&self, draft: Draft) {
        let (answer, _) = oneshot::channel();
        if let Err(error) = self.appends.try_send(Append { draft, answer }) {
            let (mpsc::error::TrySendError::Full(append) | mpsc::error::TrySendError::Closed(append)) = error;
            tracing::warn!(event = append.draft.event, "log record dropped: the spool cannot keep up");
        }
    }

    /// Changes with every group of records that reached the disk.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.clone()
    }

    /// The next records of `stream` that the center does not have, in order, at most about one segment. Reads
    /// the disk: not for an async task.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the segment cannot be read.
    pub fn unsent(&self, stream: Stream) -> Result<Vec<Record>, StoreError> {
        self.beyond(stream, |row| Some(row.sent))
    }

    /// The same of those that the customer's collector does not have; none if it gets none of this stream.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the segment cannot be read.
    pub fn unforwarded(&self, stream: Stream) -> Result<Vec<Record>, StoreError> {
        self.beyond(stream, |row| row.forwarded)
    }

    fn beyond(
        &self,
        stream: Stream,
        cursor: impl Fn(&Row) -> Option<u64>,
    ) -> Result<Vec<Record>, StoreError> {
        let next = || {
            let rows = self.shared.rows();
            let row = rows.row(stream);
            let number = cursor(row)?;
            row.next_beyond(number).map(|(path, length)| (path, length, number))
        };
        loop {
            let Some((path, length, number)) = next() else { return Ok(Vec::new()) };
            match row::read_records(&path, length) {
                Ok(mut records) => {
                    records.retain(|record| record.seq > number);
                    return Ok(records);
                }
                // It has just made room for newer ones, or the other reader was the last that wanted it.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound
                        && next().is_none_or(|next| next.0 != path) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The records of the open segment of `stream` while older ones wait: what happens now. Empty when nothing older
    /// waits. Reads the disk: not for an async task.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the segment cannot be read.
    pub fn live(&self, stream: Stream) -> Result<Vec<Record>, StoreError> {
        let (path, length) = {
            let rows = self.shared.rows();
            let (path, length) = rows.row(stream).open_segment();
            match rows.row(stream).next_beyond(rows.row(stream).sent) {
                Some((oldest, _)) if oldest != path => (path.to_owned(), length),
                _ => return Ok(Vec::new()),
            }
        };
        row::read_records(&path, length)
    }

    /// Notes that the center has the records of `stream` up to `seq`, and deletes segments that are wholly
    /// sent. Writes the disk: not for an async task.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a segment that could not be deleted is found again at the next start.
    pub fn sent(&self, stream: Stream, seq: u64) -> Result<(), StoreError> {
        let (cursors, gone) = {
            let mut rows = self.shared.rows();
            rows.row_mut(stream).sent = seq;
            (rows.cursors(), rows.row_mut(stream).release_sent())
        };
        store::replace(&self.shared.directory.join(row::CURSORS), &cursors)?;
        gone.iter().try_for_each(|path| store::remove(path))
    }

    /// Which streams a customer's collector gets from now on: what it gets is kept until it has it, as long as there is
    /// room. A stream that is new to it begins with what is still here. Writes the disk: not for an async task.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; after a restart the collector then gets some records again.
    pub fn forward(&self, streams: &[Stream]) -> Result<(), StoreError> {
        {
            let mut rows = self.shared.rows();
            for stream in Stream::ALL {
                let row = rows.row_mut(stream);
                row.forwarded = streams.contains(&stream).then(|| row.forwarded.unwrap_or(0));
            }
        }
        self.save_forwarded()
    }

    /// Up to which number the collector has the records of `stream`, 0 = it had none yet; none = it gets none.
    #[must_use]
    pub fn collector_has(&self, stream: Stream) -> Option<u64> {
        self.shared.rows().row(stream).forwarded
    }

    /// Notes that the collector has the records of `stream` up to `seq`. Writes the disk: not for an async task.
    ///
    /// # Errors
    ///
    /// [`StoreError`], as with [`Spool::forward`].
    pub fn forwarded(&self, stream: Stream, seq: u64) -> Result<(), StoreError> {
        let gone = {
            let mut rows = self.shared.rows();
            let row = rows.row_mut(stream);
            row.forwarded = row.forwarded.map(|before| before.max(seq));
            row.release_sent()
        };
        self.save_forwarded()?;
        gone.iter().try_for_each(|path| store::remove(path))
    }

    fn save_forwarded(&self) -> Result<(), StoreError> {
        let path = self.shared.directory.join(row::FORWARDED);
        let cursors = self.shared.rows().forwarded();
        match cursors {
            Some(cursors) => store::replace(&path, &cursors),
            None => store::remove(&path),
        }
    }

    /// Keeps a copy of records that the center refuses. [`Spool::sent`] then lets the others pass: the place in
    /// the chain stays taken, so that the center sees a gap there. Writes the disk: not for an async task.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the records are then still only in their segment.
    pub fn set_aside(&self, records: &[Record], reason: &str) -> Result<(), StoreError> {
        self.shared.refused().keep(records, reason)
    }

    /// The newest `count` records still on the disk, in the order of their times. Reads the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a segment cannot be read.
    pub fn newest(&self, stream: Option<Stream>, count: usize) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        for one in Stream::ALL.into_iter().filter(|one| stream.is_none_or(|wanted| wanted == *one)) {
            // The paths are read without the lock; a segment that was sent and deleted meanwhile is skipped.
            let files = self.shared.rows().row(one).files();
            let mut found: Vec<Record> = Vec::new();
            for (path, length) in files.into_iter().rev() {
                match row::read_records(&path, length) {
                    Ok(mut older) => {
                        older.append(&mut found);
                        found = older;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                if found.len() >= count {
                    break;
                }
            }
            records.extend(found.split_off(found.len().saturating_sub(count)));
        }
        records.sort_by_key(|record| (record.time_ns, record.stream, record.seq));
        Ok(records.split_off(records.len().saturating_sub(count)))
    }

    /// How full it is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let rows = self.shared.rows();
        let stream = |row: &Row| StreamUsage { last_seq: row.head.next_seq - 1, sent_seq: row.sent };
        Usage {
            octets: rows.octets(),
            quota: self.shared.quota,
            damaged: rows.damaged,
            failure: rows.failure.clone(),
            refused: self.shared.refused().count(),
            streams: Stream::ALL.into_iter().map(|one| (one, stream(rows.row(one)))).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
