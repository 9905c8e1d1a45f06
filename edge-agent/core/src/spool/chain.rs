//! The end of one stream's chain: the number and the link that the next record gets.

use crate::journal::Draft;
use uuid::Uuid;
use verona_contract::log::{Hash, Record, Stream};

/// When and where a record is made.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// This edge.
    pub edge: Uuid,
    /// This boot of the box.
    pub boot: Uuid,
    /// Wall clock, Unix nanoseconds.
    pub time_ns: i64,
    /// Monotonic clock of this boot, nanoseconds.
    pub monotonic_ns: u64,
    /// Whether the wall clock is believed.
    pub clock_synced: bool,
}

/// Where a stream's chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of the next record, from 1.
    pub next_seq: u64,
    /// The hash of the last record.
    pub previous: Hash,
}

impl Head {
    /// Before the first record.
    pub const GENESIS: Self = Self { next_seq: 1, previous: Hash::GENESIS };

    /// Gives `draft` its place and moves on.
    pub fn append(&mut self, draft: Draft, stamp: &Stamp) -> Record {
        let record = Record {
            edge: stamp.edge,
            stream: draft.stream,
            seq: self.next_seq,
            boot: stamp.boot,
            time_ns: stamp.time_ns,
            monotonic_ns: stamp.monotonic_ns,
            clock_synced: stamp.clock_synced,
            severity: draft.severity,
            event: draft.event,
            body: draft.body,
            attributes: draft.attributes,
            previous: self.previous,
        };
        self.advance(&record);
        record
    }

    /// Whether `record` is the one that belongs here.
    #[must_use]
    pub fn continues(&self, stream: Stream, edge: Uuid, record: &Record) -> bool {
        record.stream == stream
            && record.edge == edge
            && record.seq == self.next_seq
            && record.previous == self.previous
    }

    /// Moves past `record`.
    pub fn advance(&mut self, record: &Record) {
        // 2^64 records of 300 octets fit on no disk.
        self.next_seq = record.seq.saturating_add(1);
        self.previous = record.hash();
    }
}
