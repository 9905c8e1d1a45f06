//! What happens by the clock alone: lists made again before nextUpdate, the server leaf renewed.

use crate::fixture::Center;
use serde_json::json;
use std::time::{Duration, Instant};
use verona_contract::base64::{decode, encode};
use verona_contract::csr::DeviceKey;

#[test]
fn lists_are_made_again_before_their_end() {
    let center = Center::start_with(&["--crl-life", "6"]);
    let owner = center.owner("A", "10.8.0.0/24");
    let (_, tls, _) = center.enrolled_edge(&owner, "S-1");
    let lists = center.ok(&["crl", "list"]);
    let issuer = lists[0]["issuer"].as_str().unwrap();
    let path = format!("/v1/crl/{issuer}");
    for number in 1..=2 {
        let fields = format!("If-None-Match: \"{number}\"\r\nPrefer: wait=20");
        let answer = center.call(Some(&tls), "GET", &path, &fields, |_| Vec::new());
        assert_eq!((answer.status, answer.field("etag")), (200, Some(format!("\"{}\"", number + 1))));
        let lists = center.ok(&["crl", "list"]);
        let list = lists.as_array().unwrap().iter().find(|list| list["issuer"] == issuer).unwrap();
        let time = |name: &str| list[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!(time("next_update").duration_since(time("this_update")).as_secs(), 6);
        // The one before ended 6 s after it was made; this one is here by then.
        assert!(time("next_update") > jiff::Timestamp::now());
    }
}

#[test]
fn a_list_that_cannot_be_made_holds_up_no_other() {
    let center = Center::start_with(&["--crl-life", "6"]);
    let owner = center.owner("A", "10.8.0.0/24");
    let (_, tls, _) = center.enrolled_edge(&owner, "S-1");
    let lists = center.ok(&["crl", "list"]);
    let mut issuers: Vec<&str> =
        lists.as_array().unwrap().iter().map(|list| list["issuer"].as_str().unwrap()).collect();
    // Lists are made in this order. The signer refuses the first: it never issued such a certificate.
    issuers.sort_unstable();
    let database = rusqlite::Connection::open(center.path("c/web/center.db")).unwrap();
    let sql = "INSERT INTO certificate(issuer, serial, subject, use, der, not_after_s, status, since_s)
        VALUES (?1, '40beef', 'x', 'tunnel', x'00', 9999999999, 'hold', 0)";
    assert_eq!(database.execute(sql, [issuers[0]]).unwrap(), 1);
    let poll = |issuer: &str, number: u64| {
        let fields = format!("If-None-Match: \"{number}\"\r\nPrefer: wait=9");
        center.call(Some(&tls), "GET", &format!("/v1/crl/{issuer}"), &fields, |_| Vec::new())
    };
    let newest = poll(issuers[0], 0).field("etag").unwrap().trim_matches('"').parse().unwrap();
    assert_eq!(poll(issuers[1], 1).status, 200);
    assert_eq!(poll(issuers[1], 2).status, 200);
    assert_eq!(poll(issuers[0], newest).status, 304, "nothing newer of the refused one");
    let log = std::fs::read_to_string(center.path("serve.log")).unwrap();
    assert!(log.contains("this CA issued no certificate with serial number 40beef"), "{log}");
}

#[test]
fn the_server_leaf_is_renewed_while_it_serves() {
    // A leaf of 160 s begins 300 s in the past, so it is due 6 s after it was issued.
    let mut center = Center::start_with(&["--server-life", "160"]);
    let key = std::fs::read_to_string(center.path("c/web/tls.pem")).unwrap();
    let csr = DeviceKey::from_pem(&key).unwrap().request("center", None).unwrap();
    let answer = center.ask_signer(&json!({"server-leaf": {"csr": encode(csr)}}));
    let first = decode(answer["Ok"]["certificate"].as_str().unwrap()).unwrap();
    let path = center.path("c/web/tls.der");
    std::fs::write(&path, &first).unwrap();
    center.restart_server();
    let shown = || center.connect(None).conn.peer_certificates().unwrap()[0].to_vec();
    assert_eq!(shown(), first);
    let mut old = center.connect(None);
    let deadline = Instant::now() + Duration::from_secs(30);
    while shown() == first {
        assert!(Instant::now() < deadline, "still the first leaf");
        std::thread::sleep(Duration::from_millis(200));
    }
    // A restart finds the new one, and a connection under the old one lives on.
    assert_ne!(std::fs::read(&path).unwrap(), first);
    use std::io::{BufRead as _, BufReader, Write as _};
    old.write_all(b"GET /nothing HTTP/1.1\r\nHost: c\r\n\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(old).read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 404"), "{line}");
}
