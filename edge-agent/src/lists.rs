//! Revocation lists: on the disk, in memory, and from the center by one long-poll for each issuer.
//!
//! All of this runs on the revocation runtime, which nothing else shares. A new list goes to the tunnel at once
//! and to the disk at the same time ([`crate::revocation`]); it is acknowledged when both have it.

use crate::center::{Caller, chain};
use crate::https::Request;
use crate::spool::Spool;
use crate::store::{self, StoreError};
use edge_agent_core::journal::Draft;
use edge_agent_core::revocation::{Marks, Refusal};
use hyper::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use verona_contract::api::{CRL, MAX_WAIT_S};
use verona_contract::base64::Octets;
use verona_contract::cert::Issuer;
use verona_contract::crl::{MAX_CRL, VerifiedCrl};
use verona_contract::key::KeyId;
use verona_contract::log::{Severity, Stream};

/// For the wait and the transfer of the longest list over a slow line; a dead line is noticed by keepalive.
const ANSWER_LIMIT: Duration = Duration::from_secs(MAX_WAIT_S + 120);

/// Marks of a thousand issuers.
const MAX_MARKS: usize = 1024 * 1024;

/// A list that was accepted.
pub struct Held {
    /// Whose.
    pub issuer: KeyId,
    /// cRLNumber.
    pub number: u64,
    /// thisUpdate, Unix seconds.
    pub this_update: i64,
    /// nextUpdate, Unix seconds.
    pub next_update: i64,
    /// How many entries it has.
    pub entries: usize,
    /// As the issuer signed it.
    pub der: Octets,
    /// Turns true when the attempt to write it to the disk is over.
    pub stored: watch::Sender<bool>,
}

/// What is told of a list to people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeldInfo {
    /// Whose.
    pub issuer: KeyId,
    /// cRLNumber.
    pub number: u64,
    /// thisUpdate, Unix seconds.
    pub this_update: i64,
    /// nextUpdate, Unix seconds.
    pub next_update: i64,
    /// Entries.
    pub entries: usize,
}

/// All lists.
pub struct Lists {
    directory: PathBuf,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    /// Held while files are written: the marks are one file for all issuers.
    files: Mutex<()>,
}

#[derive(Default)]
struct State {
    marks: Marks,
    held: BTreeMap<KeyId, Arc<Held>>,
    refused: BTreeMap<KeyId, String>,
}

impl Lists {
    /// Reads the marks.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the disk fails. Marks that do not read are traced; the stored lists still stand.
    pub fn load(directory: PathBuf) -> Result<Self, StoreError> {
        store::make_directory(&directory)?;
        let marks = store::read_replaceable(&directory.join("marks.json"), MAX_MARKS)?.map(|json| {
            serde_json::from_slice(&json).unwrap_or_else(|error| {
                tracing::error!(%error, "marks of the revocation lists do not read");
                Marks::default()
            })
        });
        let state = State { marks: marks.unwrap_or_default(), ..State::default() };
        Ok(Self {
            directory,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            files: Mutex::new(()),
        })
    }

    /// Reads the stored list of `issuer`, unless one is held already. One that does not hold is traced and
    /// left out: the center has it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the disk fails.
    pub fn restore(&self, issuer: &Issuer) -> Result<(), StoreError> {
        if self.held(&issuer.key_id).is_some() {
            return Ok(());
        }
        let path = self.path(&issuer.key_id);
        let Some(der) = store::read_replaceable(&path, MAX_CRL)? else { return Ok(()) };
        match self.accept(&issuer.key_id, &der, std::slice::from_ref(issuer)) {
            Ok(list) => {
                self.hold(&list, der).stored.send_replace(true);
            }
            Err(error) => tracing::error!(path = %path.display(), %error, "stored revocation list"),
        }
        Ok(())
    }

    /// The list of `issuer` that is held.
    #[must_use]
    pub fn held(&self, issuer: &KeyId) -> Option<Arc<Held>> {
        self.state().held.get(issuer).cloned()
    }

    /// All lists held, for people.
    #[must_use]
    pub fn infos(&self) -> Vec<HeldInfo> {
        let info = |held: &Arc<Held>| HeldInfo {
            issuer: held.issuer.clone(),
            number: held.number,
            this_update: held.this_update,
            next_update: held.next_update,
            entries: held.entries,
        };
        self.state().held.values().map(info).collect()
    }

    /// Why the newest list of an issuer was refused.
    #[must_use]
    pub fn refused(&self) -> Vec<(KeyId, String)> {
        self.state().refused.clone().into_iter().collect()
    }

    /// Changes with every list.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn accept(&self, asked: &KeyId, der: &[u8], issuers: &[Issuer]) -> Result<VerifiedCrl, Refusal> {
        // Verifying takes half a second for a million entries: not under the lock.
        let marks = self.state().marks.clone();
        marks.accept(asked, der, issuers)
    }

    /// Takes an accepted list into memory and wakes the link to the tunnel.
    fn hold(&self, list: &VerifiedCrl, der: Vec<u8>) -> Arc<Held> {
        let held = Arc::new(Held {
            issuer: list.issuer().clone(),
            number: list.number(),
            this_update: list.this_update(),
            next_update: list.next_update(),
            entries: list.revoked().len(),
            der: Octets(der),
            stored: watch::Sender::new(false),
        });
        {
            let mut state = self.state();
            state.marks.remember(list);
            state.refused.remove(list.issuer());
            state.held.insert(list.issuer().clone(), held.clone());
        }
        self.changed.send_modify(|generation| *generation += 1);
        held
    }

    /// Writes a list and the marks.
    fn save(&self, held: &Held) -> Result<(), StoreError> {
        store::replace(&self.path(&held.issuer), held.der.as_ref())?;
        // It guards an order, no data. The marks are read under it, so the newest are written last.
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // Plain data always encodes.
        let marks = serde_json::to_vec(&self.state().marks).unwrap_or_default();
        store::replace(&self.directory.join("marks.json"), &marks)
    }

    fn path(&self, issuer: &KeyId) -> PathBuf {
        self.directory.join(format!("{issuer}.der"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain values: a panic elsewhere cannot leave them half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows one issuer's list, for ever.
pub async fn follow(lists: Arc<Lists>, issuer: Issuer, mut caller: Caller, journal: Spool) {
    let path = format!("{CRL}{}", issuer.key_id);
    loop {
        let held = lists.held(&issuer.key_id).map(|held| held.number);
        let answer = match caller.call(request(&path, held)).await {
            Ok(answer) => answer,
            Err(failure) => {
                tracing::debug!(error = chain(&failure.error), "revocation list");
                tokio::time::sleep(failure.delay).await;
                continue;
            }
        };
        if answer.status == StatusCode::NOT_MODIFIED {
            continue;
        }
        let (checked, checker) = (issuer.clone(), lists.clone());
        let taken = tokio::task::spawn_blocking(move || take(&checker, &checked, answer.body.to_vec()));
        let delay = match taken.await {
            Ok(Ok(news)) if news => {
                caller.useful();
                continue;
            }
            // The center repeats itself although it knows what is held: not without a pause.
            Ok(Ok(_)) => caller.useless(),
            Ok(Err(refusal)) => {
                refused(&lists, &issuer.key_id, &refusal, &journal);
                caller.useless()
            }
            Err(error) => {
                tracing::error!(%error, "revocation list");
                caller.useless()
            }
        };
        tokio::time::sleep(delay).await;
    }
}

fn request(path: &str, held: Option<u64>) -> Request<'_> {
    let mut headers = Vec::new();
    if let Some(number) = held {
        headers.push((header::IF_NONE_MATCH, format!("\"{number}\"")));
        headers.push((header::HeaderName::from_static("prefer"), format!("wait={MAX_WAIT_S}")));
    }
    Request {
        method: Method::GET,
        path,
        headers,
        body: hyper::body::Bytes::new(),
        limit: ANSWER_LIMIT,
        max_answer: MAX_CRL,
    }
}

/// Returns whether it was a new one.
fn take(lists: &Arc<Lists>, issuer: &Issuer, der: Vec<u8>) -> Result<bool, Refusal> {
    let list = lists.accept(&issuer.key_id, &der, std::slice::from_ref(issuer))?;
    if lists.held(&issuer.key_id).is_some_and(|held| held.number == list.number()) {
        return Ok(false);
    }
    let held = lists.hold(&list, der);
    if let Err(error) = lists.save(&held) {
        // In force all the same; after a restart the center has it.
        tracing::error!(error = chain(&error), "revocation list is not on the disk");
    }
    held.stored.send_replace(true);
    Ok(true)
}

fn refused(lists: &Lists, issuer: &KeyId, refusal: &Refusal, journal: &Spool) {
    let reason = refusal.to_string();
    // The center offers the same one at every attempt: told once.
    let before = lists.state().refused.insert(issuer.clone(), reason.clone());
    if before.as_ref() == Some(&reason) {
        return;
    }
    let severity = if refusal.is_alarm() { Severity::Error } else { Severity::Warn };
    tracing::error!(%issuer, reason, alarm = refusal.is_alarm(), "revocation list refused");
    let draft = Draft::new(Stream::Audit, "crl.refused", reason).severity(severity);
    journal.note(draft.with("issuer", issuer).with("alarm", refusal.is_alarm()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_on_the_disk_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let key_id: KeyId = "0a".parse().unwrap();
        let issuer = Issuer {
            der: vec![],
            issuer: vec![],
            issuer_key_id: None,
            serial: "01".parse().unwrap(),
            subject: vec![],
            key_id: key_id.clone(),
            spki: vec![],
            path_len: None,
            crl_sign: true,
            not_before: 0,
            not_after: i64::MAX,
        };
        for garbage in [&b""[..], b"garbage", &[0x30, 0x82, 0xff, 0xff, 0x00]] {
            std::fs::write(directory.path().join("0a.der"), garbage).unwrap();
            std::fs::write(directory.path().join("marks.json"), garbage).unwrap();
            let lists = Lists::load(directory.path().to_owned()).unwrap();
            lists.restore(&issuer).unwrap();
            assert!(lists.held(&key_id).is_none(), "asked of the center from scratch");
            assert_eq!(std::fs::read(directory.path().join("0a.der")).unwrap(), garbage);
        }
    }
}
