//! A box whose disk fails or crawls: what it has in memory goes on, it says so, and nothing acknowledged is harmed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::parts::field;
use lab::{Run, alone, wait, web};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use verona_tests::site::{PATIENCE, SERVER, Site};

/// How long the slow disk takes for what must last.
const CRAWL: &str = "delay_enter=2s";

fn append(site: &Site, body: &str) -> lab::Result<u64> {
    let answer = site.edge.edgectl(&["logs", "append", "--stream", "audit", "--event", "test.disk", body])?;
    Ok(field(&answer, "seq").and_then(Value::as_u64).unwrap())
}

/// The bodies of this test's records at the center.
fn at_center(site: &Site) -> Vec<String> {
    let arguments = ["log", "list", "--edge", &site.edge_id, "--event", "test.disk", "--limit", "100000"];
    let list = site.center.admin(&arguments).unwrap();
    let records = field(&list, "records").and_then(Value::as_array).cloned().unwrap_or_default();
    records.iter().map(|record| record["body"].as_str().unwrap().to_owned()).collect()
}

fn condition(site: &Site, code: &str) -> Option<String> {
    let status = site.edge.edgectl(&["status"]).unwrap();
    let conditions = status["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|condition| condition["code"] == code)?;
    Some(found["detail"].as_str().unwrap().to_owned())
}

#[test]
fn a_disk_that_turns_read_only_stops_neither_traffic_nor_a_cut() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let disk = run.mount_disk(&run.dir().join("edge"), 96 << 20).unwrap();
    let mut site = Site::start(&run, &["alice", "bob"]);
    let (alice, bob) = (site.connect("alice"), site.connect("bob"));
    append(&site, "before").unwrap();
    let flow = site.flow(&alice);

    disk.fail().unwrap();
    let refused = append(&site, "while").unwrap_err().to_string();
    assert!(refused.contains("Read-only file system"), "{refused}");
    wait::until("the condition", PATIENCE, || condition(&site, "storage-failed").is_some()).unwrap();
    site.center.admin(&["client", "disable", &bob.id]).unwrap();
    wait::until("bob to be out", PATIENCE, || web::fetch(bob.verona.place(), SERVER).is_err()).unwrap();
    // The center hears of it although the list could not be kept.
    let proof = site.center.proof(&bob.id, PATIENCE).unwrap();
    assert_eq!(proof["edges"][0]["cut"], Value::Bool(true), "{proof}");
    assert_eq!(flow.finish(Duration::from_secs(1)).lost(), 0);

    // The box is started again, with its file system repaired.
    site.edge.agent.crash().unwrap();
    site.edge.tunnel.crash().unwrap();
    disk.repair().unwrap();
    site.edge.tunnel_again().unwrap();
    site.edge.agent_again().unwrap();
    web::fetch_soon(alice.verona.place(), SERVER, PATIENCE).unwrap();
    wait::until("bob to be refused", PATIENCE, || site.edge.refused("revoked").is_ok_and(|count| count > 0))
        .unwrap();
    append(&site, "after").unwrap();
    assert_eq!(condition(&site, "storage-failed"), None);
    wait::until("the records", PATIENCE, || at_center(&site).contains(&"after".to_owned())).unwrap();
    assert_eq!(at_center(&site), ["before", "after"]);
    let chains = site.center.admin(&["log", "verify"]).unwrap();
    assert!(!chains.to_string().contains("\"unbroken\":false"), "{chains}");
}

#[test]
fn a_disk_that_crawls_delays_records_and_nothing_else() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &["alice", "bob"]);
    let (alice, bob) = (site.connect("alice"), site.connect("bob"));
    let flow = site.flow(&alice);

    let mut crawl = std::process::Command::new("strace");
    let calls = "fsync,fdatasync";
    crawl.args(["-f", "-qq", "-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{CRAWL}")]);
    crawl.args(["-o", "/dev/null", "-p", &site.edge.agent.pid().to_string()]);
    let _crawl = run.start_process("strace", crawl).unwrap();
    let tracer = |field: &str| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", site.edge.agent.pid())).unwrap();
        status.lines().any(|line| line.starts_with(field) && !line.ends_with("\t0"))
    };
    wait::until("strace", PATIENCE, || tracer("TracerPid:")).unwrap();
    std::thread::scope(|threads| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let site = &site;
                threads.spawn(move || append(site, &format!("slow {writer}")).unwrap())
            })
            .collect();
        site.edge.check("live").unwrap();
        site.center.admin(&["client", "disable", &bob.id]).unwrap();
        wait::until("bob to be out", PATIENCE, || web::fetch(bob.verona.place(), SERVER).is_err()).unwrap();
        let seqs: BTreeSet<u64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        assert_eq!(seqs.len(), 4);
    });
    site.center.proof(&bob.id, PATIENCE * 2).unwrap();
    assert_eq!(flow.finish(Duration::from_secs(1)).lost(), 0);
    wait::until("the records", PATIENCE * 2, || at_center(&site).len() == 4).unwrap();
}
