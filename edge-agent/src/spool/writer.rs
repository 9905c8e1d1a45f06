//! The one thread that writes the spool: takes all appends that wait, writes them, syncs once, answers all.
//!
//! A record is in the chain only when its fsync succeeded. When a write fails, the file is cut back to what
//! was durable before and the appenders are told, so that the next attempt begins from a sound end.

use super::{Append, AppendError, Shared, StampSource, row};
use crate::center::chain;
use crate::store::{self, StoreError};
use edge_agent_core::journal::Draft;
use edge_agent_core::spool::quota::{self, Room};
use edge_agent_core::spool::segment::{self, ROTATE_AT};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use verona_contract::log::Stream;

/// Most records under one fsync: bounds how long the first of them waits.
const MAX_GROUP: usize = 1024;

pub(super) struct Writer {
    shared: Arc<Shared>,
    stamps: StampSource,
    progress: watch::Sender<u64>,
    /// The open segment of each stream.
    files: [Option<(PathBuf, File)>; 4],
}

type Waiting = Vec<(u64, oneshot::Sender<Result<u64, AppendError>>)>;

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, stamps: StampSource, progress: watch::Sender<u64>) -> Self {
        Self { shared, stamps, progress, files: [None, None, None, None] }
    }

    /// Runs until every handle to the spool is gone. `first` goes before all else.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Append>, first: Vec<Draft>) {
        let unheard = |draft| Append { draft, answer: oneshot::channel().0 };
        self.write(first.into_iter().map(unheard).collect());
        let mut group = Vec::new();
        while queue.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
            self.write(std::mem::take(&mut group));
        }
    }

    fn write(&mut self, group: Vec<Append>) {
        let mut by_stream: [Vec<Append>; 4] = Default::default();
        for append in group {
            by_stream[append.draft.stream as usize].push(append);
        }
        for (stream, appends) in Stream::ALL.into_iter().zip(by_stream) {
            if !appends.is_empty() {
                self.write_stream(stream, appends);
            }
        }
        self.progress.send_modify(|groups| *groups += 1);
    }

    fn write_stream(&mut self, stream: Stream, appends: Vec<Append>) {
        if !self.make_room(stream, appends.iter().map(|append| estimate(&append.draft)).sum()) {
            for Append { answer, .. } in appends {
                // Who does not wait is not told.
                let _ = answer.send(Err(AppendError::Full(stream)));
            }
            return;
        }
        let (mut head, length) = {
            let rows = self.shared.rows();
            (rows.row(stream).head, rows.row(stream).open_segment().1)
        };
        let mut frames = Vec::new();
        let mut waiting: Waiting = Vec::new();
        for Append { draft, answer } in appends {
            let before = head;
            let record = head.append(draft, &(self.stamps)());
            match segment::encode(&record, &mut frames) {
                Err(error) => {
                    head = before;
                    let _ = answer.send(Err(AppendError::Disk(error.to_string())));
                }
                Ok(()) => waiting.push((record.seq, answer)),
            }
        }
        let failure = self.commit(stream, length, &frames).err().map(|error| chain(&error));
        self.shared.rows().failure.clone_from(&failure);
        if let Some(error) = failure {
            tracing::error!(stream = stream.as_str(), error, "log spool cannot write");
            for (_, answer) in waiting {
                let _ = answer.send(Err(AppendError::Disk(error.clone())));
            }
            return;
        }
        let length = length + frames.len() as u64;
        self.shared.rows().row_mut(stream).grow(head, length);
        for (seq, answer) in waiting {
            let _ = answer.send(Ok(seq));
        }
        if length >= ROTATE_AT {
            self.rotate(stream);
        }
    }

    /// Lets the oldest and least important records go until `length` octets of `stream` fit. False when only what
    /// matters more could go, or the disk fails.
    fn make_room(&mut self, stream: Stream, length: u64) -> bool {
        loop {
            let holdings = self.shared.rows().holdings();
            match quota::room(stream, length, &holdings, self.shared.quota) {
                Room::Fits => return true,
                Room::Full => return false,
                Room::Drop(victim) => {
                    if let Err(error) = self.drop_oldest(victim) {
                        tracing::error!(stream = victim.as_str(), error = %error, "log spool cannot make room");
                        return false;
                    }
                }
            }
        }
    }

    /// First it is told, then it goes: a crash in between leaves records that were declared missing, never missing
    /// ones that nobody declared.
    fn drop_oldest(&mut self, stream: Stream) -> Result<(), StoreError> {
        let Some((path, lost)) = self.shared.rows().row(stream).oldest() else { return Ok(()) };
        if !lost.is_empty() {
            let draft = row::gap(stream, &lost, "full", "went to make room: the log spool is full");
            let (mut head, length) = {
                let rows = self.shared.rows();
                (rows.row(stream).head, rows.row(stream).open_segment().1)
            };
            let mut frame = Vec::new();
            let record = head.append(draft, &(self.stamps)());
            // It is short: it encodes.
            if segment::encode(&record, &mut frame).is_ok() {
                self.commit(stream, length, &frame)?;
                self.shared.rows().row_mut(stream).grow(head, length + frame.len() as u64);
            }
            tracing::warn!(
                stream = stream.as_str(),
                from = lost.start(),
                to = lost.end(),
                "log records dropped"
            );
        }
        self.shared.rows().row_mut(stream).forget(&path);
        store::remove(&path)
    }

    /// Writes `frames` at `length` and makes them last.
    fn commit(&mut self, stream: Stream, length: u64, frames: &[u8]) -> Result<(), StoreError> {
        if frames.is_empty() {
            return Ok(());
        }
        let (path, file) = self.open(stream)?;
        let written = file.write_all_at(frames, length).and_then(|()| file.sync_data());
        written.map_err(|error| {
            // Recovery would take a half-written frame for a torn write, but a whole one for a record that
            // its appender was told does not exist.
            let _ = file.set_len(length).and_then(|()| file.sync_data());
            StoreError::new("write", path, error)
        })
    }

    /// The segment that is open for appending now.
    fn open(&mut self, stream: Stream) -> Result<(&Path, &File), StoreError> {
        let path = self.shared.rows().row(stream).open_segment().0.to_owned();
        let slot = &mut self.files[stream as usize];
        let file = match slot.take() {
            Some((open, file)) if open == path => file,
            _ => {
                let opened = OpenOptions::new().write(true).open(&path);
                opened.map_err(|error| StoreError::new("open", &path, error))?
            }
        };
        let (path, file) = slot.insert((path, file));
        Ok((path, file))
    }

    /// Closes the segment and begins the next. When that fails the old one grows on, and it is tried again.
    fn rotate(&self, stream: Stream) {
        if let Err(error) = self.shared.rows().row_mut(stream).begin(&self.shared.directory) {
            tracing::error!(error = %error, "cannot begin a log segment");
        }
    }
}

/// Octets that a record of `draft` takes on the disk, rather more than less: JSON escapes little of what is usual.
fn estimate(draft: &Draft) -> u64 {
    let attributes = draft.attributes.iter().map(|(key, value)| key.len() + value.len() + 8).sum::<usize>();
    (draft.body.len() + draft.event.len() + attributes + 600) as u64
}
