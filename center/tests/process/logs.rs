//! OTLP/HTTP as an edge sends it: both encodings, gzip, repetition, forgery, somebody else's name.

use crate::fixture::{Answer, Center, Tls};
use flate2::{Compression, write::GzEncoder};
use prost::Message as _;
use std::collections::BTreeMap;
use std::io::Write as _;
use uuid::Uuid;
use verona_contract::log::{Hash, Record, Severity, Stream};
use verona_contract::otlp::{ExportLogsServiceResponse, to_request};

pub fn records(edge: Uuid, count: u64) -> Vec<Record> {
    let mut previous = Hash::GENESIS;
    let next = |seq| {
        let record = Record {
            edge,
            stream: Stream::Audit,
            seq,
            boot: Uuid::from_u128(1),
            time_ns: 1_700_000_000_000_000_000 + seq.cast_signed(),
            monotonic_ns: seq,
            clock_synced: true,
            severity: Severity::Info,
            event: "config.confirmed".into(),
            body: format!("configuration {seq}"),
            attributes: BTreeMap::new(),
            previous,
        };
        previous = record.hash();
        record
    };
    (1..=count).map(next).collect()
}

pub fn send(center: &Center, tls: &Tls, fields: &str, body: Vec<u8>) -> Answer {
    center.call(Some(tls), "POST", "/v1/logs", fields, |_| body)
}

pub const PROTOBUF: &str = "Content-Type: application/x-protobuf";

#[test]
fn both_encodings_gzip_repetition_and_forgery() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (id, tls, _) = center.enrolled_edge(&owner, "S-1");
    let edge: Uuid = id.parse().unwrap();
    let records = records(edge, 6);
    let protobuf = |records: &[Record]| to_request(edge, records).encode_to_vec();
    assert_eq!(send(&center, &tls, PROTOBUF, protobuf(&records[..2])).status, 200);
    let json = serde_json::to_vec(&to_request(edge, &records[2..4])).unwrap();
    let answer = send(&center, &tls, "Content-Type: application/json", json);
    assert_eq!((answer.status, answer.body.as_slice()), (200, br#"{}"#.as_slice()), "{}", answer.head);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&protobuf(&records[2..])).unwrap();
    let fields = format!("{PROTOBUF}\r\nContent-Encoding: gzip");
    assert_eq!(send(&center, &tls, &fields, gzip.finish().unwrap()).status, 200, "two repeated, two new");
    let page = center.ok(&["log", "list", "--edge", &id]);
    let stored: Vec<Record> = serde_json::from_value(page["records"].clone()).unwrap();
    assert_eq!(stored, records);
    assert_eq!(center.ok(&["log", "verify"])[0]["unbroken"], true);

    let mut forged = records[3].clone();
    forged.body = "nothing happened".into();
    let answer = send(&center, &tls, PROTOBUF, protobuf(&[forged]));
    let response = ExportLogsServiceResponse::decode(answer.body.as_slice()).unwrap();
    assert_eq!(response.partial_success.unwrap().rejected_log_records, 1);
    assert_eq!(center.ok(&["log", "alarms"])[0]["seq"], 4);
    assert_eq!(center.ok(&["log", "verify"])[0]["unbroken"], true);

    let mut gap = records[5].clone();
    gap.seq = 9;
    assert_eq!(send(&center, &tls, PROTOBUF, protobuf(&[gap])).status, 200);
    let broken = center.cli(&["log", "verify"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stdout).contains("\"first_break\": 7"));
}

#[test]
fn wrong_log_requests() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (id, tls, _) = center.enrolled_edge(&owner, "S-1");
    let own: Uuid = id.parse().unwrap();
    let other = Uuid::from_u128(7);
    let foreign = to_request(other, &records(other, 1)).encode_to_vec();
    let mut zero = records(own, 1);
    zero[0].seq = 0;
    let zero = to_request(own, &zero).encode_to_vec();
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..40 {
        bomb.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let gzip = format!("{PROTOBUF}\r\nContent-Encoding: gzip");
    let brotli = format!("{PROTOBUF}\r\nContent-Encoding: br");
    for (fields, body, status, detail) in [
        (PROTOBUF, foreign, 403, "not the caller"),
        (PROTOBUF, zero, 400, "log record 0: verona.seq"),
        (PROTOBUF, vec![0xff; 9], 400, "not an OTLP logs request"),
        (gzip.as_str(), bomb.finish().unwrap(), 413, "at most 16777216 octets"),
        (gzip.as_str(), b"plain".to_vec(), 400, "not gzip"),
        (brotli.as_str(), vec![], 415, "Content-Encoding"),
        ("Content-Type: text/plain", vec![], 415, "application/x-protobuf"),
    ] {
        let answer = send(&center, &tls, fields, body);
        assert_eq!(answer.status, status, "{detail}");
        assert!(answer.problem().contains(detail), "{}", answer.problem());
    }
    assert_eq!(center.call(None, "POST", "/v1/logs", PROTOBUF, |_| Vec::new()).status, 401);
}

/// What many edges that catch up at once bring. Everything is made before, so that the center's work alone is measured,
/// as far as it has the machine for itself.
#[test]
#[ignore = "full run: a figure of a quiet machine"]
fn catching_up_together() {
    const EDGES: u64 = 8;
    const BATCHES: u64 = 25;
    const BATCH: u64 = 1000;
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let edges: Vec<(Tls, Vec<Vec<u8>>)> = (0..EDGES)
        .map(|number| {
            let (id, tls, _) = center.enrolled_edge(&owner, &format!("S-{number}"));
            let edge: Uuid = id.parse().unwrap();
            let all = records(edge, BATCHES * BATCH);
            let bodies = all.chunks(BATCH as usize).map(|batch| to_request(edge, batch).encode_to_vec());
            (tls, bodies.collect())
        })
        .collect();
    let begin = std::time::Instant::now();
    std::thread::scope(|threads| {
        for (tls, bodies) in edges {
            let center = &center;
            threads.spawn(move || {
                for body in bodies {
                    assert_eq!(send(center, &tls, PROTOBUF, body).status, 200);
                }
            });
        }
    });
    let (took, count) = (begin.elapsed().as_secs_f64(), EDGES * BATCHES * BATCH);
    println!("{count} records of {EDGES} edges in {took:.1} s: {:.0} a second", count as f64 / took);
    let chains = center.ok(&["log", "verify"]);
    assert!(chains.as_array().unwrap().iter().all(|chain| chain["unbroken"] == true), "{chains}");
}
