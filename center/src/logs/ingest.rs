//! Stores records once: (edge, stream, seq) is their identity, the hash tells a repetition from a forgery.

use super::LogError;
use crate::clock;
use crate::db::OwnerId;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use verona_contract::log::Record;

/// What became of a request's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// New ones.
    pub(crate) stored: usize,
    /// Those that were here already.
    pub(crate) repeated: usize,
    /// Those that claim the place of another record; each is kept as an alarm.
    pub(crate) refused: usize,
}

/// Stores `records` in one transaction.
///
/// # Errors
///
/// [`LogError`]; nothing is stored then.
pub(super) fn store(
    connection: &mut Connection,
    owner: OwnerId,
    records: &[Record],
) -> Result<Stored, LogError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut result = Stored { stored: 0, repeated: 0, refused: 0 };
    let arrived_ns = clock::now_ns();
    for record in records {
        let hash = record.hash().0;
        match known_hash(&transaction, record)? {
            None => {
                insert(&transaction, owner, record, &hash, arrived_ns)?;
                result.stored += 1;
            }
            Some(known) if known == hash => result.repeated += 1,
            Some(_) => {
                alarm(&transaction, owner, record, &hash, arrived_ns)?;
                result.refused += 1;
            }
        }
    }
    transaction.commit()?;
    Ok(result)
}

fn known_hash(transaction: &Transaction<'_>, record: &Record) -> Result<Option<[u8; 32]>, LogError> {
    let sql = "SELECT hash FROM record WHERE edge = ?1 AND stream = ?2 AND seq = ?3";
    let mut statement = transaction.prepare_cached(sql)?;
    let identity = params![record.edge.to_string(), record.stream.as_str(), record.seq.cast_signed()];
    Ok(statement.query_row(identity, |row| row.get(0)).optional()?)
}

fn insert(
    transaction: &Transaction<'_>,
    owner: OwnerId,
    record: &Record,
    hash: &[u8; 32],
    arrived_ns: i64,
) -> Result<(), LogError> {
    let sql = "INSERT INTO record(owner, edge, stream, seq, hash, event, arrived_ns, record)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    transaction.prepare_cached(sql)?.execute(params![
        owner,
        record.edge.to_string(),
        record.stream.as_str(),
        record.seq.cast_signed(),
        hash,
        record.event,
        arrived_ns,
        to_json(record)?
    ])?;
    Ok(())
}

fn alarm(
    transaction: &Transaction<'_>,
    owner: OwnerId,
    record: &Record,
    hash: &[u8; 32],
    arrived_ns: i64,
) -> Result<(), LogError> {
    let detail = "a record with this number and another content is stored already";
    tracing::warn!(edge = %record.edge, stream = %record.stream, seq = record.seq, detail);
    // The same forgery sent again is one alarm.
    let sql = "INSERT INTO alarm(owner, edge, stream, seq, hash, detail, at_ns, record)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";
    transaction.prepare_cached(sql)?.execute(params![
        owner,
        record.edge.to_string(),
        record.stream.as_str(),
        record.seq.cast_signed(),
        hash,
        detail,
        arrived_ns,
        to_json(record)?
    ])?;
    Ok(())
}

fn to_json(record: &Record) -> Result<String, LogError> {
    serde_json::to_string(record)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)).into())
}
