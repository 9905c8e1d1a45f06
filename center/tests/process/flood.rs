//! One who takes all he can get, and the others who must not notice.

use crate::fixture::{Center, Tls, tool};
use crate::logs::{PROTOBUF, records, send};
use prost::Message as _;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use verona_contract::otlp::to_request;

/// A disable must be answered, and the edge's long-poll woken, within this: two TLS handshakes of the test,
/// on a machine that is busy with the flood and with other tests.
const BOUND: Duration = Duration::from_secs(3);

#[test]
fn a_disable_does_not_wait_for_a_flood_of_logs() {
    let center = Center::start();
    let owner = center.owner("A", "10.8.0.0/24");
    let (edge, tls, _) = center.enrolled_edge(&owner, "S-1");
    let (id, code) = center.client(&owner, "alice", &[]);
    let (_, enrolled) = center.enrolled_client(&code);
    let issuer = verona_contract::cert::Issuer::parse(&enrolled.issuer.0).unwrap().key_id;
    let edge = edge.parse().unwrap();
    let all = records(edge, 60_000);
    let requests: Vec<Vec<u8>> =
        all.chunks(2000).map(|chunk| to_request(edge, chunk).encode_to_vec()).collect();
    let (stop, next, stored) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let operator = center.operator();
    let list = format!("/v1/crl/{issuer}");
    std::thread::scope(|scope| {
        // As many at once as an edge may send.
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let request = &requests[next.fetch_add(1, Relaxed) % requests.len()];
                    let status = send(&center, &tls, PROTOBUF, request.clone()).status;
                    assert!(matches!(status, 200 | 503), "{status}");
                    stored.fetch_add(usize::from(status == 200), Relaxed);
                }
            });
        }
        for round in 1..=6_u64 {
            let fields = format!("If-None-Match: \"{round}\"\r\nPrefer: wait=30");
            let (center, tls, list) = (&center, &tls, &list);
            let poll = scope.spawn(move || {
                let answer = center.call(Some(tls), "GET", list, &fields, |_| Vec::new());
                (answer, Instant::now())
            });
            std::thread::sleep(Duration::from_millis(500));
            let before = stored.load(Relaxed);
            let verb = if round % 2 == 1 { "disable" } else { "enable" };
            let clicked = Instant::now();
            let path = format!("/v1/admin/clients/{id}/{verb}");
            let changed = center.post(Some(&operator), &path, &json!({}));
            let answered = clicked.elapsed();
            let (woken, at) = poll.join().unwrap();
            let woke = at.duration_since(clicked);
            println!("{verb}: answered {answered:?}, long-poll woken {woke:?}, {before} requests stored");
            stop.store(round == 6 || answered > BOUND || woke > BOUND, Relaxed);
            assert_eq!((changed.status, &changed.json()["crl_number"]), (200, &json!(round + 1)));
            assert_eq!((woken.status, woken.field("etag")), (200, Some(format!("\"{}\"", round + 1))));
            assert!(answered < BOUND && woke < BOUND, "answered {answered:?}, woken {woke:?}");
        }
    });
    assert!(stored.load(Relaxed) > 10, "it was a flood: {stored:?}");
}

/// Begins a log request and sends no body.
fn stalled(center: &Center, tls: &Tls) -> impl Sized {
    let mut stream = center.connect(Some(tls));
    let head = format!("POST /v1/logs HTTP/1.1\r\nHost: c\r\n{PROTOBUF}\r\nContent-Length: 1000\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.flush().unwrap();
    stream
}

#[test]
fn an_edge_that_stalls_holds_up_no_other() {
    let center = Center::start();
    let (a, b) = (center.owner("A", "10.8.0.0/24"), center.owner("B", "10.8.0.0/24"));
    let (edge, slow, _) = center.enrolled_edge(&a, "S-A");
    let (other, tls, _) = center.enrolled_edge(&b, "S-B");
    let _held: Vec<_> = (0..6).map(|_| stalled(&center, &slow)).collect();
    std::thread::sleep(Duration::from_millis(500));
    let body = |edge: &str| {
        let edge = edge.parse().unwrap();
        to_request(edge, &records(edge, 1)).encode_to_vec()
    };
    let asked = Instant::now();
    assert_eq!(send(&center, &tls, PROTOBUF, body(&other)).status, 200);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    let refused = send(&center, &slow, PROTOBUF, body(&edge));
    assert_eq!((refused.status, refused.field("retry-after").as_deref()), (429, Some("1")));
    assert_eq!(refused.problem(), "an edge may send 2 log requests at once");
}

/// Connections that say nothing.
fn idle(center: &Center, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(("127.0.0.1", center.port)).unwrap()).collect()
}

/// Asks from another address of this machine, and waits 5 s at most.
fn asks_from_elsewhere(center: &Center) -> String {
    let url = format!("https://127.0.0.1:{}/nothing", center.port);
    let arguments = ["-sk", "--interface", "127.0.0.2", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"];
    tool("curl", &[&arguments[..], &[&url]].concat()).1
}

#[test]
fn a_source_takes_its_share_of_connections_and_handshakes() {
    let center = Center::start();
    let held = idle(&center, 512);
    // The last ones of a flood: the ones before are accepted by now, in order.
    let mut more = idle(&center, 1).remove(0);
    more.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(matches!(more.read(&mut [0]), Ok(0)), "the 513th connection stays open");
    assert_eq!(asks_from_elsewhere(&center), "404");
    drop(held);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(center.get(None, "/nothing").status, 404, "its places are free again");
}
