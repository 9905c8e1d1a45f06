//! Records to a customer's collector: a real rsyslog, with its outages, beside the center.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::parts::field;
use lab::{Run, alone, wait};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use verona_contract::base64;
use verona_tests::collector::Collector;
use verona_tests::site::{PATIENCE, Site};

/// The center's place, which is also the collector's.
const AT: &str = "198.51.100.10";

/// What would end a line, an element or a message, if it came through.
const ODD: &str = "odd \"] \\ [x@1 a=\"b\"]\n<0>1 forged\r";

fn set(site: &Site, ca: &[u8], streams: &[&str]) {
    let file = site.edge.place().run().dir().join("logs.json");
    let logs = json!({ "syslog": { "host": AT, "ca": [base64::encode(ca)], "streams": streams } });
    std::fs::write(&file, logs.to_string()).unwrap();
    site.center.admin(&["edge", "logs", &site.edge_id, "--set", file.to_str().unwrap()]).unwrap();
}

fn append(site: &Site, stream: &str, body: &str) -> u64 {
    let answer =
        site.edge.edgectl(&["logs", "append", "--stream", stream, "--event", "test.syslog", body]).unwrap();
    field(&answer, "seq").and_then(Value::as_u64).unwrap()
}

/// The numbers of the records at the center, with their bodies.
fn at_center(site: &Site, stream: &str) -> BTreeMap<u64, String> {
    let arguments = ["log", "list", "--edge", &site.edge_id, "--stream", stream, "--limit", "100000"];
    let list = site.center.admin(&arguments).unwrap();
    let records = field(&list, "records").and_then(Value::as_array).cloned().unwrap_or_default();
    let entry =
        |record: &Value| (record["seq"].as_u64().unwrap(), record["body"].as_str().unwrap().to_owned());
    records.iter().map(entry).collect()
}

/// The same at the collector.
fn at_collector(collector: &Collector, stream: &str) -> BTreeMap<u64, String> {
    let mark = format!(" stream=\"{stream}\" seq=\"");
    let entry = |message: Value| {
        let data = message["structured-data"].as_str()?;
        let (_, rest) = data.split_once(&mark)?;
        let seq = rest.split('"').next()?.parse().ok()?;
        let text = message["msg"].as_str()?.trim_start_matches('\u{feff}').to_owned();
        Some((seq, text))
    };
    collector.messages().into_iter().filter_map(entry).collect()
}

fn one_line(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}

/// Everything that the center has of `stream` from `from` on is at the collector as well.
fn complete(site: &Site, collector: &Collector, stream: &str, from: u64) -> bool {
    let told = at_collector(collector, stream);
    let mut center = at_center(site, stream);
    center.retain(|seq, _| *seq >= from);
    !center.is_empty() && center.iter().all(|(seq, body)| told.get(seq) == Some(&one_line(body)))
}

fn condition(site: &Site) -> Option<String> {
    let status = site.edge.edgectl(&["status"]).unwrap();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["code"] == "syslog-unreachable")?;
    Some(found["detail"].as_str().unwrap().to_owned())
}

#[test]
fn a_collector_gets_every_record_in_spite_of_its_outages() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &[]);
    let mut collector = Collector::start(&site.net.center, AT.parse().unwrap());

    // A server of a stranger's gets nothing, and the box says why.
    let stranger = run.dir().join("stranger.der");
    let arguments =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj"];
    let mut arguments = arguments.to_vec();
    let key = run.dir().join("stranger.key");
    arguments.extend(["/CN=Stranger", "-keyout", key.to_str().unwrap(), "-outform", "DER"]);
    arguments.extend(["-out", stranger.to_str().unwrap()]);
    site.net.center.output("openssl", &arguments).unwrap();
    set(&site, &std::fs::read(stranger).unwrap(), &["audit", "system"]);
    wait::until("the condition", PATIENCE, || {
        condition(&site).is_some_and(|why| why.contains("certificate"))
    })
    .unwrap();
    assert!(at_collector(&collector, "audit").is_empty() && at_collector(&collector, "system").is_empty());

    set(&site, &collector.ca(), &["audit", "system"]);
    let first = append(&site, "audit", ODD);
    append(&site, "auth", "not for the collector");
    wait::until("the first records", PATIENCE, || complete(&site, &collector, "audit", first)).unwrap();
    wait::until("no condition", PATIENCE, || condition(&site).is_none()).unwrap();
    let message =
        collector.messages().into_iter().find(|message| message["msg"].as_str().unwrap().contains("odd"));
    let message = message.unwrap();
    assert_eq!(message["msgid"], "test.syslog");
    assert_eq!((&message["hostname"], &message["app-name"]), (&json!(site.edge_id), &json!("verona-edge")));
    assert_eq!(
        (&message["pri"], &message["protocol-version"]),
        (&json!("110"), &json!("1")),
        "log audit, info"
    );

    // While it is away the center goes on, and afterwards nothing is missing.
    collector.process.crash().unwrap();
    let bodies: Vec<String> = (0..50).map(|number| format!("while away {number}")).collect();
    let last = bodies.iter().map(|body| append(&site, "audit", body)).max().unwrap();
    wait::until("the center", PATIENCE, || at_center(&site, "audit").contains_key(&last)).unwrap();
    wait::until("the condition", PATIENCE, || condition(&site).is_some()).unwrap();
    collector.again();
    let all = || complete(&site, &collector, "audit", first) && complete(&site, &collector, "system", 1);
    wait::until("all records", PATIENCE * 3, all).unwrap();
    assert!(at_collector(&collector, "auth").is_empty(), "a stream that was not asked for");
    let gaps = collector.messages().into_iter().filter(|message| message["msgid"] == "syslog.gap").count();
    assert_eq!(gaps, 0);
    wait::until("no condition", PATIENCE, || condition(&site).is_none()).unwrap();
}
