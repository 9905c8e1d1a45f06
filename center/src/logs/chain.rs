//! Checks the hash chains over what is stored: each record is hashed again, so an edit in the database shows
//! as well as a gap or an edit on the way.

use super::LogError;
use crate::db::{Scope, parsed};
use rusqlite::Connection;
use uuid::Uuid;
use verona_contract::api::ChainReport;
use verona_contract::log::{Hash, Record, Stream};

pub(super) fn reports(connection: &Connection, scope: Scope) -> Result<Vec<ChainReport>, LogError> {
    let sql = "SELECT edge, stream, seq, record, hash FROM record WHERE owner = coalesce(?1, owner)
        ORDER BY edge, stream, seq";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([scope])?;
    let mut reports: Vec<ChainReport> = Vec::new();
    let mut link = Hash::GENESIS;
    while let Some(row) = rows.next()? {
        let (edge, stream): (Uuid, Stream) = (parsed(row, 0)?, parsed(row, 1)?);
        let seq = row.get::<_, i64>(2)?.cast_unsigned();
        if reports.last().is_none_or(|report| (report.edge, report.stream) != (edge, stream)) {
            link = Hash::GENESIS;
            reports.push(ChainReport {
                edge,
                stream,
                records: 0,
                last_seq: 0,
                unbroken: true,
                first_break: None,
            });
        }
        let Some(report) = reports.last_mut() else { continue };
        let record: Option<Record> = serde_json::from_str(&row.get::<_, String>(3)?).ok();
        let hash = Hash(row.get(4)?);
        let place = |record: &&Record| {
            (record.edge, record.stream, record.seq) == (edge, stream, seq) && record.hash() == hash
        };
        let follows = record
            .as_ref()
            .filter(place)
            .is_some_and(|record| seq == report.last_seq + 1 && record.previous == link);
        if !follows && report.unbroken {
            report.unbroken = false;
            // After a gap the missing number is the first that does not follow.
            report.first_break = Some(seq.min(report.last_seq + 1));
        }
        report.records += 1;
        report.last_seq = seq;
        link = hash;
    }
    Ok(reports)
}
