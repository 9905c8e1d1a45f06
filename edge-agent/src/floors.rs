//! Timestamp floors on the disk, so that a recorded initiation stays old after a restart of tunnel or box.
//!
//! They are appended in batches, not once per handshake: a power cut may lose [`SAVE_EVERY`] of them, a tunnel
//! that dies alone only what it proved since it was asked last. Such an initiation would be answered once more, by a
//! message that is of no use without the client's key. The file is written anew when most of it is outdated.

use crate::center::chain;
use crate::store::{self, StoreError};
use edge_agent_core::floors::{self, Floors, RECORD};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use verona_contract::control::{Floor, MAX_FLOORS};

/// The least time between two writes. Shorter wears the flash, longer makes a power cut forget more.
pub const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Outdated records that are kept before the file is written anew.
const SLACK: usize = 8192;

/// Twice as many records as floors, and the slack.
const MAX_FILE: usize = (2 * MAX_FLOORS + SLACK) * RECORD + 4096;

/// See the module's head.
pub struct KnownFloors {
    path: PathBuf,
    floors: Floors,
    unsaved: Vec<Floor>,
    /// Records in the file; none when it must be written anew.
    records: Option<usize>,
    saved: Instant,
}

impl KnownFloors {
    /// Reads the file. What does not read of it is reported and left out.
    #[must_use]
    pub fn load(path: PathBuf) -> Self {
        let octets = store::read(&path, MAX_FILE).unwrap_or_else(|error| {
            tracing::error!(error = chain(&error), "timestamp floors do not read");
            Some(vec![0])
        });
        let octets = octets.unwrap_or_default();
        let (floors, sound) = floors::decode(&octets);
        if !sound {
            tracing::warn!(path = %path.display(), kept = floors.len(), "timestamp floors are damaged in part");
        }
        let records = sound.then_some(octets.len() / RECORD);
        Self { path, floors, unsaved: Vec::new(), records, saved: Instant::now() }
    }

    /// Takes what the tunnel told.
    pub fn take(&mut self, floors: &[Floor]) {
        for floor in floors {
            if self.floors.raise(floor) {
                self.unsaved.push(*floor);
            }
        }
    }

    /// For a tunnel that has none.
    #[must_use]
    pub fn list(&self) -> Vec<Floor> {
        self.floors.iter().collect()
    }

    /// Writes what has changed, when the last time is long enough ago. A failure is logged, and the whole file is
    /// written next time.
    pub async fn save(&mut self) {
        if self.unsaved.is_empty() || self.saved.elapsed() < SAVE_EVERY {
            return;
        }
        self.save_now().await;
    }

    async fn save_now(&mut self) {
        self.saved = Instant::now();
        let appended = self.records.map(|records| records + self.unsaved.len());
        let appended = appended.filter(|records| *records <= 2 * self.floors.len() + SLACK);
        let content: Vec<Floor> = match appended {
            Some(_) => std::mem::take(&mut self.unsaved),
            None => self.list(),
        };
        self.unsaved.clear();
        let (path, records) = (self.path.clone(), content.len());
        let written = tokio::task::spawn_blocking(move || {
            let mut octets = Vec::with_capacity(content.len() * RECORD);
            content.iter().for_each(|floor| floors::encode(floor, &mut octets));
            if appended.is_some() { append(&path, &octets) } else { store::replace(&path, &octets) }
        });
        self.records = match written.await {
            Ok(Ok(())) => Some(appended.unwrap_or(records)),
            Ok(Err(error)) => {
                tracing::error!(error = chain(&error), "timestamp floors are not on the disk");
                None
            }
            Err(_) => None,
        };
    }
}

fn append(path: &Path, octets: &[u8]) -> Result<(), StoreError> {
    if !path.exists() {
        return store::replace(path, octets);
    }
    let file = OpenOptions::new().append(true).mode(0o600).open(path);
    let mut file = file.map_err(|error| StoreError::new("open", path, error))?;
    let written = file.write_all(octets).and_then(|()| file.sync_data());
    written.map_err(|error| StoreError::new("append to", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use verona_contract::control::Tai64n;
    use verona_contract::key::Secret;

    fn floor(key: u8, timestamp: u8) -> Floor {
        let key = Secret::new([key; 32]).x25519_public().unwrap();
        Floor { key, timestamp: Tai64n([timestamp; 12]) }
    }

    #[tokio::test]
    async fn they_survive_a_restart_and_damage_costs_little() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("floors");
        let mut known = KnownFloors::load(path.clone());
        known.take(&[floor(1, 1), floor(2, 1)]);
        known.save().await;
        assert!(!path.exists(), "not a write for each handshake");
        known.save_now().await;
        known.take(&[floor(1, 2), floor(1, 1)]);
        known.save_now().await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 3 * RECORD as u64, "appended");
        assert_eq!(KnownFloors::load(path.clone()).list(), [floor(2, 1), floor(1, 2)]);

        // A torn end is cut off before something follows it.
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 7]).unwrap();
        let mut known = KnownFloors::load(path.clone());
        assert_eq!(known.list(), [floor(1, 1), floor(2, 1)]);
        known.take(&[floor(3, 1)]);
        known.save_now().await;
        assert_eq!(KnownFloors::load(path.clone()).list(), [floor(1, 1), floor(2, 1), floor(3, 1)]);

        std::fs::write(&path, vec![7; MAX_FILE + 1]).unwrap();
        let mut known = KnownFloors::load(path.clone());
        assert_eq!(known.list(), [], "too long");
        known.take(&[floor(4, 1)]);
        known.save_now().await;
        assert_eq!(KnownFloors::load(path).list(), [floor(4, 1)]);
    }

    #[tokio::test]
    async fn the_file_does_not_grow_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("floors");
        let mut known = KnownFloors::load(path.clone());
        let mut longest = 0;
        for round in 0..3u32 {
            for step in 0..SLACK as u32 {
                let mut label = [0; 12];
                label[..4].copy_from_slice(&(round * SLACK as u32 + step + 1).to_be_bytes());
                known.take(&[Floor { timestamp: Tai64n(label), ..floor(1, 0) }]);
            }
            known.save_now().await;
            longest = longest.max(std::fs::metadata(&path).unwrap().len());
        }
        assert!(longest <= ((SLACK + 2) * RECORD) as u64, "{longest}");
        assert_eq!(KnownFloors::load(path).list(), known.list());
    }
}
