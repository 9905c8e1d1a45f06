//! The segments of each stream as they lie on the disk: recovery, names, cursors.
//!
//! `audit-00000000000000000001.seg` holds the records of stream audit from number 1. What does not recover is
//! renamed to `….damaged`, its sound records are written anew, and the chain goes on beyond every number that
//! may have been given out.

use crate::store::{self, StoreError};
use edge_agent_core::journal::Draft;
use edge_agent_core::spool::chain::Head;
use edge_agent_core::spool::quota::{self, Holding, Span};
use edge_agent_core::spool::segment::{self, End, HEADER, Header, MIN_FRAME, ROTATE_AT};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use uuid::Uuid;
use verona_contract::log::{GAP, Record, Severity, Stream};

/// Longest file that is read: a segment is rotated long before.
const MAX_FILE: usize = 64 * 1024 * 1024;

/// Where the center's progress is remembered. Losing it costs sending some records again.
pub(super) const CURSORS: &str = "sent.json";

/// The same of the customer's collector.
pub(super) const FORWARDED: &str = "forwarded.json";

/// Octets of one stream that the center has and the collector does not, before the oldest go: a collector that is away
/// takes no room from records that nobody has.
const WAITING: u64 = 4 * ROTATE_AT;

/// Why the spool cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records are another edge's; mixing them would break both chains.
    #[error("spool {path} belongs to edge {found}, this is edge {ours}: move it away")]
    OtherEdge {
        /// Which segment.
        path: PathBuf,
        /// In the segment.
        found: Uuid,
        /// This one.
        ours: Uuid,
    },
    /// No thread.
    #[error("cannot start the spool's writer thread")]
    Thread(#[source] std::io::Error),
}

/// One segment.
#[derive(Clone, Debug)]
struct Segment {
    path: PathBuf,
    span: Span,
    length: u64,
}

/// The segments of one stream, oldest first. The last one is open for appending.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) stream: Stream,
    pub(super) edge: Uuid,
    pub(super) head: Head,
    /// The center has the records up to this number.
    pub(super) sent: u64,
    /// So has the customer's collector; none = there is none.
    pub(super) forwarded: Option<u64>,
    segments: Vec<Segment>,
    lost: Vec<RangeInclusive<u64>>,
}

/// All rows.
#[derive(Debug)]
pub(super) struct Rows {
    rows: [Row; 4],
    /// Files set aside, now and before.
    pub(super) damaged: usize,
    /// Why the last group was not written; none = it was.
    pub(super) failure: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Cursors(BTreeMap<Stream, u64>);

impl Rows {
    pub(super) fn open(directory: &Path, edge: Uuid) -> Result<Self, OpenError> {
        let names = list(directory)?;
        // A cursor that does not read only means that some records are sent twice, which the center sees.
        let cursors = store::read_replaceable(&directory.join(CURSORS), 4096)?.unwrap_or_default();
        let cursors: Cursors = serde_json::from_slice(&cursors).unwrap_or_default();
        let forwarded = store::read_replaceable(&directory.join(FORWARDED), 4096)?;
        let forwarded = forwarded.map(|json| serde_json::from_slice::<Cursors>(&json).unwrap_or_default());
        let open = |stream| {
            let mut row = Row::open(directory, edge, stream, &names, &cursors)?;
            row.forwarded = forwarded.as_ref().and_then(|cursors| cursors.0.get(&stream)).copied();
            Ok::<_, OpenError>(row)
        };
        let [flow, system, auth, audit] = Stream::ALL;
        let rows = [open(flow)?, open(system)?, open(auth)?, open(audit)?];
        let damaged = list(directory)?.iter().filter(|name| name.ends_with(".damaged")).count();
        Ok(Self { rows, damaged, failure: None })
    }

    pub(super) fn row(&self, stream: Stream) -> &Row {
        &self.rows[stream as usize]
    }

    pub(super) fn row_mut(&mut self, stream: Stream) -> &mut Row {
        &mut self.rows[stream as usize]
    }

    pub(super) fn octets(&self) -> u64 {
        self.rows.iter().flat_map(|row| &row.segments).map(|segment| segment.length).sum()
    }

    /// The cursors as they lie on the disk.
    pub(super) fn cursors(&self) -> Vec<u8> {
        let cursors = Cursors(self.rows.iter().map(|row| (row.stream, row.sent)).collect());
        // A map of numbers always encodes.
        serde_json::to_vec(&cursors).unwrap_or_default()
    }

    /// The collector's, of the streams that it gets; none = it gets none.
    pub(super) fn forwarded(&self) -> Option<Vec<u8>> {
        let got = self.rows.iter().filter_map(|row| Some((row.stream, row.forwarded?)));
        let cursors = Cursors(got.collect());
        (!cursors.0.is_empty()).then(|| serde_json::to_vec(&cursors).unwrap_or_default())
    }

    /// What each stream holds.
    pub(super) fn holdings(&self) -> [Holding; 4] {
        self.rows.each_ref().map(|row| Holding {
            octets: row.segments.iter().map(|segment| segment.length).sum(),
            closed: row.segments.len() > 1,
        })
    }

    /// A record for each range of numbers that damage has cost.
    pub(super) fn losses(&self) -> Vec<Draft> {
        let told = |row: &Row| {
            let stream = row.stream;
            let lost = row.lost.iter();
            lost.map(|range| gap(stream, range, "damaged", "are lost or never were: damaged segment"))
                .collect()
        };
        self.rows.iter().flat_map(|row| -> Vec<Draft> { told(row) }).collect()
    }
}

/// Says which numbers of `stream` the center will not see.
pub(super) fn gap(stream: Stream, lost: &RangeInclusive<u64>, reason: &str, words: &str) -> Draft {
    let (from, to) = (lost.start(), lost.end());
    Draft::new(stream, GAP, format!("records {from} to {to} {words}"))
        .severity(Severity::Error)
        .with("from", from)
        .with("to", to)
        .with("count", to - from + 1)
        .with("reason", reason)
}

fn list(directory: &Path) -> Result<Vec<String>, StoreError> {
    let fail = |error| StoreError::new("list", directory, error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        names.extend(entry.map_err(fail)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

impl Row {
    fn open(
        directory: &Path,
        edge: Uuid,
        stream: Stream,
        names: &[String],
        cursors: &Cursors,
    ) -> Result<Self, OpenError> {
        let sent = cursors.0.get(&stream).copied().unwrap_or(0);
        let mut row = Self {
            stream,
            edge,
            head: Head::GENESIS,
            sent,
            forwarded: None,
            segments: Vec::new(),
            lost: Vec::new(),
        };
        // Set while the row ends in damage: the first number that certainly never was.
        let mut resume_at = None;
        let prefix = format!("{stream}-");
        for name in names.iter().filter(|name| name.starts_with(&prefix) && name.ends_with(".seg")) {
            row.take(&directory.join(name), &mut resume_at)?;
        }
        if let Some(resume_at) = resume_at {
            row.lost.push(row.head.next_seq..=resume_at - 1);
            row.head.next_seq = resume_at;
        }
        if row.segments.is_empty() {
            // All is lost: nothing that the center has may be given out again.
            row.head.next_seq = row.head.next_seq.max(row.sent.saturating_add(1));
        }
        if row.segments.is_empty() || resume_at.is_some() {
            row.begin(directory)?;
        }
        // A cursor beyond the end is of a spool that was lost.
        row.sent = row.sent.min(row.head.next_seq - 1);
        Ok(row)
    }

    /// Recovers one segment.
    fn take(&mut self, path: &Path, resume_at: &mut Option<u64>) -> Result<(), OpenError> {
        let file = store::read(path, MAX_FILE)?.unwrap_or_default();
        let Ok(found) = segment::recover(&file) else {
            set_aside(path)?;
            let most = (file.len() / MIN_FRAME) as u64 + 1;
            let first = first_of(path).max(self.head.next_seq).max(resume_at.unwrap_or(0));
            *resume_at = Some(first.saturating_add(most));
            return Ok(());
        };
        if found.header.edge != self.edge {
            let found = found.header.edge;
            return Err(OpenError::OtherEdge { path: path.to_owned(), found, ours: self.edge });
        }
        let first = found.header.head.next_seq;
        // The segment after a damaged one tells where that one really ended.
        if resume_at.take().is_some() && first > self.head.next_seq {
            self.lost.push(self.head.next_seq..=first - 1);
        }
        match found.end {
            End::Clean => {}
            End::Torn => cut(path, found.length)?,
            End::Damaged { resume_at: bound } => {
                set_aside(path)?;
                store::replace(path, &file[..found.length])?;
                *resume_at = Some(bound);
            }
        }
        let span = Span { first, last: found.head.next_seq - 1 };
        self.segments.push(Segment { path: path.to_owned(), span, length: found.length as u64 });
        self.head = found.head;
        Ok(())
    }

    /// Begins a new segment at the head.
    pub(super) fn begin(&mut self, directory: &Path) -> Result<(), StoreError> {
        let first = self.head.next_seq;
        let path = directory.join(format!("{}-{first:020}.seg", self.stream));
        let header = Header { edge: self.edge, stream: self.stream, head: self.head };
        store::replace(&path, &header.encode())?;
        self.segments.push(Segment { path, span: Span { first, last: first - 1 }, length: HEADER as u64 });
        Ok(())
    }

    /// The open segment: its file and how much of it counts.
    pub(super) fn open_segment(&self) -> (&Path, u64) {
        // `open` leaves at least one, and `release_sent` keeps the newest.
        self.segments.last().map_or((Path::new(""), 0), |segment| (segment.path.as_path(), segment.length))
    }

    /// Notes what has just reached the disk.
    pub(super) fn grow(&mut self, head: Head, length: u64) {
        self.head = head;
        if let Some(segment) = self.segments.last_mut() {
            segment.span.last = head.next_seq - 1;
            segment.length = length;
        }
    }

    /// The segment with the first record beyond `number`, and how much of it counts.
    pub(super) fn next_beyond(&self, number: u64) -> Option<(PathBuf, u64)> {
        let spans: Vec<Span> = self.segments.iter().map(|segment| segment.span).collect();
        let segment = &self.segments[quota::next_unsent(&spans, number)?];
        Some((segment.path.clone(), segment.length))
    }

    pub(super) fn files(&self) -> Vec<(PathBuf, u64)> {
        self.segments.iter().map(|segment| (segment.path.clone(), segment.length)).collect()
    }

    /// The oldest segment, if it is not the open one: its file, and the numbers up to its end that the center does not
    /// have. Also those before it: the record that told of them may go with it.
    pub(super) fn oldest(&self) -> Option<(PathBuf, RangeInclusive<u64>)> {
        let segment = self.segments.first().filter(|_| self.segments.len() > 1)?;
        Some((segment.path.clone(), self.sent + 1..=segment.span.last))
    }

    /// Forgets the segment at `path`.
    pub(super) fn forget(&mut self, path: &Path) {
        self.segments.retain(|segment| segment.path != path);
    }

    /// Forgets the segments that whoever wants them has, and tells their files.
    pub(super) fn release_sent(&mut self) -> Vec<PathBuf> {
        let spans: Vec<Span> = self.segments.iter().map(|segment| segment.span).collect();
        let sent = quota::deletable(&spans, self.sent);
        let both = self.forwarded.map_or(sent, |number| sent.min(quota::deletable(&spans, number)));
        let mut waiting: u64 = self.segments[both..sent].iter().map(|segment| segment.length).sum();
        let mut count = both;
        while waiting > WAITING {
            waiting -= self.segments[count].length;
            count += 1;
        }
        self.segments.drain(..count).map(|segment| segment.path).collect()
    }
}

/// The number in a segment's name.
fn first_of(path: &Path) -> u64 {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The records of the first `length` octets of a segment: what is durable.
pub(super) fn read_records(path: &Path, length: u64) -> Result<Vec<Record>, StoreError> {
    let unreadable = |rule: &str| {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, rule.to_owned());
        StoreError::new("read", path, error)
    };
    let absent = || StoreError::new("read", path, std::io::ErrorKind::NotFound.into());
    let file = store::read(path, MAX_FILE)?.ok_or_else(absent)?;
    let durable = usize::try_from(length).ok().and_then(|length| file.get(..length));
    let found = segment::recover(durable.ok_or_else(|| unreadable("shorter than it was"))?);
    Ok(found.map_err(|error| unreadable(&error.to_string()))?.records)
}

/// Cuts a torn write off.
fn cut(path: &Path, length: usize) -> Result<(), StoreError> {
    let cut = std::fs::OpenOptions::new().write(true).open(path).and_then(|file| {
        file.set_len(length as u64)?;
        file.sync_all()
    });
    cut.map_err(|error| StoreError::new("cut the torn end off", path, error))
}

fn set_aside(path: &Path) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".damaged");
    let aside = path.with_file_name(name);
    tracing::error!(path = %aside.display(), "damaged log segment set aside");
    store::rename(path, &aside)
}
