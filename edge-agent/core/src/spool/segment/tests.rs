//! Cuts and altered octets at every kind of place: what was whole before the place is read back exactly.

use super::*;
use crate::journal::Draft;
use crate::spool::chain::Stamp;
use proptest::prelude::*;

const EDGE: Uuid = Uuid::from_u128(0x1234);

fn stamp(n: u64) -> Stamp {
    Stamp {
        edge: EDGE,
        boot: Uuid::from_u128(9),
        time_ns: 1_700_000_000_000_000_000 + n.cast_signed(),
        monotonic_ns: n,
        clock_synced: n.is_multiple_of(2),
    }
}

/// A segment of records with these bodies, the records, and where each frame ends.
fn segment(bodies: &[String]) -> (Vec<u8>, Vec<Record>, Vec<usize>) {
    let mut head = Head { next_seq: 41, previous: Hash([7; 32]) };
    let mut file = Header { edge: EDGE, stream: Stream::Auth, head }.encode().to_vec();
    let (mut records, mut ends) = (Vec::new(), Vec::new());
    for (n, body) in bodies.iter().enumerate() {
        let draft = Draft::new(Stream::Auth, "test.event", body.clone()).with("n", n);
        let record = head.append(draft, &stamp(n as u64));
        encode(&record, &mut file).unwrap();
        records.push(record);
        ends.push(file.len());
    }
    (file, records, ends)
}

#[test]
fn a_segment_from_number_zero_is_none() {
    let head = Head { next_seq: 0, previous: Hash([7; 32]) };
    let file = Header { edge: EDGE, stream: Stream::Auth, head }.encode();
    assert_eq!(Header::decode(&file), Err(HeaderError), "its checksum is right all the same");
}

#[test]
fn round_trip() {
    let (file, records, _) = segment(&["a".into(), "日本".into(), String::new()]);
    let found = recover(&file).unwrap();
    assert_eq!(found.records, records);
    assert_eq!((found.length, found.end), (file.len(), End::Clean));
    assert_eq!(found.head, Head { next_seq: 44, previous: records[2].hash() });
    assert_eq!(records[0].previous, Hash([7; 32]));
    assert_eq!(records[2].previous, records[1].hash());
}

#[test]
fn no_frame_is_shorter_than_the_bound() {
    let draft = Draft::new(Stream::Flow, "", "");
    let stamp =
        Stamp { edge: Uuid::nil(), boot: Uuid::nil(), time_ns: 0, monotonic_ns: 0, clock_synced: true };
    let record = Head::GENESIS.clone().append(draft, &stamp);
    let mut out = Vec::new();
    encode(&record, &mut out).unwrap();
    assert!(out.len() >= MIN_FRAME, "{} octets", out.len());
}

#[test]
fn the_longest_record_fits() {
    use verona_contract::log::{MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_BODY};
    let mut draft = Draft::new(Stream::Flow, &"\u{1}".repeat(MAX_ATTRIBUTE), "\u{1}".repeat(MAX_BODY));
    for n in 0..MAX_ATTRIBUTES {
        let key = format!("{}{n:02}", "\u{1}".repeat(MAX_ATTRIBUTE - 2));
        draft = draft.with(&key, "\u{1}".repeat(MAX_ATTRIBUTE));
    }
    assert_eq!(draft.check(), Ok(()));
    let record = Head::GENESIS.clone().append(draft, &stamp(0));
    assert!(encode(&record, &mut Vec::new()).is_ok());
}

#[test]
fn a_frame_of_another_chain_is_damage() {
    let (mut file, records, _) = segment(&["a".into()]);
    // A whole frame, but the number repeats: what a mixed-up file would look like.
    encode(&records[0], &mut file).unwrap();
    let found = recover(&file).unwrap();
    assert_eq!(found.records, records);
    assert!(matches!(found.end, End::Damaged { resume_at } if resume_at >= 43));
}

#[test]
fn zeros_after_the_end_are_a_torn_write() {
    let (mut file, records, ends) = segment(&["a".into(), "b".into()]);
    file.resize(file.len() + 5000, 0);
    let found = recover(&file).unwrap();
    assert_eq!((found.records, found.length, found.end), (records, ends[1], End::Torn));
}

fn bodies() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ -~\u{0}-\u{1f}é日]{0,60}", 1..12)
}

proptest! {
    #[test]
    fn a_cut_file_gives_every_whole_frame(bodies in bodies(), place in any::<prop::sample::Index>()) {
        let (file, records, ends) = segment(&bodies);
        let cut = place.index(file.len() + 1);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        match recover(&file[..cut]) {
            Err(HeaderError) => prop_assert!(cut < HEADER),
            Ok(found) => {
                prop_assert_eq!(&found.records[..], &records[..whole]);
                let boundary = cut == HEADER || ends.contains(&cut);
                prop_assert_eq!(found.end, if boundary { End::Clean } else { End::Torn });
            }
        }
    }

    #[test]
    fn an_altered_octet_never_passes(
        bodies in bodies(),
        place in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let (mut file, records, ends) = segment(&bodies);
        let at = place.index(file.len());
        file[at] ^= flip;
        match recover(&file) {
            Err(HeaderError) => prop_assert!(at < HEADER),
            Ok(found) => {
                let before = ends.iter().filter(|end| **end <= at).count();
                prop_assert_eq!(&found.records[..], &records[..before]);
                // No number that was ever given out is given out again.
                let last = records.last().map_or(0, |record| record.seq);
                let End::Damaged { resume_at } = found.end else {
                    return Err(TestCaseError::fail("an altered file passed"));
                };
                prop_assert!(resume_at > last);
            }
        }
    }

    #[test]
    fn garbage_never_panics(mut octets in prop::collection::vec(any::<u8>(), 0..600), keep_header: bool) {
        if keep_header {
            let mut file = segment(&["a".into()]).0;
            file.truncate(HEADER);
            file.append(&mut octets);
            octets = file;
        }
        if let Ok(found) = recover(&octets) {
            prop_assert!(found.length <= octets.len());
        }
    }
}
