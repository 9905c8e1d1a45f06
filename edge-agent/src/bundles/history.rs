//! The configurations that were in force or on trial, the newest twenty: `config/history/<seq>.rev`.
//!
//! The first line of a file says in JSON what became of it, the rest is the envelope as it came. They are for
//! people and for going back; nothing else depends on them, so one that does not read is passed over.

use crate::store::{self, StoreError};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use verona_contract::config::MAX_ENVELOPE;

/// How many are kept.
const KEPT: usize = 20;

/// How many octets they may take together; the newest two stay in any case.
const MAX_OCTETS: u64 = 256 * 1024 * 1024;

/// The longest first line.
const MAX_LINE: usize = 16 * 1024;

/// What became of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// What worked before it worked with it.
    Confirmed,
    /// It was refused before it was in force.
    Refused,
    /// What worked before did not, or a technician ended its trial.
    Reverted,
    /// It was in force, and a technician went back to an older one.
    RolledBack,
}

/// One configuration of the past, or the one in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Its number.
    pub seq: u64,
    /// What became of it.
    pub fate: Fate,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// When, Unix seconds.
    pub at: i64,
}

/// The folder.
#[derive(Debug)]
pub(super) struct History {
    directory: PathBuf,
}

impl History {
    /// A disk that has no room for the folder has none for revisions: that is told when one is to be kept.
    pub(super) fn open(directory: PathBuf) -> Self {
        if let Err(error) = store::make_directory(&directory) {
            tracing::error!(error = crate::center::chain(&error), "history of configurations");
        }
        Self { directory }
    }

    /// Keeps what became of a configuration, in place of what was kept of it before.
    pub(super) fn note(&self, revision: &Revision, envelope: &[u8]) -> Result<(), StoreError> {
        // Plain data always encodes.
        let mut content = serde_json::to_vec(revision).unwrap_or_default();
        content.push(b'\n');
        content.extend_from_slice(envelope);
        store::replace(&self.path(revision.seq), &content)?;
        self.prune()
    }

    /// The newest first.
    pub(super) fn list(&self) -> Result<Vec<Revision>, StoreError> {
        let files = self.files()?;
        Ok(files.iter().rev().filter_map(|(path, _)| read_line(path)).collect())
    }

    /// The envelope of a configuration; none when it is not kept.
    pub(super) fn envelope(&self, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let content = store::read_replaceable(&self.path(seq), MAX_ENVELOPE + MAX_LINE)?;
        Ok(content.and_then(|mut content| {
            let end = content.iter().position(|octet| *octet == b'\n')?;
            content.drain(..=end);
            Some(content)
        }))
    }

    fn prune(&self) -> Result<(), StoreError> {
        let mut octets = 0;
        for (count, (path, length)) in self.files()?.into_iter().rev().enumerate() {
            octets += length;
            if count >= KEPT || (count >= 2 && octets > MAX_OCTETS) {
                store::remove(&path)?;
            }
        }
        Ok(())
    }

    /// In the order of their numbers, with their lengths.
    fn files(&self) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        let fail = |error| StoreError::new("list", &self.directory, error);
        let mut files = Vec::new();
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(files),
            entries => entries.map_err(fail)?,
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let length = entry.metadata().map_or(0, |metadata| metadata.len());
            files.push((entry.path(), length));
        }
        files.retain(|(path, _)| path.extension().is_some_and(|extension| extension == "rev"));
        files.sort();
        Ok(files)
    }

    fn path(&self, seq: u64) -> PathBuf {
        self.directory.join(format!("{seq:020}.rev"))
    }
}

fn read_line(path: &Path) -> Option<Revision> {
    let mut line = Vec::new();
    let file = BufReader::new(File::open(path).ok()?);
    file.take(MAX_LINE as u64).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(seq: u64) -> Revision {
        Revision { seq, fate: Fate::Confirmed, reason: None, at: 1 }
    }

    #[test]
    fn the_newest_twenty_stay_and_garbage_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let history = History::open(directory.path().join("history"));
        for seq in 1..=25 {
            history.note(&revision(seq), format!("envelope\n{seq}").as_bytes()).unwrap();
        }
        let kept: Vec<u64> = history.list().unwrap().iter().map(|one| one.seq).collect();
        assert_eq!(kept, (6..=25).rev().collect::<Vec<u64>>());
        assert_eq!(history.envelope(7).unwrap().unwrap(), b"envelope\n7");
        assert_eq!(history.envelope(5).unwrap(), None);
        let reverted = Revision { fate: Fate::Reverted, reason: Some("center".into()), ..revision(25) };
        history.note(&reverted, b"e").unwrap();
        assert_eq!(history.list().unwrap()[0], reverted, "one entry for each number");
        std::fs::write(history.path(24), b"garbage").unwrap();
        assert_eq!(history.list().unwrap().len(), 19);
        assert_eq!(history.envelope(24).unwrap(), None);
    }
}
