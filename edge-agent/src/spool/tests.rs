//! The spool on a real disk: what was acknowledged is there after any crash, and the chain goes on.

use super::*;
use edge_agent_core::spool::segment::{FRAME_HEAD, HEADER};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use verona_contract::log::Hash;

const EDGE: Uuid = Uuid::from_u128(0xe);

fn open(directory: &Path) -> Spool {
    open_with(directory, EDGE, MIN_QUOTA).unwrap()
}

fn open_with(directory: &Path, edge: Uuid, quota: u64) -> Result<Spool, OpenError> {
    let ticks = AtomicU64::new(0);
    let stamps = Box::new(move || {
        let tick = ticks.fetch_add(1, Ordering::Relaxed);
        Stamp { edge, boot: Uuid::nil(), time_ns: tick.cast_signed(), monotonic_ns: tick, clock_synced: true }
    });
    Spool::open(directory.join("spool"), edge, quota, stamps)
}

fn draft(stream: Stream, body: impl Into<String>) -> Draft {
    Draft::new(stream, "test", body)
}

/// Everything unsent, taken the way the pusher takes it.
fn drain(spool: &Spool, stream: Stream) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        let batch = spool.unsent(stream).unwrap();
        let Some(last) = batch.last() else { return all };
        spool.sent(stream, last.seq).unwrap();
        all.extend(batch);
    }
}

fn assert_chain(records: &[Record], mut previous: Hash) {
    for record in records {
        assert_eq!(record.previous, previous, "record {}", record.seq);
        previous = record.hash();
    }
}

/// The writer thread ends when the last handle is gone; the next open must not race with it.
async fn close(spool: Spool) {
    let Spool { shared, appends, written } = spool;
    drop((appends, written));
    while Arc::strong_count(&shared) > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

fn newest_segment(directory: &Path, stream: Stream) -> PathBuf {
    let list = std::fs::read_dir(directory.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    let of_stream = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(stream.as_str()) && name.ends_with(".seg")
    };
    list.filter(of_stream).max().unwrap()
}

#[tokio::test]
async fn many_appenders_share_one_unbroken_chain_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let spool = open(directory.path());
        let one = |n: usize| {
            let spool = spool.clone();
            tokio::spawn(
                async move { spool.append(draft(Stream::Auth, format!("{round}.{n}"))).await.unwrap() },
            )
        };
        for task in (0..100).map(one).collect::<Vec<_>>() {
            acknowledged.push(task.await.unwrap());
        }
        close(spool).await;
    }
    acknowledged.sort_unstable();
    assert_eq!(acknowledged, (1..=300).collect::<Vec<u64>>());
    let spool = open(directory.path());
    let records = drain(&spool, Stream::Auth);
    assert_eq!(records.len(), 300);
    assert_chain(&records, Hash::GENESIS);
}

#[tokio::test]
async fn a_chain_goes_on_after_everything_was_sent_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let body = "x".repeat(8000);
    for _ in 0..300 {
        spool.append(draft(Stream::System, body.clone())).await.unwrap();
    }
    let before = spool.usage().octets;
    let records = drain(&spool, Stream::System);
    assert_chain(&records, Hash::GENESIS);
    assert!(before > 2 << 20 && spool.usage().octets < 2 << 20, "sent segments are deleted");
    close(spool).await;
    let spool = open(directory.path());
    assert_eq!(spool.unsent(Stream::System).unwrap(), [], "nothing is sent twice");
    assert_eq!(spool.append(draft(Stream::System, "next")).await.unwrap(), 301);
    assert_chain(&drain(&spool, Stream::System), records.last().unwrap().hash());
}

#[tokio::test]
async fn a_torn_write_is_cut_off_and_its_numbers_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    for n in 0..5 {
        spool.append(draft(Stream::Audit, n.to_string())).await.unwrap();
    }
    close(spool).await;
    let path = newest_segment(directory.path(), Stream::Audit);
    let whole = std::fs::read(&path).unwrap();
    // Every kind of end that a killed write can leave behind the last acknowledged record.
    let frame = &whole[HEADER..];
    for cut in [1, 3, FRAME_HEAD - 1, FRAME_HEAD, FRAME_HEAD + 1, FRAME_HEAD + 50] {
        std::fs::write(&path, [whole.as_slice(), &frame[..cut]].concat()).unwrap();
        let spool = open(directory.path());
        assert_eq!(spool.unsent(Stream::Audit).unwrap().len(), 5, "cut {cut}");
        assert_eq!(spool.append(draft(Stream::Audit, "after")).await.unwrap(), 6, "cut {cut}");
        assert_eq!(spool.usage().damaged, 0);
        assert_chain(&drain(&spool, Stream::Audit), Hash::GENESIS);
        close(spool).await;
        std::fs::remove_file(directory.path().join("spool").join(row::CURSORS)).unwrap();
    }
}

#[tokio::test]
async fn a_damaged_segment_is_set_aside_reported_and_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    for n in 0..10 {
        spool.append(draft(Stream::Audit, n.to_string())).await.unwrap();
    }
    close(spool).await;
    let path = newest_segment(directory.path(), Stream::Audit);
    let mut file = std::fs::read(&path).unwrap();
    let middle = HEADER + (file.len() - HEADER) / 2;
    file[middle] ^= 0x10;
    std::fs::write(&path, &file).unwrap();

    let spool = open(directory.path());
    let seq = spool.append(draft(Stream::Audit, "after")).await.unwrap();
    let records = drain(&spool, Stream::Audit);
    let sound = records.iter().take_while(|record| record.event == "test").count();
    assert!((4..=5).contains(&sound), "{sound} records before the damage");
    assert_chain(&records, Hash::GENESIS);
    let gap = &records[sound];
    assert_eq!((gap.event.as_str(), &gap.attributes["from"]), ("log.gap", &(sound as u64 + 1).to_string()));
    assert!(gap.seq > 10, "no number is given out twice");
    assert_eq!(records.last().map(|record| record.seq), Some(seq));
    assert_eq!(spool.usage().damaged, 1);
    assert_eq!(std::fs::read(path.with_extension("seg.damaged")).unwrap(), file, "kept for examination");
    close(spool).await;

    // The next start finds a sound spool: the gap is told once.
    let spool = open(directory.path());
    assert_eq!(spool.append(draft(Stream::Audit, "later")).await.unwrap(), seq + 1);
    assert_eq!(drain(&spool, Stream::Audit).len(), 1);
}

#[tokio::test]
async fn an_unreadable_header_costs_that_segment_only() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let body = "x".repeat(8000);
    for _ in 0..200 {
        spool.append(draft(Stream::Flow, body.clone())).await.unwrap();
    }
    spool.append(draft(Stream::Audit, "other stream")).await.unwrap();
    close(spool).await;
    let newest = newest_segment(directory.path(), Stream::Flow);
    for garbage in [&b""[..], b"garbage", &[0; 4096]] {
        std::fs::write(&newest, garbage).unwrap();
    }
    let spool = open(directory.path());
    assert!(spool.append(draft(Stream::Flow, "after")).await.unwrap() > 127);
    let records = drain(&spool, Stream::Flow);
    assert_chain(&records, Hash::GENESIS);
    assert!(records.len() > 100, "the older segment is whole");
    assert_eq!(drain(&spool, Stream::Audit).len(), 1);
}

/// Appends records of 8 kB.
async fn flood(spool: &Spool, stream: Stream, count: usize) -> u64 {
    let mut last = 0;
    for _ in 0..count / 50 {
        let group = (0..50).map(|_| spool.append(draft(stream, "x".repeat(8000))));
        for seq in futures_util::future::join_all(group).await {
            last = last.max(seq.unwrap());
        }
    }
    last
}

/// The numbers that are missing, and those that `log.gap` declares.
fn missing_and_declared(records: &[Record]) -> (Vec<u64>, Vec<u64>) {
    let there: Vec<u64> = records.iter().map(|record| record.seq).collect();
    let missing = (1..*there.last().unwrap()).filter(|seq| there.binary_search(seq).is_err()).collect();
    let number = |record: &Record, name: &str| record.attributes[name].parse::<u64>().unwrap();
    let gaps = records.iter().filter(|record| record.event == "log.gap");
    let mut declared: Vec<u64> =
        gaps.flat_map(|record| number(record, "from")..=number(record, "to")).collect();
    declared.sort_unstable();
    declared.dedup();
    (missing, declared)
}

#[tokio::test]
async fn a_full_spool_lets_the_least_important_go_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let audit = flood(&spool, Stream::Audit, 100).await;
    // Three times what its share holds.
    let last = flood(&spool, Stream::Flow, 1500).await;
    assert!(spool.usage().octets <= MIN_QUOTA);
    // Then what matters more takes the rest, and everything if need be.
    flood(&spool, Stream::Auth, 1500).await;
    assert!(spool.usage().octets <= MIN_QUOTA);
    close(spool).await;
    let spool = open(directory.path());
    {
        let records = drain(&spool, Stream::Audit);
        assert_eq!(records.len() as u64, audit, "nothing of the audit trail went");
        assert_chain(&records, Hash::GENESIS);
        let auth = drain(&spool, Stream::Auth);
        let (missing, declared) = missing_and_declared(&auth);
        assert!(!missing.is_empty());
        assert_eq!(missing, declared, "auth: what is missing is what is declared");
        assert_chain(&auth[1..], auth[0].hash());
        let flow = drain(&spool, Stream::Flow);
        let (missing, declared) = missing_and_declared(&flow);
        assert!(missing.len() as u64 > last / 2);
        assert_eq!(missing, declared, "flow: what is missing is what is declared");
    }
}

/// A month without the center: a start each day, and a clock that is lost, jumps ahead and comes back.
#[tokio::test]
async fn thirty_days_without_the_center() {
    const DAY: i64 = 86_400_000_000_000;
    let clock_on = |day: i64| match day {
        7..=9 => 0,
        15..=18 => 4000 * DAY,
        day => (20_000 + day) * DAY,
    };
    let directory = tempfile::tempdir().unwrap();
    let mut ordered = Vec::new();
    for day in 0..30 {
        let ticks = AtomicU64::new(0);
        let stamps = Box::new(move || {
            let tick = ticks.fetch_add(1, Ordering::Relaxed);
            let time_ns = clock_on(day) + tick.cast_signed();
            let boot = Uuid::from_u128(day.cast_unsigned().into());
            Stamp { edge: EDGE, boot, time_ns, monotonic_ns: tick, clock_synced: clock_on(day) > 0 }
        });
        let spool = Spool::open(directory.path().join("spool"), EDGE, MIN_QUOTA, stamps).unwrap();
        for number in 0..5 {
            let body = format!("day {day} order {number}");
            spool.append(draft(Stream::Audit, &body)).await.unwrap();
            ordered.push(body);
        }
        let users = (0..20).map(|user| spool.append(draft(Stream::Auth, format!("day {day} user {user}"))));
        assert!(futures_util::future::join_all(users).await.iter().all(Result::is_ok));
        flood(&spool, Stream::Flow, 300).await;
        assert!(spool.usage().octets <= MIN_QUOTA, "day {day}");
        close(spool).await;
    }
    let spool = open(directory.path());
    let audit = drain(&spool, Stream::Audit);
    assert_eq!(audit.iter().map(|record| record.body.clone()).collect::<Vec<_>>(), ordered);
    assert_chain(&audit, Hash::GENESIS);
    let auth = drain(&spool, Stream::Auth);
    assert_eq!((auth.len(), missing_and_declared(&auth)), (600, (vec![], vec![])));
    let flow = drain(&spool, Stream::Flow);
    let (missing, declared) = missing_and_declared(&flow);
    assert!(!missing.is_empty(), "the month was too quiet for this test");
    assert_eq!(missing, declared);
}

#[tokio::test]
async fn what_matters_less_never_pushes_out_what_matters_more() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    flood(&spool, Stream::Auth, 700).await;
    // Flow turns over within what is left.
    flood(&spool, Stream::Flow, 1000).await;
    assert!(spool.usage().octets <= MIN_QUOTA);
    let auth = drain(&spool, Stream::Auth);
    assert_eq!(missing_and_declared(&auth), (vec![], vec![]));
    assert_eq!(auth.len(), 700);
    let flow = drain(&spool, Stream::Flow);
    let (missing, declared) = missing_and_declared(&flow);
    assert!(!missing.is_empty());
    assert_eq!(missing, declared);
}

#[tokio::test]
async fn another_edges_spool_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    close(open(directory.path())).await;
    let error = open_with(directory.path(), Uuid::from_u128(0xf), MIN_QUOTA).map(drop).unwrap_err();
    assert!(error.to_string().contains("belongs to edge"), "{error}");
}

#[tokio::test]
async fn what_the_center_refuses_is_kept_within_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("spool/refused.jsonl");
    let spool = open(directory.path());
    spool.append(draft(Stream::Audit, "x".repeat(8000))).await.unwrap();
    let record = spool.unsent(Stream::Audit).unwrap().remove(0);
    spool.set_aside(std::slice::from_ref(&record), "too long").unwrap();
    let line: serde_json::Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    assert_eq!(line["reason"], "too long");
    assert_eq!(serde_json::from_value::<Record>(line["record"].clone()).unwrap(), record);
    close(spool).await;

    // A crash in the middle of a line costs that line only.
    let mut torn = std::fs::read(&kept).unwrap();
    torn.extend_from_slice(b"{\"reason\"");
    std::fs::write(&kept, torn).unwrap();
    let spool = open(directory.path());
    assert_eq!(spool.usage().refused, 2);
    spool.set_aside(std::slice::from_ref(&record), "again").unwrap();
    let text = std::fs::read_to_string(&kept).unwrap();
    let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    assert_eq!((text.lines().count(), whole), (3, 2));

    // Two files of 4 MiB, and the newest records are in them.
    for _ in 0..20 {
        spool.set_aside(&vec![record.clone(); 100], "flood").unwrap();
    }
    let octets = |name: &str| std::fs::metadata(directory.path().join("spool").join(name)).unwrap().len();
    assert!(octets("refused.jsonl") + octets("refused.old.jsonl") < 10 * 1024 * 1024);
    let usage = spool.usage().refused;
    close(spool).await;
    assert_eq!(open(directory.path()).usage().refused, usage, "counted the same after a restart");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_the_center_nothing_and_hears_of_what_went() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open_with(directory.path(), EDGE, 64 * 1024 * 1024).unwrap();
    spool.forward(&[Stream::Flow]).unwrap();
    assert_eq!((spool.collector_has(Stream::Flow), spool.collector_has(Stream::Audit)), (Some(0), None));
    // Some ten segments, all of which the center gets.
    let body = "x".repeat(8000);
    for _ in 0..13 {
        let hundred = (0..100).map(|_| spool.append(draft(Stream::Flow, body.clone())));
        for appended in futures_util::future::join_all(hundred).await {
            appended.unwrap();
        }
    }
    let sent = drain(&spool, Stream::Flow);
    assert_eq!(sent.len(), 1300);
    let kept = spool.usage().octets;
    assert!(kept < 6 * 1024 * 1024, "{kept} octets wait for the collector alone");

    // After a restart it goes on with what is there; the first it gets tells what went.
    close(spool).await;
    let spool = open_with(directory.path(), EDGE, 64 * 1024 * 1024).unwrap();
    let first = spool.unforwarded(Stream::Flow).unwrap().first().map(|record| record.seq).unwrap();
    assert!(first > 1, "something went");
    let mut next = first;
    loop {
        let batch = spool.unforwarded(Stream::Flow).unwrap();
        let Some(last) = batch.last().map(|record| record.seq) else { break };
        for record in batch {
            assert_eq!(record.seq, next);
            next += 1;
        }
        spool.forwarded(Stream::Flow, last).unwrap();
    }
    assert_eq!(next, 1301);
    assert!(spool.usage().octets < 2 * 1024 * 1024, "now nobody wants them any more");
    assert_eq!(spool.unforwarded(Stream::Audit).unwrap(), []);

    // No collector any more: nothing is kept for it.
    spool.forward(&[]).unwrap();
    assert_eq!(spool.collector_has(Stream::Flow), None);
}
