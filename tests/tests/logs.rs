//! Logs survive: an agent killed again and again loses no record that it acknowledged, and doubles none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::parts::{field, text};
use lab::{Run, alone, wait, workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use verona_tests::site::{PATIENCE, Site};

/// How often the agent is killed.
const KILLS: u32 = 20;
/// Writers at once.
const WRITERS: u32 = 3;
/// The streams that the writers use in turn.
const STREAMS: [&str; 3] = ["system", "auth", "audit"];

/// A small generator (xorshift) whose seed is told, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn agent_killed_twenty_times_and_no_acknowledged_record_is_lost_or_doubled() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &[]);
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let place = site.net.edge.clone();
    let socket = site.edge.agent_socket().to_string_lossy().into_owned();
    let edgectl = workspace::binary("edgectl").unwrap();
    let stop = AtomicBool::new(false);
    let acknowledged = Mutex::new(BTreeMap::<String, (String, u64)>::new());

    std::thread::scope(|threads| {
        for writer in 0..WRITERS {
            let (place, socket, edgectl) = (&place, &socket, &edgectl);
            let (stop, acknowledged) = (&stop, &acknowledged);
            threads.spawn(move || {
                for number in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let body = format!("writer {writer} record {number}");
                    let stream = STREAMS[number as usize % STREAMS.len()];
                    let arguments = [
                        "--socket",
                        socket,
                        "logs",
                        "append",
                        "--stream",
                        stream,
                        "--event",
                        "test.load",
                        &body,
                        "--json",
                    ];
                    // No answer means not acknowledged: it may be stored or not.
                    let Ok(answer) = place.output(edgectl, &arguments) else { continue };
                    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
                    let seq = field(&answer, "seq").and_then(serde_json::Value::as_u64).unwrap();
                    let told = text(&answer, "/stream").unwrap().to_owned();
                    acknowledged.lock().unwrap().insert(body, (told, seq));
                }
            });
        }
        let killing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..KILLS {
                let before = acknowledged.lock().unwrap().len();
                wait::until("an acknowledged record", PATIENCE, || {
                    acknowledged.lock().unwrap().len() > before
                })
                .unwrap();
                let moment = Instant::now() + Duration::from_millis(random.below(400));
                wait::until("a random moment", PATIENCE, || Instant::now() >= moment).unwrap();
                site.edge.agent.crash().unwrap();
                site.edge.agent_again().unwrap();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        killing.unwrap();
    });

    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > KILLS as usize, "{} records only", acknowledged.len());
    let stored = wait::for_value("every acknowledged record at the center", PATIENCE, || {
        let stored = records(&site, "test.load")?;
        let bodies: BTreeSet<&str> = stored.iter().filter_map(|record| record["body"].as_str()).collect();
        let all = acknowledged.keys().all(|body| bodies.contains(body.as_str()));
        Ok(all.then_some(stored))
    })
    .unwrap();
    let mut places = BTreeSet::new();
    let mut bodies = BTreeSet::new();
    for record in &stored {
        let (stream, seq) = (record["stream"].as_str().unwrap(), record["seq"].as_u64().unwrap());
        let body = record["body"].as_str().unwrap();
        assert!(places.insert((stream.to_owned(), seq)), "{stream} {seq} is stored twice (seed {seed})");
        assert!(bodies.insert(body.to_owned()), "{body:?} is stored twice (seed {seed})");
        if let Some(told) = acknowledged.get(body) {
            assert_eq!((stream, seq), (told.0.as_str(), told.1), "{body:?} moved (seed {seed})");
        }
    }
    let chains = site.center.admin(&["log", "verify"]).unwrap();
    let broken = chains.to_string().contains("\"unbroken\":false");
    assert!(!broken, "a chain is broken (seed {seed}): {chains}");
    println!("{} acknowledged, {} stored", acknowledged.len(), stored.len());
}

/// All records of one event at the center.
fn records(site: &Site, event: &str) -> lab::Result<Vec<serde_json::Value>> {
    let arguments = ["log", "list", "--edge", &site.edge_id, "--event", event, "--limit", "1000000"];
    let list = site.center.admin(&arguments)?;
    Ok(field(&list, "records").and_then(serde_json::Value::as_array).cloned().unwrap_or_default())
}
