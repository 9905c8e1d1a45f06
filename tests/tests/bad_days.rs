//! Processes that die, a center that is gone, a center that was restored from an old backup.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use lab::parts::field;
use lab::{Run, alone, wait, web};
use std::time::Duration;
use verona_tests::site::{PATIENCE, SERVER, Site};

#[test]
fn edge_tunnel_killed_and_traffic_is_back_within_three_seconds() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice"]);
    let alice = site.connect("alice");
    let flow = site.flow(&alice);

    site.edge.tunnel.crash().unwrap();
    let before = flow.balance().arrivals.count;
    site.edge.tunnel_again().unwrap();

    wait::until("traffic again", PATIENCE, || flow.balance().arrivals.count > before + 20).unwrap();
    let balance = flow.finish(Duration::from_secs(1));
    let gap = balance.arrivals.longest_gap;
    assert!(gap <= Duration::from_secs(3), "nothing arrived for {gap:?}");
    println!("gap {gap:?}, {} of {} lost", balance.lost(), balance.sent);
}

#[test]
fn edge_agent_killed_and_no_packet_is_lost() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice"]);
    let alice = site.connect("alice");
    let flow = site.flow(&alice);

    for _ in 0..3 {
        site.edge.agent.crash().unwrap();
        let without = flow.balance().arrivals.count;
        wait::until("traffic without an agent", PATIENCE, || flow.balance().arrivals.count > without + 100)
            .unwrap();
        site.edge.agent_again().unwrap();
        let with = flow.balance().arrivals.count;
        wait::until("traffic with a new agent", PATIENCE, || flow.balance().arrivals.count > with + 200)
            .unwrap();
    }

    let balance = flow.finish(Duration::from_secs(2));
    assert_eq!(balance.lost(), 0, "{balance:?}");
}

#[test]
fn center_gone_and_the_edge_boots_from_disk_and_admits() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice", "carol"]);
    let mut alice = site.enrol("alice", false);
    let mut carol = site.enrol("carol", false);
    site.center.admin(&["client", "disable", &carol.id]).unwrap();
    site.center.proof(&carol.id, PATIENCE).unwrap();

    site.center.serving.crash().unwrap();
    site.center.signer.crash().unwrap();
    site.edge.tunnel.crash().unwrap();
    site.edge.agent.crash().unwrap();
    site.edge.tunnel_again().unwrap();
    site.edge.agent_again().unwrap();

    alice.verona.up().unwrap();
    carol.verona.up().unwrap();
    web::fetch_soon(alice.verona.place(), SERVER, PATIENCE).unwrap();
    // The list from before goes on to count.
    wait::for_value("carol's refusal", PATIENCE, || {
        Ok(Some(site.edge.refused("revoked")?).filter(|count| *count > 0))
    })
    .unwrap();
    assert!(web::fetch(carol.verona.place(), SERVER).is_err());
}

#[test]
fn a_center_restored_from_an_old_backup_neither_rolls_back_nor_revives() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice", "bob"]);
    let alice = site.connect("alice");
    let (web, backup) = (site.center.data().join("web"), run.dir().join("backup"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let _ = std::fs::remove_dir_all(to);
        site.net.center.output("cp", &["-a", &from.to_string_lossy(), &to.to_string_lossy()]).unwrap();
    };
    site.center.serving.stop();
    copy(&web, &backup);
    site.center.serve_again().unwrap();

    // What the backup does not know: a pushed client (a new configuration), a disabled one (a new list).
    let before = site.center.confirmed(&site.edge_id, 1, PATIENCE).unwrap();
    let _bob = site.enrol("bob", true);
    let seq = site.center.confirmed(&site.edge_id, before + 1, PATIENCE).unwrap();
    site.center.admin(&["client", "disable", &alice.id]).unwrap();
    let proof = site.center.proof(&alice.id, PATIENCE).unwrap();
    let number = field(&proof, "crl_number").unwrap().as_u64().unwrap();
    assert!(web::fetch(alice.verona.place(), SERVER).is_err());

    site.center.serving.stop();
    copy(&backup, &web);
    site.center.serve_again().unwrap();

    for (event, what) in [("crl.refused", "the old list"), ("config.refused", "the old configuration")] {
        wait::for_value(&format!("an alarm about {what}"), PATIENCE, || {
            let logs = site.edge.edgectl(&["logs"])?.to_string();
            Ok(logs.contains(event).then_some(()))
        })
        .unwrap();
    }
    let lists = site.edge.edgectl(&["crl"]).unwrap().to_string();
    assert!(lists.contains(&format!("\"number\":{number}")), "list {number} is no longer in force: {lists}");
    let config = site.edge.edgectl(&["config"]).unwrap();
    assert_eq!(field(&config, "seq").and_then(serde_json::Value::as_u64), Some(seq), "{config}");
    assert!(web::fetch(alice.verona.place(), SERVER).is_err(), "a disabled client came back");
}

#[test]
fn an_edge_that_was_offline_cuts_and_reports_when_it_is_back() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &["alice"]);
    let alice = site.connect("alice");
    let show = || site.center.admin(&["client", "show", &alice.id]).unwrap();

    site.net.internet.ip("link set center down").unwrap();
    site.center.admin(&["client", "disable", &alice.id]).unwrap();
    let shown = show();
    let edge = &shown["edges"][0];
    assert_eq!(edge["edge"], site.edge_id.as_str());
    assert_eq!(edge["confirmed_after_ms"], serde_json::Value::Null, "nobody can have told: {edge}");
    assert_eq!(edge["waiting_since"], shown["change"]["changed_at"], "{edge}");
    assert!(edge["last_seen"].is_string(), "{edge}");
    web::fetch(alice.verona.place(), SERVER).unwrap();

    site.net.internet.ip("link set center up").unwrap();
    let proof = site.center.proof(&alice.id, PATIENCE).unwrap();
    let edge = &proof["edges"][0];
    assert_eq!((edge["cut"].as_bool(), edge["sessions_cut"].as_u64()), (Some(true), Some(1)), "{edge}");
    assert_eq!(edge["waiting_since"], serde_json::Value::Null, "{edge}");
    assert!(web::fetch(alice.verona.place(), SERVER).is_err());
}

#[test]
fn every_bad_day_names_tests_that_exist() {
    let root = lab::workspace::root();
    let mut tests = std::collections::BTreeSet::new();
    let mut folders =
        ["center", "client", "edge-agent", "tunnel", "tests"].map(|name| root.join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let lines = text.lines().map(str::trim);
                // Those of a full run count as well.
                let lines: Vec<&str> = lines.filter(|line| !line.starts_with("#[ignore")).collect();
                let named = lines
                    .windows(2)
                    .filter(|pair| pair[0] == "#[test]" || pair[0].starts_with("#[tokio::test"));
                tests.extend(named.filter_map(|pair| {
                    let name = pair[1].trim_start_matches("async ").strip_prefix("fn ")?;
                    Some(name.split('(').next()?.to_owned())
                }));
            }
        }
    }
    let table = std::fs::read_to_string(root.join("tests/README.md")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for row in rows {
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
        assert!(!named.is_empty() || cell.trim().starts_with('–'), "{row}: neither a test nor a reason");
        for name in named {
            assert!(tests.contains(name), "{name} is named in the table and does not exist");
        }
    }
}
