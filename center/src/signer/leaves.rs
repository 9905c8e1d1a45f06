//! What the signer remembers of the leaves under each CA: which it issued, and which are revoked for good.
//!
//! A list is the web tier's wish joined with this memory: holds come and go as it asks, what was revoked for
//! good stays listed until its end, and nothing is listed that was never issued.

use super::protocol::{CrlEntry, Reason};
use super::state::{State, StateError};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use std::collections::BTreeMap;
use verona_contract::key::{KeyId, Serial};

/// How long an entry stays after the certificate's end, in seconds: RFC 5280 §3.3 wants each on one regular
/// list beyond it.
const LISTED_AFTER_END_S: i64 = 24 * 3600;

/// How long a leaf is remembered after its end, in seconds. The web tier may ask for it until then.
const KEPT_AFTER_END_S: i64 = 8 * 24 * 3600;

/// Why there is no next list.
#[derive(Debug, thiserror::Error)]
pub(super) enum NextListError {
    /// An entry names a certificate that this CA never issued, or that ended long ago.
    #[error("entries: this CA issued no certificate with serial number {0}")]
    Unknown(Serial),
    /// The signer's own trouble.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<rusqlite::Error> for NextListError {
    fn from(error: rusqlite::Error) -> Self {
        Self::State(error.into())
    }
}

/// What the next list of an issuer says.
pub(super) struct NextList {
    /// cRLNumber.
    pub(super) number: u64,
    /// By serial number, each once.
    pub(super) entries: Vec<CrlEntry>,
}

impl State {
    /// Remembers a new leaf, before anybody gets it. False when `subject` was revoked for good.
    ///
    /// # Errors
    ///
    /// [`StateError::Sql`].
    pub(super) fn add_leaf(
        &self,
        issuer: &KeyId,
        serial: &[u8],
        subject: &str,
        not_after: i64,
    ) -> Result<bool, StateError> {
        // One statement, so no revocation comes between the question and the row.
        let sql = "INSERT INTO leaf(issuer, serial, subject, not_after_s) SELECT ?1, ?2, ?3, ?4
            WHERE NOT EXISTS (SELECT 1 FROM withdrawn WHERE issuer = ?1 AND subject = ?3)";
        Ok(self.db().execute(sql, params![issuer.to_string(), serial, subject, not_after])? == 1)
    }

    /// Takes the next number of an issuer's list, remembers what `wish` revokes for good, and answers what the
    /// list says.
    ///
    /// # Errors
    ///
    /// [`NextListError`]; nothing is remembered and no number taken then.
    pub(super) fn next_list(
        &self,
        issuer: &KeyId,
        wish: &[CrlEntry],
        now_s: i64,
    ) -> Result<NextList, NextListError> {
        let mut connection = self.db();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let id = issuer.to_string();
        let mut entries = BTreeMap::new();
        for entry in wish {
            // A date that X.509 cannot say must not stay here and spoil every list to come.
            let entry = CrlEntry { since: entry.since.clamp(0, now_s), ..entry.clone() };
            if !revoke(&transaction, &id, &entry)? {
                entries.insert(entry.serial, entry);
            }
        }
        for entry in finals(&transaction, &id, now_s)? {
            entries.insert(entry.serial, entry);
        }
        let number = take_number(&transaction, &id)?;
        let sql = "DELETE FROM leaf WHERE issuer = ?1 AND not_after_s < ?2";
        transaction.execute(sql, params![id, now_s - KEPT_AFTER_END_S])?;
        transaction.commit()?;
        Ok(NextList { number, entries: entries.into_values().collect() })
    }
}

/// Whether `entry` is of a leaf that is revoked for good, by this entry or before.
fn revoke(transaction: &Transaction<'_>, issuer: &str, entry: &CrlEntry) -> Result<bool, NextListError> {
    let sql = "SELECT subject, final IS NOT NULL FROM leaf WHERE issuer = ?1 AND serial = ?2";
    let known: Option<(String, bool)> = transaction
        .prepare_cached(sql)?
        .query_row(params![issuer, entry.serial.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (subject, is_final) = known.ok_or(NextListError::Unknown(entry.serial))?;
    match entry.reason {
        Reason::Hold => return Ok(is_final),
        Reason::Superseded => {
            let sql = "UPDATE leaf SET final = 'superseded', since_s = ?3
                WHERE issuer = ?1 AND serial = ?2 AND final IS NULL";
            transaction.prepare_cached(sql)?.execute(params![
                issuer,
                entry.serial.as_bytes(),
                entry.since
            ])?;
        }
        // All of the subject's leaves go, also one that the web tier does not know or does not name.
        Reason::Withdrawn => {
            let sql = "INSERT INTO withdrawn(issuer, subject) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            if transaction.prepare_cached(sql)?.execute(params![issuer, subject])? == 1 {
                let sql = "UPDATE leaf SET final = 'withdrawn', since_s = ?3
                    WHERE issuer = ?1 AND subject = ?2 AND final IS NULL";
                transaction.prepare_cached(sql)?.execute(params![issuer, subject, entry.since])?;
            }
        }
    }
    Ok(true)
}

fn finals(connection: &Connection, issuer: &str, now_s: i64) -> Result<Vec<CrlEntry>, NextListError> {
    let sql = "SELECT serial, final, since_s FROM leaf
        WHERE issuer = ?1 AND final IS NOT NULL AND not_after_s > ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![issuer, now_s - LISTED_AFTER_END_S], |row| {
        let (serial, name): (Vec<u8>, String) = (row.get(0)?, row.get(1)?);
        // Written by `add_leaf` and `revoke`; CHECK keeps other reasons out.
        let serial = Serial::from_magnitude(&serial).map_err(|_| rusqlite::Error::InvalidQuery)?;
        let reason = if name == "withdrawn" { Reason::Withdrawn } else { Reason::Superseded };
        Ok(CrlEntry { serial, reason, since: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn take_number(transaction: &Transaction<'_>, issuer: &str) -> Result<u64, NextListError> {
    let sql = "UPDATE issuer SET crl_number = crl_number + 1 WHERE key_id = ?1 RETURNING crl_number";
    let number: i64 = transaction.query_row(sql, [issuer], |row| row.get(0))?;
    Ok(number.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::state::IssuerKind;

    const NOW: i64 = 1_800_000_000;

    fn serial(n: u8) -> Serial {
        Serial::new(&[0x40, n]).unwrap()
    }

    fn entry(n: u8, reason: Reason) -> CrlEntry {
        CrlEntry { serial: serial(n), reason, since: NOW - 5 }
    }

    fn said(list: &NextList) -> Vec<(u8, Reason)> {
        list.entries.iter().map(|entry| (entry.serial.as_bytes()[1], entry.reason)).collect()
    }

    /// A client CA with leaves 1 and 2 of alice and 3 of bob, which end an hour after [`NOW`].
    fn state() -> (tempfile::TempDir, State, KeyId) {
        let directory = tempfile::tempdir().unwrap();
        let state = State::create(&directory.path().join("signer"), "c", NOW).unwrap();
        let owner = "abcdefgh".parse().unwrap();
        state.add_owner(&owner, "10.8.0.0/24".parse().unwrap()).unwrap();
        let id = state.create_issuer(IssuerKind::Client, Some(&owner), NOW).unwrap().issuer.key_id;
        for (n, subject) in [(1, "alice"), (2, "alice"), (3, "bob")] {
            assert!(state.add_leaf(&id, serial(n).as_bytes(), subject, NOW + 3600).unwrap());
        }
        (directory, state, id)
    }

    #[test]
    fn holds_come_and_go_and_what_is_final_stays() {
        let (_directory, state, id) = state();
        let list =
            |wish: &[CrlEntry], now_s| state.next_list(&id, wish, now_s).map(|list| said(&list)).unwrap();
        assert_eq!(list(&[entry(1, Reason::Hold), entry(1, Reason::Hold)], NOW), [(1, Reason::Hold)]);
        assert_eq!(list(&[], NOW), []);
        assert_eq!(list(&[entry(3, Reason::Superseded)], NOW), [(3, Reason::Superseded)]);
        assert_eq!(list(&[entry(3, Reason::Hold)], NOW), [(3, Reason::Superseded)]);
        // One serial is named, both leaves of the subject go; leaving them out later changes nothing.
        let all = [(1, Reason::Withdrawn), (2, Reason::Withdrawn), (3, Reason::Superseded)];
        assert_eq!(list(&[entry(2, Reason::Hold), entry(1, Reason::Withdrawn)], NOW), all);
        assert_eq!(list(&[], NOW + 3600 + LISTED_AFTER_END_S - 1), all);
        assert_eq!(list(&[], NOW + 3600 + LISTED_AFTER_END_S), []);
    }

    #[test]
    fn unknown_serials_and_withdrawn_subjects_are_refused() {
        let (_directory, state, id) = state();
        let wish = [entry(1, Reason::Withdrawn), entry(9, Reason::Hold)];
        let error = state.next_list(&id, &wish, NOW).err().unwrap().to_string();
        assert_eq!(error, format!("entries: this CA issued no certificate with serial number {}", serial(9)));
        // Nothing of the refused wish stays.
        assert!(state.add_leaf(&id, serial(4).as_bytes(), "alice", NOW + 3600).unwrap());
        let list = state.next_list(&id, &wish[..1], NOW).unwrap();
        assert_eq!((list.number, list.entries.len()), (1, 3));
        assert!(!state.add_leaf(&id, serial(5).as_bytes(), "alice", NOW + 3600).unwrap());
        assert!(state.add_leaf(&id, serial(6).as_bytes(), "bob", NOW + 3600).unwrap());
    }

    #[test]
    fn dates_that_x509_cannot_say_are_mended() {
        let (_directory, state, id) = state();
        for (since, mended) in [(-1, 0), (i64::MAX, NOW), (7, 7)] {
            let wish = CrlEntry { since, ..entry(1, Reason::Hold) };
            assert_eq!(state.next_list(&id, &[wish], NOW).unwrap().entries[0].since, mended);
        }
    }
}
