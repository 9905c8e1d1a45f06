//! Records that the center will never take: set aside, so that the others can pass.
//!
//! `refused.jsonl` gets one JSON object a line with the center's reason and the whole record. A full file
//! becomes `refused.old.jsonl`, in place of the one before: what is kept is bounded, and the newest stays. The
//! files are for a technician, who removes them when he has seen them.

use crate::store::{self, StoreError};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use verona_contract::log::Record;

/// The file that grows.
const NEWEST: &str = "refused.jsonl";

/// The full one.
const OLDER: &str = "refused.old.jsonl";

/// A file of this many octets is full. It may be longer by the records that were set aside together last, which
/// are at most one request's.
const FULL: u64 = 4 * 1024 * 1024;

/// The records set aside.
#[derive(Debug)]
pub(super) struct Refused {
    newest: PathBuf,
    older: PathBuf,
    /// Octets of the newest file.
    octets: u64,
    /// Records in each file.
    counts: (u64, u64),
    /// Whether the newest file ends in half a line, which a crash left.
    torn: bool,
}

impl Refused {
    /// Counts what was set aside before.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let (newest, older) = (directory.join(NEWEST), directory.join(OLDER));
        let read = |path| store::read(path, usize::MAX - 1).map(Option::unwrap_or_default);
        let lines = |text: &[u8]| text.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()).count();
        let text = read(&newest)?;
        let counts = (lines(&text) as u64, lines(&read(&older)?) as u64);
        let torn = text.last().is_some_and(|last| *last != b'\n');
        Ok(Self { newest, older, octets: text.len() as u64, counts, torn })
    }

    /// How many records are kept.
    pub(super) const fn count(&self) -> u64 {
        self.counts.0 + self.counts.1
    }

    /// Keeps `records`, on the disk.
    pub(super) fn keep(&mut self, records: &[Record], reason: &str) -> Result<(), StoreError> {
        if self.octets >= FULL {
            store::rename(&self.newest, &self.older)?;
            (self.octets, self.counts, self.torn) = (0, (0, self.counts.0), false);
        }
        let mut text = Vec::new();
        if self.torn {
            text.push(b'\n');
        }
        for record in records {
            // Plain data always encodes.
            let line = serde_json::json!({ "reason": reason, "record": record });
            text.extend_from_slice(line.to_string().as_bytes());
            text.push(b'\n');
        }
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.newest);
        let written = opened.and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        // Half of it may be there.
        self.torn = written.is_err();
        written.map_err(|error| StoreError::new("write", &self.newest, error))?;
        store::sync_directory(&self.newest)?;
        self.octets += text.len() as u64;
        self.counts.0 += records.len() as u64;
        Ok(())
    }
}
