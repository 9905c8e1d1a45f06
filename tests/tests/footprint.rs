//! What the box's two daemons take: memory while nothing happens, and processor time for its records.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::{Process, Run, alone, wait};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use verona_tests::site::{PATIENCE, Site};

/// kB that both may take together in the dev profile, whose programs are larger; the figure of the release is in
/// `tests/benches/README.md`.
const IDLE_KB: u64 = 32 * 1024;

/// Connections that records come by, and records a second altogether.
const WRITERS: u32 = 8;
const RATE: u32 = 5000;

/// A field of `smaps_rollup`, kB.
fn kilobytes(process: &Process, field: &str) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", process.pid());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processor time so far (proc_pid_stat(5), fields 14 and 15).
fn cpu(process: &Process) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    let (_, after) = text.rsplit_once(") ").unwrap();
    let ticks: u64 = after.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // USER_HZ is 100 on every architecture of ours.
    Duration::from_millis(ticks * 10)
}

#[test]
fn both_daemons_are_small_while_nothing_happens() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &["alice"]);
    let _alice = site.connect("alice");
    let of = |process: &Process| {
        let [pss, anonymous] = ["Pss", "Anonymous"].map(|field| kilobytes(process, field));
        println!("{}: {pss} kB with its share of files, {anonymous} kB of its own", process.name());
        pss
    };
    let both = of(&site.edge.agent) + of(&site.edge.tunnel);
    assert!(both < IDLE_KB, "{both} kB");
}

/// Appends `count` records on one connection, `rate` a second, and waits for each answer in its turn.
fn write_records(socket: &std::path::Path, count: u32, rate: u32) {
    let stream = UnixStream::connect(socket).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut stream = stream;
    let begin = Instant::now();
    for number in 0..count {
        let due = begin + Duration::from_secs(1) * number / rate;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let draft = json!({ "stream": "flow", "event": "flow.opened", "body": "10.8.0.7:53211 to 192.168.77.10:443",
            "attributes": { "client": "0190a6f1-7f1c-7bb2-a5c1-1b2f5a4d9e01", "protocol": "tcp" } });
        writeln!(stream, "{}", json!({ "append-log": draft })).unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(answer.contains("Ok"), "{answer}");
    }
}

/// Has the agent take `seconds` of records; returns the rate that it took them at, and its share of one processor.
fn load(site: &Site, seconds: u32) -> (f64, f64) {
    let socket = site.edge.agent_socket();
    let (begin, used) = (Instant::now(), cpu(&site.edge.agent));
    std::thread::scope(|threads| {
        for _ in 0..WRITERS {
            threads.spawn(|| write_records(&socket, RATE / WRITERS * seconds, RATE / WRITERS));
        }
    });
    let took = begin.elapsed().as_secs_f64();
    let used = (cpu(&site.edge.agent) - used).as_secs_f64();
    (f64::from(RATE * seconds) / took, used / took)
}

fn sent(site: &Site) -> bool {
    let status = site.edge.edgectl(&["status"]).unwrap();
    let flow = &status["spool"]["streams"]["flow"];
    flow["last_seq"].as_u64().is_some() && flow["last_seq"] == flow["sent_seq"]
}

#[test]
#[ignore = "full run: a figure of a quiet machine"]
fn five_thousand_records_a_second() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &[]);
    let (rate, share) = load(&site, 20);
    println!("{rate:.0} records a second taken, {:.1} % of one processor", share * 100.0);
    let begin = Instant::now();
    wait::until("everything at the center", PATIENCE * 4, || sent(&site)).unwrap();
    println!("the last one at the center {:.1} s later", begin.elapsed().as_secs_f64());
}
