//! The files of the bundle store, each replaced whole, and what is left of them after a crash between any two.
//!
//! `current.json` is in force, `staged.json` was accepted and is on trial, `trial.json` is the ledger of that trial,
//! `mark.json` remembers the newest ever accepted, `barred.json` why the newest is not in force. The order of
//! writing is the store's; [`Found::read`] makes one consistent state of whatever prefix of it reached the disk.

use super::history::Fate;
use crate::store::{self, StoreError};
use edge_agent_core::bundle::{Accepted, Mark, Refusal, Rules};
use edge_agent_core::trial::Ledger;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use verona_contract::config::MAX_ENVELOPE;

/// The longest file besides the envelopes.
const MAX_SMALL: usize = 16 * 1024;

/// Why the newest configuration is not in force, and will not be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Barred {
    pub(super) mark: Mark,
    pub(super) fate: Fate,
    pub(super) reason: String,
}

/// Where they are.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(super) fn staged(&self) -> PathBuf {
        self.directory.join("staged.json")
    }

    pub(super) fn current(&self) -> PathBuf {
        self.directory.join("current.json")
    }

    fn trial(&self) -> PathBuf {
        self.directory.join("trial.json")
    }

    fn barred(&self) -> PathBuf {
        self.directory.join("barred.json")
    }

    pub(super) fn keep_mark(&self, mark: &Mark) -> Result<(), StoreError> {
        keep(&self.directory.join("mark.json"), mark)
    }

    pub(super) fn keep_ledger(&self, ledger: &Ledger) -> Result<(), StoreError> {
        keep(&self.trial(), ledger)
    }

    pub(super) fn keep_barred(&self, barred: &Barred) -> Result<(), StoreError> {
        keep(&self.barred(), barred)
    }

    pub(super) fn forget_trial(&self) -> Result<(), StoreError> {
        store::remove(&self.trial())
    }

    pub(super) fn forget_staged(&self) -> Result<(), StoreError> {
        store::remove(&self.staged())
    }

    pub(super) fn forget_barred(&self) -> Result<(), StoreError> {
        store::remove(&self.barred())
    }

    /// The envelope on trial, as it lies on the disk.
    pub(super) fn read_staged(&self) -> Result<Option<Vec<u8>>, StoreError> {
        store::read_replaceable(&self.staged(), MAX_ENVELOPE)
    }

    fn small<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StoreError> {
        let json = store::read_replaceable(path, MAX_SMALL)?;
        Ok(json.and_then(|json| {
            let read = serde_json::from_slice(&json);
            read.map_err(|error| tracing::error!(path = %path.display(), %error, "file does not read")).ok()
        }))
    }
}

fn keep<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    // Plain data always encodes.
    store::replace(path, &serde_json::to_vec(value).unwrap_or_default())
}

/// What the files say together.
pub(super) struct Found {
    pub(super) mark: Option<Mark>,
    pub(super) current: Option<Arc<Accepted>>,
    pub(super) staged: Option<(Arc<Accepted>, Ledger)>,
    pub(super) barred: Option<Barred>,
}

impl Found {
    /// Reads them and checks the bundles as if they came from the wire. What does not hold is left out and traced:
    /// the center has it.
    pub(super) fn read(files: &Files, rules: &Rules) -> Result<Self, StoreError> {
        let mark: Option<Mark> = files.small(&files.directory.join("mark.json"))?;
        let barred: Option<Barred> = files.small(&files.barred())?;
        let ledger: Option<Ledger> = files.small(&files.trial())?;
        // The one in force may be older than the newest accepted: that one may have been refused later.
        let current = accept(&files.current(), rules, None)?;
        // So may one that a technician went back to.
        let rollback = ledger.as_ref().filter(|ledger| ledger.instead_of.is_some());
        let older = match rollback {
            Some(ledger) => {
                accept(&files.staged(), rules, None)?.filter(|bundle| bundle.config().seq == ledger.seq)
            }
            None => None,
        };
        let staged = match older {
            None => accept(&files.staged(), rules, mark.as_ref())?,
            older => older,
        };
        let newest = [mark, current.as_deref().map(Accepted::mark), staged.as_deref().map(Accepted::mark)];
        let mark = newest.into_iter().flatten().max_by_key(|mark| mark.seq);
        // A crash came between the verdict and its end.
        let ended = |bundle: &Arc<Accepted>| {
            barred.as_ref().is_some_and(|barred| barred.mark == bundle.mark())
                || current.as_ref().is_some_and(|current| current.mark() == bundle.mark())
        };
        let staged = staged.filter(|bundle| !ended(bundle)).map(|bundle| {
            let seq = bundle.config().seq;
            let ledger = match ledger {
                Some(ledger) if ledger.seq == seq => ledger,
                other => Ledger::staged(seq, None, other.as_ref()),
            };
            (bundle, ledger)
        });
        // Going back had just begun, or had just failed.
        let stands = |barred: &Barred| {
            let in_force = current.as_ref().is_some_and(|current| current.mark() == barred.mark);
            !in_force || staged.as_ref().is_some_and(|(_, ledger)| ledger.instead_of.is_some())
        };
        let barred = barred.filter(stands);
        Ok(Self { mark, current, staged, barred })
    }
}

fn accept(path: &Path, rules: &Rules, mark: Option<&Mark>) -> Result<Option<Arc<Accepted>>, StoreError> {
    let Some(envelope) = store::read_replaceable(path, MAX_ENVELOPE)? else { return Ok(None) };
    let accepted = rules.accept(&envelope, mark);
    let refused = |error: &Refusal| tracing::error!(path = %path.display(), %error, "stored bundle");
    Ok(accepted.inspect_err(refused).ok().map(Arc::new))
}
