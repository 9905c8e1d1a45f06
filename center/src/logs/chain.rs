//! Checks the hash chains over what is stored: each record is hashed again, so an edit in the database shows
//! as well as a gap or an edit on the way.

use super::LogError;
use crate::db::{Scope, parsed};
use rusqlite::Connection;
use std::collections::HashMap;
use std::ops::Range;
use uuid::Uuid;
use verona_contract::api::ChainReport;
use verona_contract::log::{GAP, Hash, REFUSED, Record, Stream};

pub(super) fn reports(connection: &Connection, scope: Scope) -> Result<Vec<ChainReport>, LogError> {
    let declared = declared(connection, scope)?;
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
                declared_missing: 0,
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
        let missing = report.last_seq + 1..seq;
        let told = declared.get(&(edge, stream)).is_some_and(|ranges| covers(ranges, &missing));
        let follows = record
            .as_ref()
            .filter(place)
            // What a record after a gap is linked to is not here to be compared.
            .is_some_and(|record| if missing.is_empty() { record.previous == link } else { told });
        if told && !missing.is_empty() {
            report.declared_missing += missing.end - missing.start;
        }
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

/// Numbers that a box itself told to be missing, by chain, in the order of their beginnings.
type Declared = HashMap<(Uuid, Stream), Vec<(u64, u64)>>;

/// A declaration is a record of the chain that it is about, so it is linked and cannot be slipped in later.
fn declared(connection: &Connection, scope: Scope) -> Result<Declared, LogError> {
    let sql =
        "SELECT edge, stream, record FROM record WHERE owner = coalesce(?1, owner) AND event IN (?2, ?3)";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(rusqlite::params![scope, GAP, REFUSED])?;
    let mut declared = Declared::new();
    while let Some(row) = rows.next()? {
        let record: Option<Record> = serde_json::from_str(&row.get::<_, String>(2)?).ok();
        let number = |name| record.as_ref()?.attributes.get(name)?.parse::<u64>().ok();
        if let (Some(from), Some(to)) = (number("from"), number("to")) {
            declared.entry((parsed(row, 0)?, parsed(row, 1)?)).or_default().push((from, to));
        }
    }
    declared.values_mut().for_each(|ranges| ranges.sort_unstable());
    Ok(declared)
}

/// Whether `ranges`, sorted, contain each number of `missing`.
fn covers(ranges: &[(u64, u64)], missing: &Range<u64>) -> bool {
    let mut next = missing.start;
    for (from, to) in ranges {
        if *from <= next && *to >= next {
            next = to.saturating_add(1);
        }
    }
    next >= missing.end
}
