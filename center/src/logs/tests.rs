//! The log store against a temporary database.

use super::*;
use std::collections::BTreeMap;
use uuid::Uuid;
use verona_contract::log::{Hash, Severity, Stream};

fn chain(edge: u128, count: u64) -> Vec<Record> {
    let mut previous = Hash::GENESIS;
    let mut records = Vec::new();
    for seq in 1..=count {
        let record = Record {
            edge: Uuid::from_u128(edge),
            stream: Stream::Auth,
            seq,
            boot: Uuid::from_u128(9),
            time_ns: seq.cast_signed(),
            monotonic_ns: seq,
            clock_synced: true,
            severity: Severity::Info,
            event: if seq % 2 == 0 { "client.cut".into() } else { "client.admitted".into() },
            body: format!("record {seq}"),
            attributes: BTreeMap::new(),
            previous,
        };
        previous = record.hash();
        records.push(record);
    }
    records
}

struct Fixture {
    _directory: tempfile::TempDir,
    path: PathBuf,
    store: LogStore,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs.db");
    let store = LogStore::open(&path).unwrap();
    Fixture { _directory: directory, path, store }
}

fn owner(n: i64) -> OwnerId {
    rusqlite::types::FromSql::column_result(rusqlite::types::ValueRef::Integer(n)).unwrap()
}

fn query(limit: u32) -> Query {
    Query { edge: None, stream: None, event: None, after: 0, limit }
}

#[tokio::test]
async fn repetitions_are_stored_once_and_forgeries_are_alarms() {
    let fixture = fixture();
    let records = chain(1, 3);
    let stored = |stored, repeated, refused| Stored { stored, repeated, refused };
    assert_eq!(fixture.store.store(owner(1), records.clone()).await.unwrap(), stored(3, 0, 0));
    assert_eq!(fixture.store.store(owner(1), records.clone()).await.unwrap(), stored(0, 3, 0));
    let mut forged = records[1].clone();
    forged.body = "nothing happened".into();
    for _ in 0..2 {
        let batch = vec![forged.clone(), records[2].clone()];
        assert_eq!(fixture.store.store(owner(1), batch).await.unwrap(), stored(0, 1, 1));
    }
    let alarms = fixture.store.alarms(Scope::of(owner(1))).await.unwrap();
    assert_eq!(alarms.iter().map(|alarm| alarm.seq).collect::<Vec<_>>(), [2]);
    assert!(fixture.store.alarms(Scope::of(owner(2))).await.unwrap().is_empty());
    let page = fixture.store.page(Scope::EVERY_OWNER, query(10)).await.unwrap();
    assert_eq!(page.records, records);
}

#[tokio::test]
async fn pages_and_filters() {
    let fixture = fixture();
    fixture.store.store(owner(1), chain(1, 5)).await.unwrap();
    fixture.store.store(owner(2), chain(2, 2)).await.unwrap();
    let first = fixture.store.page(Scope::of(owner(1)), query(3)).await.unwrap();
    assert_eq!((first.records.len(), first.next), (3, Some(3)));
    let rest = Query { after: 3, ..query(3) };
    let rest = fixture.store.page(Scope::of(owner(1)), rest).await.unwrap();
    assert_eq!((rest.records.len(), rest.next), (2, None));
    let cuts = Query { event: Some("client.cut".into()), ..query(100) };
    assert_eq!(fixture.store.page(Scope::EVERY_OWNER, cuts).await.unwrap().records.len(), 3);
    let other = Query { edge: Some(Uuid::from_u128(2)), ..query(100) };
    assert!(fixture.store.page(Scope::of(owner(1)), other).await.unwrap().records.is_empty());
}

#[tokio::test]
async fn a_declared_gap_is_none_and_covers_nothing_else() {
    let fixture = fixture();
    let mut records = chain(1, 9);
    let report = async || fixture.store.chains(Scope::EVERY_OWNER).await.unwrap().remove(0);
    // 3 to 5 are missing, and 8 tells of 3 and 4 only.
    let declare = |records: &mut Vec<Record>, from: u64, to: u64| {
        records[7].event = verona_contract::log::GAP.into();
        records[7].attributes.extend([("from".into(), from.to_string()), ("to".into(), to.to_string())]);
        let link = records[7].hash();
        records[8].previous = link;
    };
    declare(&mut records, 3, 4);
    let there = |records: &[Record]| {
        records.iter().filter(|record| !(3..=5).contains(&record.seq)).cloned().collect::<Vec<_>>()
    };
    fixture.store.store(owner(1), there(&records)).await.unwrap();
    let partly = report().await;
    assert_eq!((partly.unbroken, partly.first_break, partly.declared_missing), (false, Some(3), 0));

    let fixture = self::fixture();
    let report = async || fixture.store.chains(Scope::EVERY_OWNER).await.unwrap().remove(0);
    let mut records = chain(1, 9);
    declare(&mut records, 2, 5);
    fixture.store.store(owner(1), there(&records)).await.unwrap();
    let told = report().await;
    assert_eq!((told.unbroken, told.declared_missing, told.records), (true, 3, 6));
    // Behind a declared gap an edit still shows.
    let database = Connection::open(&fixture.path).unwrap();
    let edit = "UPDATE record SET record = replace(record, 'record 7', 'record X') WHERE seq = 7";
    assert_eq!(database.execute(edit, []).unwrap(), 1);
    assert_eq!(report().await.first_break, Some(7));
}

#[tokio::test]
async fn chains_show_gaps_and_edits() {
    let fixture = fixture();
    let records = chain(1, 5);
    let report = async || fixture.store.chains(Scope::EVERY_OWNER).await.unwrap().remove(0);
    fixture.store.store(owner(1), vec![records[0].clone(), records[1].clone()]).await.unwrap();
    assert!(report().await.unbroken);
    fixture.store.store(owner(1), vec![records[3].clone(), records[4].clone()]).await.unwrap();
    let gap = report().await;
    assert_eq!((gap.unbroken, gap.first_break, gap.records, gap.last_seq), (false, Some(3), 4, 5));
    // What was missing arrives late: the chain is whole again.
    fixture.store.store(owner(1), vec![records[2].clone()]).await.unwrap();
    assert!(report().await.unbroken);
    let database = Connection::open(&fixture.path).unwrap();
    let edit = "UPDATE record SET record = replace(record, 'record 2', 'record X') WHERE seq = 2";
    assert_eq!(database.execute(edit, []).unwrap(), 1);
    let edited = report().await;
    assert_eq!((edited.unbroken, edited.first_break), (false, Some(2)));
}
